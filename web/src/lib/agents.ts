/** What the views ask of agents' sessions. Their states come from the reducer. */

import type { AgentLine, RunDocument, SessionDocument } from "./documents";
import { AGENTS, sessionsPrefix } from "./keys";
import type { Documents } from "./patches";
import { precise } from "./time";

/** The sessions that work, or last worked, in a run, the first one first. */
export function sessionsOf(documents: Documents, run: RunDocument): SessionDocument[] {
  const prefix = sessionsPrefix(run.project, run.prd_id);
  const found: SessionDocument[] = [];
  for (const [key, document] of documents) {
    const session = document as unknown as SessionDocument;
    if (key.startsWith(prefix) && session.run_id === run.run_id) found.push(session);
  }
  return found.sort((a, b) => a.first_at - b.first_at);
}

/** Live sessions that belong to no PRD, the latest first. */
export function looseAgents(documents: Documents): SessionDocument[] {
  const found: SessionDocument[] = [];
  for (const [key, document] of documents) {
    const session = document as unknown as SessionDocument;
    if (key.startsWith(AGENTS) && session.ended_at === null) found.push(session);
  }
  return found.sort((a, b) => b.last.at - a.last.at);
}

export const lineOf = (session: SessionDocument): AgentLine => ({
  session_id: session.session_id,
  agent: session.agent,
  state: session.state,
  doing: session.doing,
  since: session.doing_since ?? session.last.at,
  last_at: session.last.at,
  story_id: session.story_id,
  call: null, // in which tool it is stands in `doing`
});

/** What it is doing right now, in words. */
export const doingWords = ({ state, doing }: Pick<AgentLine, "state" | "doing">): string =>
  state === "waiting" ? "waiting" : (doing ?? state);

export const callWords = (ms: number | null): string => (ms === null ? "at work" : precise(ms));
