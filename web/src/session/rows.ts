/** The waterfall's rows: the agent's own calls in order, each subagent where it began, with its calls below. */

import type { Call, Subagent } from "../lib/documents";

export type Row = { key: string; kind: "call"; call: Call; inner: boolean } | { key: string; kind: "lane"; lane: Subagent };

export function rowsOf(calls: readonly Call[], subagents: readonly Subagent[]): Row[] {
  const lanes = new Map(subagents.map((lane) => [lane.agent_id, lane]));
  const inner = new Map<string, Row[]>();
  const outer: { at: number; rows: Row[] }[] = [];
  for (const call of calls) {
    const row: Row = { key: `c${call.seq}`, kind: "call", call, inner: call.agent_id !== null };
    if (call.agent_id === null) {
      outer.push({ at: call.started_at, rows: [row] });
      continue;
    }
    const known = inner.get(call.agent_id);
    if (known) known.push(row);
    else inner.set(call.agent_id, [row]);
  }
  for (const [id, rows] of inner) {
    const lane = lanes.get(id);
    const first = rows[0] as Extract<Row, { kind: "call" }>;
    outer.push({ at: lane?.started_at ?? first.call.started_at, rows: lane ? [{ key: `l${id}`, kind: "lane", lane }, ...rows] : rows });
  }
  for (const lane of subagents) {
    if (!inner.has(lane.agent_id)) outer.push({ at: lane.started_at, rows: [{ key: `l${lane.agent_id}`, kind: "lane", lane }] });
  }
  return outer.sort((a, b) => a.at - b.at).flatMap(({ rows }) => rows);
}
