/** A recorded run: its patches, and the documents at any moment of them. */

import type { Patch } from "./documents";
import { applied, type Document, type Documents } from "./patches";

const STRIDE = 512; // patches between two kept moments: what a jump has to apply at most
const SLICE_MS = 12; // of preparing, before the page has a turn

const isRun = (key: string) => key.startsWith("run/");

export class Replay {
  readonly from: number;
  readonly to: number;
  at = $state(0);
  playing = $state(false);
  speed = $state(10);
  /** How much of it can be jumped to without delay, from 0 to 1. */
  prepared = $state(0);

  readonly #patches: readonly Patch[];
  readonly #kept: Documents[];
  #last = { count: 0, documents: new Map() as Documents };
  #documents = $derived(this.#after(this.#countAt(this.at)));
  #frame = 0;

  constructor(patches: readonly Patch[], documents: Record<string, Document> = {}) {
    this.#patches = patches;
    this.#kept = [new Map(Object.entries(documents))];
    this.#last.documents = this.#kept[0]!;
    // A PRD is older than its later runs.
    const begun = Object.keys(documents).some(isRun) ? patches[0] : patches.find(({ path }) => isRun(path[0]!));
    this.from = begun?.at ?? 0;
    this.to = patches.at(-1)?.at ?? 0;
    this.at = this.to;
    void this.#prepare();
  }

  get documents(): Documents {
    return this.#documents;
  }

  /** The last event that had happened by then. */
  get seq(): number {
    return this.#patches[this.#countAt(this.at) - 1]?.seq ?? 0;
  }

  get moments(): number[] {
    return this.#patches.map(({ at }) => at).filter((at) => at >= this.from);
  }

  seek(at: number): void {
    this.at = Math.min(this.to, Math.max(this.from, at));
  }

  toggle(): void {
    this.playing = !this.playing;
    if (!this.playing) return cancelAnimationFrame(this.#frame);
    if (this.at >= this.to) this.at = this.from;
    let before = performance.now();
    const step = (now: number) => {
      this.seek(this.at + (now - before) * this.speed);
      before = now;
      this.playing &&= this.at < this.to;
      if (this.playing) this.#frame = requestAnimationFrame(step);
    };
    this.#frame = requestAnimationFrame(step);
  }

  stop(): void {
    if (this.playing) this.toggle();
  }

  /** How many patches had been made by then. Their moments never go back. */
  #countAt(at: number): number {
    let [low, high] = [0, this.#patches.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#patches[middle]!.at <= at) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #after(count: number): Documents {
    const kept = Math.floor(count / STRIDE);
    while (this.#kept.length <= kept) this.#keepNext();
    // Playing goes on from where it is; a jump begins at the kept moment before it.
    const near = this.#last.count <= count && this.#last.count >= kept * STRIDE;
    const { count: from, documents } = near ? this.#last : { count: kept * STRIDE, documents: this.#kept[kept]! };
    if (from === count) return documents;
    this.#last = { count, documents: applied(documents, this.#patches.slice(from, count)) };
    return this.#last.documents;
  }

  #keepNext(): void {
    const from = (this.#kept.length - 1) * STRIDE;
    this.#kept.push(applied(this.#kept.at(-1)!, this.#patches.slice(from, from + STRIDE)));
  }

  async #prepare(): Promise<void> {
    const wanted = Math.floor(this.#patches.length / STRIDE) + 1;
    while (this.#kept.length < wanted) {
      const until = performance.now() + SLICE_MS;
      while (this.#kept.length < wanted && performance.now() < until) this.#keepNext();
      this.prepared = this.#kept.length / wanted;
      await new Promise((resolve) => setTimeout(resolve));
    }
    this.prepared = 1;
  }
}
