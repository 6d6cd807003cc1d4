/** What a search of the loaded events looks at, made while the browser has nothing else to do: the first search then
 *  takes no longer than the next ones. Where browsers have no idle time to give, the first search makes it. */

import { haystack, isNoise } from "./found";
import type { Item } from "./store";

const SLICE_MS = 20; // of an idle period: who types or scrolls meanwhile waits for no more
const MOST = 100_000; // that wait for their turn; a search makes what is missing
const LOOK_EVERY = 32; // of a clock that costs as much as a short text

export class Warmth {
  #waiting: Item[] = []; // the newest last
  #planned = 0;

  /** Tool calls and output stay as they are: most are never looked for, and they are the longest. */
  add(items: readonly Item[]): void {
    if (!("requestIdleCallback" in globalThis)) return;
    for (const item of items) if (!isNoise(item)) this.#waiting.push(item);
    // Twice as many before the oldest are given up: it is not done for every frame.
    if (this.#waiting.length > 2 * MOST) this.#waiting.splice(0, this.#waiting.length - MOST);
    this.#plan();
  }

  end(): void {
    this.#waiting = [];
    if (this.#planned) cancelIdleCallback(this.#planned);
  }

  #plan(): void {
    if (this.#waiting.length && !this.#planned) this.#planned = requestIdleCallback((idle) => this.#work(idle));
  }

  #work(idle: IdleDeadline): void {
    this.#planned = 0;
    const until = performance.now() + Math.min(SLICE_MS, idle.timeRemaining());
    do {
      for (const item of this.#waiting.splice(-LOOK_EVERY)) haystack(item);
    } while (this.#waiting.length && performance.now() < until);
    this.#plan();
  }
}
