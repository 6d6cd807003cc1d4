/** What may need a person: the cards of PRDs, and the agents without a PRD that wait. States are the daemon's; here is their order. */

import { agentName } from "./agents";
import { forYou, GROUPS, type Card } from "./cards";
import type { Group, SessionDocument } from "./documents";
import { sessionKey } from "./keys";
import { prdAddress, sessionAddress } from "./route.svelte";
import { stateWords, waitWords } from "./words";

export interface Concern {
  key: string; // of its document
  is: "PRD" | "agent";
  name: string;
  title: string; // with its name, where there is room
  address: string;
  group: Group;
  forYou: boolean;
  since: number; // of its wait
  state: string;
  /** Differs when there is something new to tell. */
  signature: string;
  words: (now: number) => string;
}

export function concernsOf(cards: readonly Card[], waiting: readonly SessionDocument[]): Concern[] {
  return [...waiting.map(ofAgent), ...cards.map(ofCard)].sort(inOrder);
}

function ofCard(card: Card): Concern {
  const { key, prd, run, group } = card;
  return {
    key, is: "PRD", name: prd.prd_id, title: `${prd.prd_id} ${prd.title ?? ""}`.trim(),
    address: prdAddress(prd.project, prd.prd_id), group, forYou: forYou(card), since: run.waiting?.since ?? 0,
    state: run.state, signature: `${run.run_id} ${run.state}`, words: (now) => stateWords(run, now),
  };
}

function ofAgent(session: SessionDocument): Concern {
  const name = agentName(session), wait = session.waiting;
  return {
    key: sessionKey(session.project, null, session.session_id), is: "agent", name, title: name,
    address: sessionAddress(session.project, session.session_id), group: "waiting", forYou: wait?.for === "human",
    since: wait?.since ?? 0, state: session.state, signature: `waiting ${wait?.since}`,
    words: (now) => (wait ? waitWords(wait, now) : session.state),
  };
}

/** Cards come in their own order, and of those that wait the one that has waited longest. */
function inOrder(a: Concern, b: Concern): number {
  const groups = GROUPS.indexOf(a.group) - GROUPS.indexOf(b.group);
  return groups || (a.group === "waiting" ? Number(b.forYou) - Number(a.forYou) || a.since - b.since : 0);
}
