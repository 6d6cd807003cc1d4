/** What the views ask of the documents. States come from the reducer; here is only their order, as in views.py. */

import type { Group, PrdDocument, RunDocument, StoryDocument } from "./documents";
import { PRDS, runKey, runsPrefix, storiesPrefix } from "./keys";
import type { Documents } from "./patches";

export interface Card {
  key: string;
  prd: PrdDocument;
  run: RunDocument;
  group: Group;
}

export const GROUPS: readonly Group[] = [
  "waiting", "vanished", "failed", "stalled", "paused", "running", "today", "earlier",
];

/** What was done in the evening is today's until noon. */
const AT_LEAST_TODAY = 12 * 3_600_000;

export function cardsOf(documents: Documents, now: number): Card[] {
  const today = Math.min(new Date(now).setHours(0, 0, 0, 0), now - AT_LEAST_TODAY);
  const cards: Card[] = [];
  for (const [key, document] of documents) {
    if (!key.startsWith(PRDS)) continue;
    const prd = document as unknown as PrdDocument;
    const run = documents.get(runKey(prd.project, prd.prd_id, prd.run_id)) as RunDocument | undefined;
    if (run) cards.push({ key, prd, run, group: groupOf(prd, run, today) });
  }
  return cards.sort(inOrder);
}

function groupOf(prd: PrdDocument, run: RunDocument, today: number): Group {
  if (prd.archived_at) return "earlier"; // put away: no longer urgent, whatever its state
  if (run.state !== "done·claimed" && run.state !== "done·verified") return run.state;
  return (run.finished_at ?? 0) >= today ? "today" : "earlier";
}

function inOrder(a: Card, b: Card): number {
  return (
    GROUPS.indexOf(a.group) - GROUPS.indexOf(b.group) ||
    Number(!forYou(a)) - Number(!forYou(b)) ||
    rank(a) - rank(b) ||
    byCode(a.prd.project ?? "", b.prd.project ?? "") ||
    byCode(a.prd.prd_id, b.prd.prd_id)
  );
}

/** As the daemon compares: the browser's language must not put cards into another order than the terminal's. */
const byCode = (a: string, b: string) => Number(a > b) - Number(a < b);

/** Whether it waits for a person: such a wait comes before those that end by themselves. */
export const forYou = ({ group, run }: Card): boolean => group === "waiting" && run.waiting?.for === "human";

/** Who has waited longest comes first; of all others, the latest. */
function rank({ group, run }: Card): number {
  return group === "waiting" && run.waiting ? run.waiting.since : -(run.finished_at ?? run.started_at);
}

export function findPrds(documents: Documents, prdId: string, project?: string | null): PrdDocument[] {
  const found: PrdDocument[] = [];
  for (const [key, document] of documents) {
    const prd = document as unknown as PrdDocument;
    if (key.startsWith(PRDS) && prd.prd_id === prdId && (project === undefined || prd.project === project)) found.push(prd);
  }
  return found;
}

function under<T>(documents: Documents, prefix: string): T[] {
  const found: T[] = [];
  for (const [key, document] of documents) if (key.startsWith(prefix)) found.push(document as unknown as T);
  return found;
}

/** All runs of a PRD that are known here, newest first. */
export function runsOf(documents: Documents, prd: PrdDocument): RunDocument[] {
  return under<RunDocument>(documents, runsPrefix(prd.project, prd.prd_id)).sort((a, b) => b.number - a.number);
}

export function runOf(documents: Documents, prd: PrdDocument, run?: string | null): RunDocument | undefined {
  return documents.get(runKey(prd.project, prd.prd_id, run ?? prd.run_id)) as RunDocument | undefined;
}

/** The run's stories in order of appearance. */
export function storiesOf(documents: Documents, run: RunDocument): StoryDocument[] {
  return under<StoryDocument>(documents, storiesPrefix(run.project, run.prd_id, run.run_id)).sort(
    (a, b) => a.number - b.number,
  );
}
