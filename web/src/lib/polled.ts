/** For a daemon without `watch`: the same documents, asked for every second. Goes when every daemon has it. */

import type { PrdDocument, RunDocument, StoryDocument } from "./documents";
import { prdKey, runKey, storiesPrefix } from "./keys";
import type { Watched } from "./live.svelte";
import { ask } from "./session";

type Found = Record<string, Record<string, unknown>>;

export async function poll(watched: Watched | null, give: (documents: Found) => boolean): Promise<void> {
  for (;;) {
    try {
      if (!give(await fetched(watched))) return;
    } catch {
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

async function fetched(watched: Watched | null): Promise<Found> {
  const found: Found = {};
  const { prds } = await ask<{ prds: (RunDocument & PrdDocument)[] }>("/api/prds");
  for (const card of prds) {
    found[prdKey(card.project, card.prd_id)] = { ...card, created_at: card.started_at };
    found[runKey(card.project, card.prd_id, card.run_id)] = { ...card };
  }
  if (watched) {
    const query = new URLSearchParams({ project: watched.project ?? "" });
    if (watched.run_id) query.set("run_id", watched.run_id);
    const detail = await ask<{ run: RunDocument; runs: RunDocument[]; stories: StoryDocument[] }>(
      `/api/prds/${encodeURIComponent(watched.prd_id)}?${query}`,
    );
    for (const run of [...detail.runs, detail.run]) found[runKey(run.project, run.prd_id, run.run_id)] = { ...run };
    for (const story of detail.stories)
      found[storiesPrefix(story.project, story.prd_id, story.run_id) + encodeURIComponent(story.story_id)] = { ...story };
  }
  return found;
}
