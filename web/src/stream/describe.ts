/** One event in a mark and words: those of `claude-loop tail` (claude_loop/cli/lines.py, outcomes.py). */

import type { EventJson, RunDocument, StoryDocument } from "../lib/documents";
import { EVENT_WORDS } from "../lib/event_words";
import { clock } from "../lib/time";
import { plural } from "../lib/words";
import { OF_AGENTS } from "./agents";
import { visible } from "./visible";

export type MarkName =
  | "begin" | "story" | "good" | "bad" | "claimed" | "commit" | "wait" | "end" | "blocked" | "error" | "turn" | "plain" | "gone";
export type Tone = "running" | "good" | "bad" | "waiting" | "stalled" | "blocked" | "plain";

export interface Said {
  mark: MarkName;
  text: string;
  tone: Tone;
}

/** What the read model knows, where a claim needs it. */
export interface Lookup {
  story(event: EventJson): StoryDocument | undefined;
  run(event: EventJson): RunDocument | undefined;
}

const INVALID = "_invalid";
const FORGOTTEN = "_forgotten"; // all that is left of an event's data once its PRD has been forgotten
type Data = Record<string, unknown>;
const say = (mark: MarkName, text: string, tone: Tone = "plain"): Said => ({ mark, text, tone });
const isCount = (value: unknown): value is number => Number.isInteger(value);

export function describe(event: EventJson, lookup: Lookup): Said {
  const data: Data = typeof event.data === "object" && event.data !== null ? event.data : {};
  const said = described(event, data, lookup);
  const fault = faultOf(data[INVALID]);
  if (!fault) return said;
  return { ...said, text: `${said.text} · not valid: ${fault}`, tone: said.tone === "plain" ? "waiting" : said.tone };
}

/** Why the spool marked the event, for whoever writes the script that emits it. */
function faultOf(reasons: unknown): string {
  if (!Array.isArray(reasons) || !reasons.length) return "";
  return visible(reasons[0], 120).replace(/\.$/, "") + (reasons.length > 1 ? ` and ${reasons.length - 1} more` : "");
}

function described(event: EventJson, data: Data, lookup: Lookup): Said {
  if (data[FORGOTTEN] === true && Object.keys(data).length === 1) return say("plain", `${event.type}, forgotten`);
  if (event.type === "story.completed") return storyCompleted(data, lookup.story(event));
  if (event.type === "prd.completed") return prdCompleted(data, lookup.run(event));
  return Object.hasOwn(KNOWN, event.type) ? KNOWN[event.type]!(data) : say("plain", free(event.type, data));
}

function simply(mark: MarkName, words: string, tone: Tone, field: string): (data: Data) => Said {
  return (data) => {
    const value = visible(data[field] ?? "", 300);
    return say(mark, value ? `${words}: ${value}` : words, tone);
  };
}

const iteration = (word: string) => (data: Data) => {
  const most = isCount(data["max_iterations"]) ? ` of ${data["max_iterations"]}` : "";
  return say("turn", `iteration ${visible(data["iteration"] ?? "?", 20)}${most}${word}`, "running");
};

/** Told in the same words as in the terminal. */
const TOLD: [string, (data: Data) => Said][] = Object.entries(EVENT_WORDS).map(([type, told]) => [
  type, simply(told.mark, told.words, told.tone, told.field),
]);

const KNOWN: Record<string, (data: Data) => Said> = {
  ...Object.fromEntries(TOLD),
  ...OF_AGENTS,
  "prd.started": (data) => {
    const stories = isCount(data["total_stories"]) ? plural(data["total_stories"], "story", "stories") : "";
    return say("begin", ["started", stories, visible(data["title"] ?? "", 80)].filter(Boolean).join(", "), "running");
  },
  "run.started": (data) => say("begin", `run started${data["command"] ? `: ${visible(data["command"], 120)}` : ""}`, "running"),
  "run.completed": (data) => {
    const { exit_code: code, success } = data;
    const failed = success === false || (success == null && isCount(code) && code !== 0);
    return say("end", `run ${failed ? "failed" : "ended"}${isCount(code) ? `, exit status ${code}` : ""}`, failed ? "bad" : "good");
  },
  "iteration.started": iteration(""),
  "iteration.completed": iteration(" completed"),
  "test.run": testRun,
  "commit.created": (data) =>
    say("commit", `commit ${shortHash(data["commit_hash"] ?? "?")} ${visible(data["subject"] ?? "", 100)}`.trimEnd()),
  "log.message": logMessage,
  "progress.updated": (data) =>
    say("plain", `${visible(data["current"] ?? "?", 20)} of ${visible(data["total"] ?? "?", 20)} ${visible(data["message"] ?? "", 200)}`.trimEnd()),
  "agent.waiting": waiting,
};

function testRun(data: Data): Said {
  const { passed, failed, skipped, failures } = data;
  const good = failed === 0 && isCount(passed) && passed > 0;
  if (!isCount(passed) || !isCount(failed)) return say("bad", "tests without a readable result", "bad");
  const counts = `${passed} passed${failed ? ` ${failed} failed` : ""}${isCount(skipped) && skipped ? ` ${skipped} skipped` : ""}`;
  const names = failingNames(failures);
  return say(good ? "good" : "bad", `tests ${counts}${names ? `: ${names}` : ""}`, good ? "good" : "bad");
}

function failingNames(failures: unknown, most = 5): string {
  if (!Array.isArray(failures)) return "";
  const named = failures.filter((each): each is { name: unknown } => typeof each === "object" && each !== null && "name" in each);
  const more = named.length > most ? ` and ${named.length - most} more` : "";
  return named.slice(0, most).map(({ name }) => visible(name, 80)).join(", ") + more;
}

function logMessage(data: Data): Said {
  const level = visible(data["level"] || "info", 10);
  const tone = { warn: "waiting", warning: "waiting", error: "bad", critical: "bad" }[level.toLowerCase()] as Tone | undefined;
  return say("plain", (level === "info" ? "" : `${level}: `) + visible(data["message"] ?? "", 300), tone);
}

function waiting(data: Data): Said {
  const whom = data["for"] === "human" ? "you" : data["for"] === "rate_limit" ? "the rate limit" : "something";
  const until = data["until"] ? `, until ${untilWords(data["until"])}` : "";
  return say("wait", `waiting for ${whom}: ${visible(data["reason"] ?? "", 200)}${until}`, "waiting");
}

function untilWords(value: unknown): string {
  const at = typeof value === "number" ? (value < 1e11 ? value * 1000 : value) : Date.parse(String(value));
  return Number.isNaN(at) ? visible(value, 40) : clock(at, Date.now());
}

function shortHash(commit: unknown): string {
  const text = visible(commit, 80);
  return /^[0-9a-f]{40}([0-9a-f]{24})?$/.test(text) ? text.slice(0, 7) : visible(text, 12);
}

function free(type: string, data: Data, most = 6): string {
  const pairs = Object.entries(data).filter(([key]) => key !== INVALID);
  const shown = pairs.slice(0, most).map(([key, value]) => `${visible(key, 40)}=${valueWords(value)}`);
  return [visible(type, 60), ...shown, ...(pairs.length > most ? ["…"] : [])].join(" ");
}

function valueWords(value: unknown): string {
  return visible(typeof value === "string" ? value : JSON.stringify(value), 60);
}

/** `8s`, `10m07s`, `4h12m`, `3d4h`. */
function duration(ms: number): string {
  const two = (number: number) => String(number).padStart(2, "0");
  const seconds = Math.floor(ms / 1000); // as cards and stories count them
  const [minutes, hours] = [Math.floor(seconds / 60), Math.floor(seconds / 3600)];
  if (seconds < 60) return `${seconds}s`;
  if (minutes < 60) return `${minutes}m${two(seconds % 60)}s`;
  return hours < 24 ? `${hours}h${two(minutes % 60)}m` : `${Math.floor(hours / 24)}d${hours % 24}h`;
}

function storyCompleted(data: Data, story: StoryDocument | undefined): Said {
  if (data["success"] === false) return say("bad", "failed", "bad");
  if (!story?.state.startsWith("done")) return say("claimed", "says it is done", "waiting");
  const details = [proof(story)];
  if (story.worked_ms) details.push(duration(story.worked_ms));
  if (story.attempt > 1) details.push(plural(story.attempt, "attempt"));
  const verified = story.state === "done·verified";
  return say(verified ? "good" : "claimed", details.join(" · "), verified ? "good" : "waiting");
}

function prdCompleted(data: Data, run: RunDocument | undefined): Said {
  const failed = (why: readonly string[]) =>
    say("end", ["finished without success", ...why.map((each) => visible(each, 120)), ...extent(run)].join(" · "), "bad");
  if (data["success"] === false) return failed([]);
  if (run === undefined || run.finished_at === null) return say("end", "says it is finished", "waiting");
  if (run.state === "failed") return failed(run.why);
  return say("end", [proof(run), ...extent(run)].join(" · "), run.state === "done·verified" ? "good" : "waiting");
}

function proof({ state, why }: { state: string; why: readonly string[] }): string {
  if (state === "done·verified") return "done, verified";
  return ["done, claimed", why.map((each) => visible(each, 120)).join("; ")].filter(Boolean).join(": ");
}

function extent(run: RunDocument | undefined): string[] {
  if (run === undefined) return [];
  const done = run.counts.verified + run.counts.claimed;
  const stories = Math.max(run.total_stories ?? 0, run.stories);
  const words = stories ? [(done === stories ? "" : `${done} of `) + plural(stories, "story", "stories") + (done === stories ? "" : " done")] : [];
  return run.finished_at === null ? words : [...words, duration(run.finished_at - run.started_at)];
}
