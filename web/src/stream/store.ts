/** Loaded events in plain arrays: there may be 200,000 of them, and nothing of the page watches any single one. */

import type { EventJson } from "../lib/documents";
import { matcher, type Filter } from "./filter";

/** More are not held at a time: at about 600 bytes each that is what a tab may reasonably take. */
export const MOST = 200_000;
const SLACK = 10_000; // given up at a time, so that it is not done for every frame
const MARK_EVERY = 500;

/** An event, or in its place a line that says why there is none. `n` rises within a store. */
export class Item {
  /** What a search looks at, made when it is first needed. */
  haystack: string | null = null;
  constructor(
    readonly n: number,
    readonly event: EventJson | null,
    readonly line = "",
  ) {}
}

/** `first` is the number of the first item in an endless list that grows and shrinks on both sides. */
export interface List {
  items: Item[];
  first: number;
}

const names = new Map<string, string>();

/** The same few names come with every event; one copy of each does. */
function shared<T extends string | null>(name: T): T {
  if (name === null) return name;
  const known = names.get(name);
  if (known !== undefined) return known as T;
  if (names.size > 50_000) names.clear();
  names.set(name, name);
  return name;
}

function lean(event: EventJson): EventJson {
  event.type = shared(event.type);
  event.project = shared(event.project);
  event.prd_id = shared(event.prd_id);
  event.story_id = shared(event.story_id);
  event.run_id = shared(event.run_id);
  event.session_id = shared(event.session_id);
  event.source = shared(event.source);
  if (event.received_at === event.timestamp) event.received_at = event.timestamp;
  return event;
}

/** All events of `filter` between two cursors, oldest first. */
export class Store {
  readonly list: List = { items: [], first: 0 };
  /** Where to go on from; null until the daemon has answered. */
  cursor: string | null = null;
  #next = 0;
  // Places that can be paged back from; the first is that before the first item.
  #marks: { n: number; cursor: string }[] = [];

  constructor(readonly filter: Filter) {}

  get oldest(): string | null {
    return this.#marks[0]?.cursor ?? null;
  }

  begin(cursor: string): void {
    this.cursor = cursor;
    this.#marks.push({ n: this.#next, cursor });
  }

  append(events: readonly EventJson[], prev: string, upto: string): Item[] {
    const added = events.map((event) => new Item(this.#next++, lean(event)));
    const [head] = added;
    if (head && head.n - (this.#marks.at(-1)?.n ?? -Infinity) >= MARK_EVERY) this.#marks.push({ n: head.n, cursor: prev });
    for (const item of added) this.list.items.push(item);
    this.cursor = upto;
    return added;
  }

  say(line: string, cursor: string): Item {
    const item = new Item(this.#next++, null, line);
    this.list.items.push(item);
    this.cursor = cursor;
    return item;
  }

  /** `events` come newest first, as from the daemon; `cursor` is for those before them. */
  prepend(events: readonly EventJson[], cursor: string): Item[] {
    let n = this.list.items[0]?.n ?? this.#next;
    const added = events.map((event) => new Item(--n, lean(event))).reverse();
    this.list.items = added.concat(this.list.items);
    this.list.first -= added.length;
    this.#marks.unshift({ n, cursor });
    return added;
  }

  /** Lets the oldest go when there are too many, up to a place that can be paged back from. */
  trim(most = MOST): boolean {
    const { items } = this.list;
    if (items.length <= most) return false;
    const least = items[items.length - most + Math.min(SLACK, most / 10)]!.n;
    const at = this.#marks.findIndex((mark) => mark.n >= least);
    if (at < 0) return false;
    this.#marks.splice(0, at);
    const gone = items.findIndex((item) => item.n >= this.#marks[0]!.n);
    items.splice(0, gone);
    this.list.first += gone;
    return gone > 0;
  }

  /** What of this one passes a narrower filter, to go on from here on its own. */
  narrowed(filter: Filter): Store {
    const wanted = matcher(filter);
    const narrow = new Store(filter);
    narrow.list.items = this.list.items.filter(({ event }) => event === null || wanted(event));
    narrow.cursor = this.cursor;
    narrow.#next = this.#next;
    narrow.#marks = [...this.#marks];
    return narrow;
  }
}
