/** Those of the loaded events that contain some words, or are worth a line; looked for a few milliseconds at a time,
 *  the newest first. */

import { describe, type Lookup } from "./describe";
import type { Item, List } from "./store";

// Below the 50 ms from which on a browser counts a long task, with room for drawing what was found.
const AT_ONCE_MS = 25;
// What agents and loops say by the hundred, and what stands in words elsewhere: in the session, in the run's output.
const NOISE = new Set(["output.chunk", "tool.started", "tool.completed"]);
export const isNoise = (item: Item) => item.event !== null && NOISE.has(item.event.type);
const NOTHING_KNOWN: Lookup = { story: () => undefined, run: () => undefined };

export const wordsOf = (text: string) => text.toLowerCase().split(/\s+/).filter(Boolean);

export function haystack(item: Item): string {
  if (item.haystack === null) {
    const { event } = item;
    item.haystack = event === null ? "" : [
      event.type, event.project, event.prd_id, event.story_id, event.source, event.run_id, event.session_id,
      describe(event, NOTHING_KNOWN).text, JSON.stringify(event.data),
    ].join("\n").toLowerCase();
  }
  return item.haystack;
}

export class Found {
  readonly list: List = { items: [], first: 0 };
  #left: readonly Item[];
  #next: number; // of those left, from the end

  constructor(
    private readonly words: readonly string[],
    private readonly quiet: boolean,
    source: readonly Item[],
  ) {
    this.#left = source.slice();
    this.#next = source.length - 1;
  }

  get done(): boolean {
    return this.#next < 0;
  }

  /** Look further; how many were found. */
  step(milliseconds = AT_ONCE_MS): number {
    const until = performance.now() + milliseconds;
    const found: Item[] = [];
    while (this.#next >= 0) {
      const item = this.#left[this.#next--]!;
      if (this.passes(item)) found.push(item);
      if ((this.#next & 255) === 0 && performance.now() > until) break;
    }
    if (this.done) this.#left = []; // they may be let go
    this.#before(found.reverse());
    return found.length;
  }

  /** Lines stay: what was missed is missed, whatever is looked for. */
  passes(item: Item): boolean {
    if (item.event === null) return true;
    if (this.quiet && NOISE.has(item.event.type)) return false;
    if (!this.words.length) return true;
    const text = haystack(item);
    return this.words.every((word) => text.includes(word));
  }

  append(items: readonly Item[]): void {
    for (const item of items) if (this.passes(item)) this.list.items.push(item);
  }

  prepend(items: readonly Item[]): void {
    if (!this.done) {
      this.#left = [...items, ...this.#left.slice(0, this.#next + 1)];
      this.#next += items.length;
    } else this.#before(items.filter((item) => this.passes(item)));
  }

  /** Items before number `n` are no longer loaded. */
  drop(n: number): void {
    const kept = this.list.items.findIndex((item) => item.n >= n);
    const gone = kept < 0 ? this.list.items.length : kept;
    this.list.items.splice(0, gone);
    this.list.first += gone;
    while (this.#next >= 0 && this.#left[0]!.n < n && this.#left[this.#next]!.n < n) this.#next--;
  }

  #before(items: Item[]): void {
    if (!items.length) return;
    this.list.items = items.concat(this.list.items);
    this.list.first -= items.length;
  }
}
