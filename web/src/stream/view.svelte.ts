/** The window onto a feed: where it stands, whether it follows the live end, what is selected and open. */

import type { Feed } from "./feed.svelte";
import { indexOf, Layout, Slots, upTo } from "./layout";
import type { Item, List } from "./store";

const BEYOND = 8; // rows drawn outside the window, for a quick scroll
const NEAR_TOP = 800; // pixels from the oldest, at which more of them are asked for
const ROW = 30;
const ROW_NARROW = 56;
const NARROW = 640;
const OPEN_GUESS = 220; // until it has been measured

export class View {
  follow = $state(true);
  top = $state(0);
  height = $state(0);
  width = $state(0);
  selected = $state.raw<Item | null>(null);
  opened = $state.raw<ReadonlyMap<Item, number>>(new Map());
  #seen = $state(0); // the number of the first item that has not been in sight
  #list: List | null = null;
  #first = 0;
  #slots = new Slots();
  #put = 0; // where the element was scrolled to by us

  readonly narrow = $derived(this.width > 0 && this.width < NARROW);
  readonly row = $derived(this.narrow ? ROW_NARROW : ROW);
  readonly layout = $derived.by(() => {
    void this.feed.version;
    return new Layout(this.feed.list, this.opened, this.row, ROW + 6);
  });
  readonly end = $derived(Math.max(0, this.layout.total - this.height));
  readonly at = $derived(this.follow ? this.end : Math.min(this.top, this.end));
  readonly rows = $derived(this.layout.rows(this.at, this.height, this.follow ? 1 : BEYOND, this.#slots));
  /** How many came since one looked elsewhere. */
  readonly fresh = $derived.by(() => {
    const { items, first } = this.layout.list;
    return this.follow ? 0 : Math.max(0, first + items.length - this.#seen);
  });

  constructor(readonly feed: Feed) {}

  /** Before the page shows a change of the feed: what is in sight stays where it is. */
  settle(): void {
    const { list } = this.feed;
    if (list !== this.#list) {
      this.#list = list;
      this.#first = list.first;
      // Another filter keeps in sight what was looked at, if it passes; another moment of a replay is what is wanted.
      if (this.selected && !this.feed.past && indexOf(list.items, this.selected) >= 0) return this.select(this.selected);
      this.follow = true;
      this.selected = null;
    } else if (list.first !== this.#first && !this.follow) {
      this.top = Math.max(0, this.top - (list.first - this.#first) * this.row);
    }
    this.#first = list.first;
  }

  /** After the page has shown it. */
  place(element: HTMLElement): void {
    // Not compared with where the element is: asking it would lay the page out once more.
    if (Math.abs(this.#put - this.at) < 0.5) return;
    this.#put = this.at;
    element.scrollTop = this.at;
  }

  scrolled(to: number): void {
    if (this.follow) {
      if (to > this.#put - 3) return;
      this.pause(to);
    }
    const down = to > this.top;
    this.top = to;
    this.#put = to;
    this.#look();
    if (down && to >= this.end - 2) this.follow = true;
    if (!down && to < NEAR_TOP) void this.feed.loadOlder();
  }

  pause(at = this.at): void {
    if (!this.follow) return;
    const { items, first } = this.layout.list;
    this.#seen = first + items.length;
    this.follow = false;
    this.top = at;
  }

  toEnd(): void {
    this.follow = true;
    this.selected = null;
  }

  step(by: number): void {
    const { items } = this.layout.list;
    if (!items.length) return;
    const from = this.selected ? indexOf(items, this.selected) : -1;
    const index = from < 0 ? this.layout.indexAt(this.at + this.height - this.row) : from + by;
    this.select(items[Math.min(items.length - 1, Math.max(0, index))]!);
  }

  select(item: Item): void {
    this.pause();
    this.selected = item;
    const index = indexOf(this.layout.list.items, item);
    const [y, height] = [this.layout.y(index), this.layout.height(index)];
    if (y < this.top + this.row) this.top = Math.max(0, y - this.row);
    else if (y + height > this.top + this.height) this.top = Math.min(y, y + height - this.height);
    this.#look();
    if (this.top < NEAR_TOP) void this.feed.loadOlder();
  }

  /** Whether this event could be shown; if not, older ones are asked for while there are any. */
  show(seq: number): boolean {
    const { items } = this.layout.list;
    const item = items[upTo(items, seq) - 1];
    if (item?.event?.seq === seq) {
      this.select(item);
      return true;
    }
    if (this.feed.loaded) void this.feed.loadOlder();
    return false;
  }

  toggle(item: Item): void {
    if (item.event === null) return;
    this.pause();
    this.selected = item;
    const opened = new Map(this.opened);
    if (!opened.delete(item)) opened.set(item, OPEN_GUESS);
    this.opened = opened;
  }

  measured(item: Item, height: number): void {
    const before = this.opened.get(item);
    if (height <= 0 || before === undefined || before === height) return;
    this.opened = new Map(this.opened).set(item, height);
    if (item === this.selected && !this.follow) this.select(item); // what was just opened is wanted in sight
  }

  #look(): void {
    const { first } = this.layout.list;
    this.#seen = Math.max(this.#seen, first + this.layout.indexAt(this.top + this.height) + 1);
  }
}
