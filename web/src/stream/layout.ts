/** Where each row is: all have one height, but for those that are open. */

import type { Item, List } from "./store";

export interface Placed {
  /** Of the element that shows it: elements are used again for other rows. */
  key: number;
  index: number;
  item: Item;
  y: number;
}

export class Layout {
  readonly total: number;
  readonly #opened: { index: number; extra: number }[] = [];

  constructor(
    readonly list: List,
    opened: ReadonlyMap<Item, number>,
    readonly row: number,
    readonly lead: number,
  ) {
    let extra = 0;
    for (const [item, height] of opened) {
      const index = indexOf(list.items, item);
      if (index < 0) continue;
      this.#opened.push({ index, extra: height });
      extra += height;
    }
    this.#opened.sort((a, b) => a.index - b.index);
    this.total = lead + list.items.length * row + extra;
  }

  y(index: number): number {
    let y = this.lead + index * this.row;
    for (const each of this.#opened) {
      if (each.index >= index) break;
      y += each.extra;
    }
    return y;
  }

  height(index: number): number {
    return this.row + (this.#opened.find((each) => each.index === index)?.extra ?? 0);
  }

  indexAt(y: number): number {
    let left = y - this.lead;
    for (const { index, extra } of this.#opened) {
      if (left < (index + 1) * this.row) break;
      if (left < (index + 1) * this.row + extra) return index;
      left -= extra;
    }
    return Math.min(this.list.items.length - 1, Math.max(0, Math.floor(left / this.row)));
  }

  rows(from: number, height: number, beyond: number, slots: Slots): Placed[] {
    const { items, first } = this.list;
    if (!items.length) return [];
    const start = Math.max(0, this.indexAt(from) - beyond);
    const end = Math.min(items.length - 1, this.indexAt(from + height) + beyond);
    slots.turn(first + start, Math.ceil(height / this.row) + 2 * beyond + 2);
    const placed: Placed[] = [];
    let y = this.y(start);
    for (let index = start; index <= end; index++) {
      placed.push({ key: slots.key(first + index), index, item: items[index]!, y });
      y += this.height(index);
    }
    return placed;
  }
}

/**
 * Which element shows which row. After a small step the same elements show the same rows, and those that went out on
 * one side come in on the other. After a large one each stays in its place and shows another row: moving an element
 * costs more than writing into it.
 */
export class Slots {
  #size = 1;
  #start = 0;
  #offset = 0;

  turn(start: number, size: number): void {
    if (size !== this.#size || Math.abs(start - this.#start) * 3 > size) this.#offset += start - this.#start;
    this.#size = size;
    this.#start = start;
  }

  key(number: number): number {
    const turned = (number - this.#offset) % this.#size;
    return turned < 0 ? turned + this.#size : turned;
  }
}

/** By its number, which rises; -1 when it is not there. */
export function indexOf(items: readonly Item[], item: Item): number {
  let [low, high] = [0, items.length - 1];
  while (low <= high) {
    const middle = (low + high) >> 1;
    const { n } = items[middle]!;
    if (n === item.n) return items[middle] === item ? middle : -1;
    if (n < item.n) low = middle + 1;
    else high = middle - 1;
  }
  return -1;
}

/** How many of the first items are of events up to `seq`; lines belong to the event before them. */
export function upTo(items: readonly Item[], seq: number): number {
  let [low, high] = [0, items.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    let at = middle;
    while (at > low && items[at]!.event === null) at--;
    if ((items[at]!.event?.seq ?? 0) <= seq) low = middle + 1;
    else high = at;
  }
  return low;
}
