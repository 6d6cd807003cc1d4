/** What the timeline draws of a run and its stories. */

import type { AttemptOutcome, RunDocument, SessionDocument, StoryDocument } from "../lib/documents";
import { clock, spoken } from "../lib/time";
import { passes, testWords } from "../lib/words";

export const KINDS = ["passed", "failed", "commit", "error"] as const;
export type MarkKind = (typeof KINDS)[number];

const CIRCLE = "M-5.5 0a5.5 5.5 0 1 0 11 0a5.5 5.5 0 1 0-11 0z";
/** What is drawn within a shape is an area of no width: the outline's stroke shows it. */
export const OUTLINES: Record<MarkKind, string> = {
  passed: `${CIRCLE}M-2.4 .2-.7 1.9 2.5-1.8-.7 1.9z`,
  failed: `${CIRCLE}M-2-2 2 2zM2-2-2 2z`,
  commit: "M0-5.6 5.6 0 0 5.6-5.6 0z",
  error: "M0-5.8 6 4.8H-6zM0-2V.6zM0 2.9V3z",
};

export interface Mark {
  kind: MarkKind;
  at: number;
  seq: number;
  words: string;
}

export interface Bar {
  attempt: number;
  from: number;
  to: number | null; // null while it is running
  look: string;
  words: string;
}

export interface Lane {
  story: StoryDocument;
  bars: Bar[];
  marks: Mark[];
  agents: AgentSpan[];
}

/** A session while it worked on a story. */
export interface AgentSpan {
  from: number;
  to: number | null; // null while it does
  words: string;
}

export interface Wait {
  from: number;
  to: number | null;
  words: string;
}

/** By story. */
export function spansOf(sessions: readonly SessionDocument[]): Map<string, AgentSpan[]> {
  const found = new Map<string, AgentSpan[]>();
  for (const { stories, ended_at, agent, session_id, calls } of sessions) {
    stories.forEach(({ story_id, since }, index) => {
      if (story_id === null) return;
      const to = stories[index + 1]?.since ?? ended_at;
      const words = `${agent ?? "agent"} ${session_id.slice(0, 8)}: ${calls} tool calls${to === null ? "" : `, ${spoken(to - since)}`}`;
      found.set(story_id, [...(found.get(story_id) ?? []), { from: since, to, words }]);
    });
  }
  return found;
}

export function laneOf(story: StoryDocument, errors: readonly Mark[] = [], agents: AgentSpan[] = []): Lane {
  const last = story.attempts.at(-1)?.attempt;
  const bars = story.attempts.map(({ attempt, started_at, finished_at, outcome }) => ({
    attempt,
    from: started_at,
    to: finished_at,
    look: attempt === last && outcome === "completed" ? story.state : outcome,
    words: `attempt ${attempt}: ${said(outcome)}${finished_at ? `, ${spoken(finished_at - started_at)}` : ""}`,
  }));
  const tests = story.test_runs.map((test): Mark => ({
    kind: passes(test) ? "passed" : "failed", at: test.at, seq: test.seq, words: testWords(test),
  }));
  const commits = story.recent_commits.map(({ at, seq, hash, subject }): Mark => ({
    kind: "commit", at, seq, words: `commit ${hash.slice(0, 7)} ${subject ?? ""}`,
  }));
  return { story, bars, agents, marks: [...tests, ...commits, ...errors] };
}

const APART = 4; // pixels; nearer marks cannot be told from each other
const URGENCY: Record<MarkKind, number> = { passed: 0, commit: 1, failed: 2, error: 3 };

/** Of marks that would lie on each other the most urgent, the latest of equals. `selected` is always among them. */
export function apart(marks: readonly Mark[], x: (at: number) => number, selected: number | null): Mark[] {
  const places = new Map<number, Mark>();
  for (const mark of marks) {
    const place = Math.round(x(mark.at) / APART);
    const held = places.get(place);
    if (held && held.seq === selected) continue;
    if (!held || mark.seq === selected || URGENCY[mark.kind] >= URGENCY[held.kind]) places.set(place, mark);
  }
  return [...places.values()];
}

const said = (outcome: AttemptOutcome): string =>
  outcome === "restarted" ? "started again without a result" : outcome === "left" ? "left when the run ended" : outcome;

/** Errors by story; those of no story under "". */
export function errorsOf(run: RunDocument): Map<string, Mark[]> {
  const marks = run.recent_errors.map((each): [string, Mark] => [
    each.story_id ?? "", { kind: "error", at: each.at, seq: each.seq, words: each.error },
  ]);
  const found = new Map<string, Mark[]>();
  for (const [story, mark] of marks) found.set(story, [...(found.get(story) ?? []), mark]);
  return found;
}

export function waitsOf(run: RunDocument, now: number): Wait[] {
  const past = run.past_waits.map(({ since, ended_at, waited_for, reason }) => ({
    from: since, to: ended_at, words: `waited for ${whom(waited_for)} ${spoken(ended_at - since)}: ${reason}`,
  }));
  const present = run.waits.map((wait) => ({
    from: wait.since, to: null, words: `waiting for ${whom(wait.for)} since ${clock(wait.since, now)}: ${wait.reason}`,
  }));
  return [...past, ...present];
}

const whom = (waited: string) => (waited === "human" ? "you" : waited === "rate_limit" ? "the rate limit" : "something");
