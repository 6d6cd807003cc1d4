/** Runs that the page does not watch, and their stories: asked for when a line on the screen speaks of one. */

import type { RunDocument, StoryDocument } from "../lib/documents";
import { runKey } from "../lib/keys";
import { ask } from "../lib/session";

const APART_MS = 3000; // a run that is at work changes all the time
const KEPT = 100; // more than there are lines on a screen

/** What it takes to ask for a run, and the last event that the answer has to know of. */
export type Asked = Pick<RunDocument, "project" | "prd_id" | "run_id"> & { last: { seq: number } };

interface Known {
  seq: number; // the last event of the run that the answer knows of
  run: RunDocument | undefined;
  stories: ReadonlyMap<string, StoryDocument>;
}

export class Proofs {
  #known = $state.raw<ReadonlyMap<string, Known>>(new Map());
  #asked = new Set<string>(); // a moment ago, or being asked

  /** What is known now. Whoever asks in an effect or a template is told when more is. */
  story(run: Asked, storyId: string): StoryDocument | undefined {
    return this.#of(run)?.stories.get(storyId);
  }

  /** Likewise. */
  run(run: Asked): RunDocument | undefined {
    return this.#of(run)?.run;
  }

  #of(run: Asked): Known | undefined {
    const key = runKey(run.project, run.prd_id, run.run_id);
    const known = this.#known.get(key);
    if ((known?.seq ?? -1) < run.last.seq) void this.#ask(key, run);
    return known;
  }

  async #ask(key: string, { project, prd_id, run_id, last }: Asked): Promise<void> {
    if (this.#asked.has(key)) return;
    this.#asked.add(key);
    const query = new URLSearchParams({ project: project ?? "", run_id });
    let known: Known = { seq: last.seq, run: this.#known.get(key)?.run, stories: this.#known.get(key)?.stories ?? new Map() };
    try {
      const { run, stories } = await ask<{ run: RunDocument; stories: StoryDocument[] }>(`/api/prds/${encodeURIComponent(prd_id)}?${query}`);
      known = { seq: run.last.seq, run, stories: new Map(stories.map((each) => [each.story_id, each])) };
    } catch {
      // The line then says only what the event says, until the run's next event.
    }
    setTimeout(() => {
      this.#asked.delete(key);
      this.#known = new Map(this.#known); // who wants to know more asks again
    }, APART_MS);
    const others = [...this.#known].filter(([each]) => each !== key).slice(1 - KEPT);
    this.#known = new Map([...others, [key, known]]);
  }
}
