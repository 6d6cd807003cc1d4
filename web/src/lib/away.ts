/** What happened since this browser last looked, found by comparing counts: nothing is asked of the daemon for it. */

import { agentName } from "./agents";
import type { Card } from "./cards";
import type { RunState, SessionDocument } from "./documents";
import { sessionKey } from "./keys";
import { prdAddress, sessionAddress } from "./route.svelte";
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
  /** Agents without a PRD that waited, and since when. */
  waiting?: Record<string, number>;
}

export interface News {
  key: string;
  name: string;
  address: string;
  state: string;
  words: string;
}
export interface Absence {
  since: number;
  news: News[];
}

const keyOf = ({ project, session_id }: SessionDocument) => sessionKey(project, null, session_id);

/** `agents` are all sessions without a PRD. */
export function remember(cards: readonly Card[], agents: readonly SessionDocument[], now: number): void {
  const prds: Record<string, Seen> = {};
  for (const { key, run } of cards.slice(0, MOST)) {
    const { verified, claimed, failing } = run.counts;
    prds[key] = { run: run.run_id, state: run.state, verified, claimed, failing, commits: run.commits, tests: run.tests, errors: run.errors };
  }
  const waiting = Object.fromEntries(agents.flatMap((each) => (each.waiting ? [[keyOf(each), each.waiting.since]] : [])));
  localStorage.setItem(KEY, JSON.stringify({ at: now, prds, waiting } satisfies Look));
}

export function lastLook(): Look | null {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? "null") as Look | null;
  } catch {
    return null; // not ours, or of an older version: as if this browser had never looked
  }
}

export function absence(
  before: Look | null, cards: readonly Card[], agents: readonly SessionDocument[], now: number,
): Absence | null {
  if (!before || now - before.at < AWAY_MS) return null;
  const ofAgents = agents.flatMap((session) => {
    const words = waits(before.waiting?.[keyOf(session)], session);
    const address = sessionAddress(session.project, session.session_id);
    return words ? [{ key: keyOf(session), name: agentName(session), address, state: session.state, words }] : [];
  });
  const ofCards = cards.flatMap((card) => {
    const { key, prd, run } = card;
    const words = changes(before.prds[key], card);
    return words ? [{ key, name: prd.prd_id, address: prdAddress(prd.project, prd.prd_id), state: run.state, words }] : [];
  });
  const news = [...ofAgents, ...ofCards];
  return news.length ? { since: before.at, news } : null;
}

/** What is new of an agent's wait; `since` is that of the wait that was seen. */
function waits(since: number | undefined, { waiting, ended_at }: SessionDocument): string {
  if (waiting) return waiting.since === since ? "" : `began to wait: ${waiting.reason}`;
  if (since === undefined) return "";
  return ended_at === null ? "waits no more" : "has ended";
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
