/** A run and its stories in words. The states themselves are the reducer's. */

import type { Counts, RunDocument, TestSummary, Waiting } from "./documents";
import { isOver } from "./over";
import { ago, clock, spoken } from "./time";

/** What a card says of its run in one sentence. */
export function stateWords(run: RunDocument, now: number): string {
  if (isOver(run) && run.finished_at === null && run.vanished_at === null) return "Never finished: a later run began";
  const why = run.why.join("; ");
  switch (run.state) {
    case "waiting":
      return run.waiting ? waitWords(run.waiting, now) : "Waiting";
    case "paused":
      return `Paused${run.paused ? ` ${spoken(now - run.paused.since)}` : ""}${run.paused?.reason ? `: ${run.paused.reason}` : ""}`;
    case "stalled":
      return `Silent for ${spoken(now - run.last.at)}, last: ${run.last.type}`;
    case "vanished":
      return `Process gone since ${clock(run.vanished_at ?? run.last.at, now)} without finishing`;
    case "failed":
      return `Failed${run.finished_at ? ` ${ago(run.finished_at, now)}` : ""}${why ? `: ${why}` : ""}`;
    case "done·claimed":
      return `Says done; ${why || "nothing proves it"}`;
    case "done·verified":
      return `Done and verified${run.finished_at ? ` ${ago(run.finished_at, now)}` : ""}`;
    case "running":
      return heldUp(run, now) ?? `Running, last: ${run.last.type} ${ago(run.last.at, now)}`;
  }
}

const LONG_CALL = 60_000;

/** What keeps the run's only agent from working, or at it for long, where nobody is asked for anything. */
function heldUp({ agents }: RunDocument, now: number): string | null {
  const agent = agents.length === 1 ? agents[0] : undefined;
  const call = agent?.call;
  if (call && now - call.since >= LONG_CALL) {
    return `Running, in ${call.tool} for ${spoken(now - call.since)}${call.summary ? `: ${call.summary}` : ""}`;
  }
  if (!agent?.doing || (agent.state !== "retrying" && agent.state !== "compacting")) return null;
  return `Running, ${agent.agent ?? "its agent"} is ${agent.doing} ${spoken(now - agent.since)}`;
}

export function waitWords(wait: Waiting, now: number): string {
  const reason = wait.reason ? `: ${wait.reason}` : "";
  const since = spoken(now - wait.since);
  if (wait.for === "rate_limit") {
    if (wait.until === null) return `Rate limited ${since}${reason}`;
    if (wait.overdue) return `Rate limit over since ${clock(wait.until, now)}, and nothing went on`;
    return `Rate limited until ${clock(wait.until, now)} (${spoken(wait.until - now)})`;
  }
  const whom = wait.for === "human" ? "Waiting for you" : "Waiting";
  return `${whom} ${since}${reason}${wait.overdue ? " (overdue)" : ""}`;
}

/** In the order of the bar. */
export const COUNTED: readonly (keyof Counts)[] = ["verified", "claimed", "failing", "blocked", "running", "todo"];

export const COUNT_WORDS: Record<keyof Counts, string> = {
  verified: "verified", claimed: "claimed", failing: "failing", blocked: "blocked", running: "running", todo: "to do",
};

export function countWords(counts: Counts): string {
  const said = COUNTED.filter((each) => counts[each]).map((each) => `${counts[each]} ${COUNT_WORDS[each]}`);
  return said.join(" · ") || "no stories yet";
}

/** `10 ✓ 2 ✗ test_coupon`. */
export function testWords(test: TestSummary): string {
  return [countsOf(test), failingWords(test)].filter(Boolean).join(" ");
}

/** Without names. */
export const countsOf = ({ passed, failed }: TestSummary) =>
  passed === null || failed === null ? "no readable result" : `${passed} ✓${failed ? ` ${failed} ✗` : ""}`;

/** What a test run must show to prove anything, as in claude_loop/progress/states.py. */
export const passes = ({ passed, failed }: TestSummary) => failed === 0 && passed !== null && passed > 0;

export function failingWords(test: TestSummary): string {
  const names = test.failing.join(", ");
  return test.failing_more > 0 && names ? `${names} and ${test.failing_more} more` : names;
}

export const plural = (count: number, one: string, many = one + "s") => `${count} ${count === 1 ? one : many}`;
