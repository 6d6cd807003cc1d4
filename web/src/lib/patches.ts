/** Applying patches: the rules of claude_loop/progress/patches.py, and nothing else. */

import type { Patch } from "./documents";

export type Document = Readonly<Record<string, unknown>>;
export type Documents = ReadonlyMap<string, Document>;

/**
 * The documents after `patches`. What was given stays as it was and unchanged documents are shared, so that a moment
 * can be kept for later at the cost of a map.
 */
export function applied(documents: Documents, patches: Iterable<Patch>): Documents {
  const after = new Map(documents);
  const ours = new Map<string, Record<string, unknown>>(); // copied already
  for (const { path, value } of patches) {
    const [key, field] = path as [string, string?];
    if (field !== undefined) {
      let copy = ours.get(key);
      if (copy === undefined) {
        copy = { ...after.get(key) };
        ours.set(key, copy);
        after.set(key, copy);
      }
      copy[field] = value;
    } else if (value === null) {
      ours.delete(key);
      after.delete(key);
    } else {
      ours.delete(key);
      after.set(key, value as Document);
    }
  }
  return after;
}
