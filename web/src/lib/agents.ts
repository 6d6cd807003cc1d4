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

/** Sessions that belong to no PRD, the latest first. */
export function agentsOf(documents: Documents): SessionDocument[] {
  const found: SessionDocument[] = [];
  for (const [key, document] of documents) if (key.startsWith(AGENTS)) found.push(document as unknown as SessionDocument);
  return found.sort((a, b) => b.last.at - a.last.at);
}

/** Those that wait for a person come first, then who has waited longest. */
export function waitingOf(agents: readonly SessionDocument[]): SessionDocument[] {
  const rank = ({ waiting }: SessionDocument) => [Number(waiting?.for !== "human"), waiting?.since ?? 0] as const;
  return agents
    .filter(({ state }) => state === "waiting")
    .sort((a, b) => rank(a)[0] - rank(b)[0] || rank(a)[1] - rank(b)[1]);
}

export const agentName = ({ agent, project }: Pick<SessionDocument, "agent" | "project">): string =>
  project === null ? (agent ?? "an agent") : `${agent ?? "an agent"} in ${project}`;

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
