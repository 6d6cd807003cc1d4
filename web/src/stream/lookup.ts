/** The documents that an event's sentence needs, as they stand in the page. */

import type { EventJson, RunDocument, StoryDocument } from "../lib/documents";
import { prdKey, runKey, storiesPrefix } from "../lib/keys";
import type { Documents } from "../lib/patches";
import type { Lookup } from "./describe";
import type { Proofs } from "./proofs.svelte";

const moment = (event: EventJson) => Math.min(Date.parse(event.timestamp) || Infinity, Date.parse(event.received_at));

/** `proofs` knows of earlier runs, and of stories that are not among the documents. */
export function lookupIn(documents: () => Documents, proofs: () => Proofs | null): Lookup {
  /** An event that names no run is of the latest only if that had begun, and had a word after it. */
  function run(event: EventJson): RunDocument | undefined {
    if (event.prd_id === null) return undefined;
    const all = documents();
    if (event.run_id !== null) {
      const held = all.get(runKey(event.project, event.prd_id, event.run_id)) as RunDocument | undefined;
      return held ?? proofs()?.run({ project: event.project, prd_id: event.prd_id, run_id: event.run_id, last: { seq: event.seq } });
    }
    const prd = all.get(prdKey(event.project, event.prd_id));
    if (!prd) return undefined;
    const latest = all.get(runKey(event.project, event.prd_id, prd["run_id"] as string)) as RunDocument | undefined;
    return latest && latest.last.seq >= event.seq && latest.started_at <= moment(event) + 1000 ? latest : undefined;
  }

  function story(event: EventJson): StoryDocument | undefined {
    const of = run(event);
    if (!of || event.story_id === null) return undefined;
    const key = storiesPrefix(of.project, of.prd_id, of.run_id) + encodeURIComponent(event.story_id);
    const held = documents().get(key) as StoryDocument | undefined;
    const found = held ?? proofs()?.story(of, event.story_id);
    const restarted = (found?.attempts.at(-1)?.started_at ?? 0) > moment(event);
    return restarted ? undefined : found;
  }

  return { run, story };
}
