/** What happened since this browser last looked, found by comparing counts: nothing is asked of the daemon for it. */

import type { Card } from "./cards";
import type { RunState } from "./documents";
import { plural } from "./words";

const KEY = "claude-loop-looked";
const MOST = 300; // PRDs remembered
const AWAY_MS = 2 * 60_000; // a shorter absence needs no summary

interface Seen {
  run: string;
  state: RunState;
  verified: number;
  claimed: number;
  failing: number;
  commits: number;
  tests: number;
  errors: number;
}
interface Look {
  at: number;
  prds: Record<string, Seen>;
}

export interface News {
  card: Card;
  words: string;
}
export interface Absence {
  since: number;
  news: News[];
}

export function remember(cards: readonly Card[], now: number): void {
  const prds: Record<string, Seen> = {};
  for (const { key, run } of cards.slice(0, MOST)) {
    const { verified, claimed, failing } = run.counts;
    prds[key] = { run: run.run_id, state: run.state, verified, claimed, failing, commits: run.commits, tests: run.tests, errors: run.errors };
  }
  localStorage.setItem(KEY, JSON.stringify({ at: now, prds } satisfies Look));
}

export function lastLook(): Look | null {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? "null") as Look | null;
  } catch {
    return null; // not ours, or of an older version: as if this browser had never looked
  }
}

export function absence(before: Look | null, cards: readonly Card[], now: number): Absence | null {
  if (!before || now - before.at < AWAY_MS) return null;
  const news = cards.flatMap((card) => {
    const words = changes(before.prds[card.key], card);
    return words ? [{ card, words }] : [];
  });
  return news.length ? { since: before.at, news } : null;
}

const ENDED: Partial<Record<RunState, string>> = {
  waiting: "began to wait", vanished: "its process went", failed: "failed", stalled: "fell silent", paused: "was paused",
  "done·claimed": "says done", "done·verified": "done and verified", running: "is running again",
};

function changes(seen: Seen | undefined, { run }: Card): string {
  const fresh = !seen || seen.run !== run.run_id;
  const was: Omit<Seen, "run" | "state"> = fresh ? { verified: 0, claimed: 0, failing: 0, commits: 0, tests: 0, errors: 0 } : seen;
  const said: string[] = [];
  if (fresh) said.push(run.number > 1 ? `run ${run.number} started` : "started");
  if (fresh ? run.state !== "running" : seen.state !== run.state) said.push(ENDED[run.state] ?? run.state);
  const more = (now: number, before: number, words: (count: number) => string) => now > before && said.push(words(now - before));
  more(run.counts.verified, was.verified, (count) => `${plural(count, "story", "stories")} verified`);
  more(run.counts.claimed, was.claimed, (count) => `${count} claimed`);
  more(run.counts.failing, was.failing, (count) => `${count} failing`);
  more(run.commits, was.commits, (count) => plural(count, "commit"));
  more(run.errors, was.errors, (count) => plural(count, "error"));
  return said.join(", ");
}
