/** What agents tell of themselves, in a mark and words: those of `claude-loop tail` (claude_loop/cli/lines.py). */

import { spent } from "../lib/amounts";
import { precise } from "../lib/time";
import { plural } from "../lib/words";
import type { MarkName, Said, Tone } from "./describe";
import { visible } from "./visible";

type Data = Record<string, unknown>;
const words = (mark: MarkName, text: string, tone: Tone = "plain"): Said => ({ mark, text, tone });
const known = (data: Data, key: string, before: string, most = 160) => (data[key] ? before + visible(data[key], most) : "");

const tool = (mark: MarkName, tone: Tone, start = "") => (data: Data) => {
  const took = data["duration_ms"];
  const time = typeof took === "number" && took >= 1000 ? ` · ${precise(took)}` : "";
  const what = [data["tool"], data["summary"]].filter(Boolean).map((each) => visible(each, 160)).join(" ");
  return words(mark, `${what || "a tool"}${start}${time}${known(data, "error", ": ")}`, tone);
};

const subagent = (text: string) => (data: Data) =>
  words("plain", `${visible(data["agent_type"] || "a subagent", 40)} ${text}${known(data, "description", ": ")}`);

function retrying(data: Data): Said {
  const most = Number.isInteger(data["max_attempts"]) ? ` of ${data["max_attempts"]}` : "";
  const attempt = Number.isInteger(data["attempt"]) ? `, attempt ${data["attempt"]}${most}` : "";
  return words("turn", `tries again after ${visible(data["error"] ?? "an error", 160)}${attempt}`, "stalled");
}

function plan(data: Data): Said {
  const stories: unknown[] = Array.isArray(data["stories"]) ? data["stories"] : [];
  const done = stories.filter((story) => (story as Data | null)?.["passes"] === true).length;
  return words("story", `plan: ${plural(stories.length, "story", "stories")}${done ? `, ${done} done` : ""}`, "running");
}

function usage(data: Data): Said {
  const model = data["model"] ? ` (${visible(data["model"], 60)})` : "";
  const total = data["cumulative"] === true ? " by its session so far" : "";
  return words("plain", `used ${spent(data).join(", ") || "an unreadable amount"}${total}${model}`);
}

export const OF_AGENTS: Record<string, (data: Data) => Said> = {
  "session.started": (data) =>
    words("begin", `${visible(data["agent"] || "an agent", 40)}${data["model"] ? ` (${visible(data["model"], 60)})` : ""} begins a session`, "running"),
  "agent.retrying": retrying,
  "tool.started": tool("plain", "plain", " …"),
  "tool.completed": tool("plain", "plain"),
  "tool.failed": tool("bad", "bad"),
  "subagent.started": subagent("begins"),
  "subagent.ended": subagent("has ended"),
  "plan.updated": plan,
  "usage.reported": usage,
};
