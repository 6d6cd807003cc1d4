/** Whether anything is still to come of a run, and until when its time counts. */

import type { RunDocument } from "./documents";

/** A run that had not finished when a later one began stays as it was: nobody goes on with it. */
export const isOver = (run: RunDocument) => run.finished_at !== null || run.superseded_by !== null;

export const endOf = (run: RunDocument, now: number) =>
  run.finished_at ?? run.vanished_at ?? (run.superseded_by === null ? now : run.last.at);
