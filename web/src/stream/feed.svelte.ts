/** The events of a filter, live: a subscription with a cursor, pages of older ones, and what of them is shown. */

import type { EventJson, EventPage, ResetJson } from "../lib/documents";
import { live } from "../lib/live.svelte";
import { ask, RequestFailed } from "../lib/session";
import { nameOf, queryOf, within, type Filter } from "./filter";
import { Found, isNoise, wordsOf } from "./found";
import { upTo } from "./layout";
import { Pace } from "./pace";
import { Search } from "./search.svelte";
import { MOST, Store, type List } from "./store";
import { Warmth } from "./warmth";

export interface Frame {
  sub: string;
  prev: string;
  upto: string;
  events: EventJson[];
}
interface Opened {
  sub: string;
  status: "fresh" | "resumed" | "reset";
  cursor: string;
  reason?: ResetJson["reason"];
}

export type Older = "idle" | "loading" | "start" | "full" | "lost" | "failed";

const FIRST = 500;
const PAGE = 1000;
const QUIET_MS = 400; // without a frame after the answer, there is nothing yet
const KEEP_WIDE_MS = 120_000; // what a filter set aside is caught up with, if it is wanted again within
const HIDDEN_MS = 1000;
const UNSEEN = 64;
const FRAME_MS = 16;
const NOTHING: Filter = { types: ["-"] };

const MISSED: Record<ResetJson["reason"], string> = {
  trimmed: "the log had been pruned past this point",
  epoch: "the daemon's log is another one now, or lost its end in a crash",
  ahead: "the log was restored from a backup that ends earlier",
  diverged: "the log was restored from a backup and filled again",
};

export class Feed {
  /** Rises whenever `list` has changed; the list itself is nothing that Svelte watches. */
  version = $state(0);
  loaded = $state(false);
  problem = $state("");
  older = $state<Older>("idle");
  trimmed = $state(false);
  /** A search of the whole log, shown in place of the live events. */
  search = $state.raw<Search | null>(null);
  /** Whether all loaded events have been looked at for the words. */
  seeking = $state(false);

  #store = new Store({});
  #wide: { store: Store; since: number } | null = null;
  #found: Found | null = null;
  #words = $state.raw<readonly string[]>([]);
  #quiet = false;
  #given: Store | null = null;
  #until: number | null = null;
  #cut: List & { of: unknown } = { of: null, items: [], first: 0 };
  #asked = 0;
  #sub: string | null = null;
  #early: Frame[] = []; // what comes before the answer to `subscribe` has been read
  #incoming: Frame[] = [];
  #planned = false;
  #pace = new Pace();
  #warmth = new Warmth();
  #ended = false;

  get list(): List {
    const all = this.search?.store.list ?? this.#found?.list ?? this.#store.list;
    if (this.#until === null) return all;
    const end = upTo(all.items, this.#until);
    if (this.#cut.of !== all.items || this.#cut.items.length !== end) {
      this.#cut = { of: all.items, items: all.items.slice(0, end), first: all.first };
    }
    return this.#cut;
  }
  get filter(): Filter {
    return this.#store.filter;
  }
  /** Those that are looked for, in lower case. */
  get wordList(): readonly string[] {
    return this.#words;
  }
  get words(): string {
    return this.#words.join(" ");
  }
  /** Whether a moment of the past is shown. */
  get past(): boolean {
    return this.#until !== null;
  }
  get held(): number {
    return this.#store.list.items.length;
  }

  /** Follow `filter`. What is loaded is narrowed at once; the daemon's answer brings the rest. */
  want(filter: Filter): void {
    this.#apply();
    const [name, now] = [nameOf(filter), performance.now()];
    if (name !== nameOf(this.#store.filter) || this.#store.cursor === null) {
      const wide = this.#wide && now - this.#wide.since < KEEP_WIDE_MS ? this.#wide.store : null;
      if (wide && name === nameOf(wide.filter)) {
        this.#store = wide;
        this.#wide = null;
      } else {
        const source = [this.#store, wide].find((store) => store?.cursor && within(filter, store.filter));
        if (source && source === this.#store && !wide) this.#wide = { store: source, since: now };
        if (!source) this.#wide = null;
        this.#store = source ? source.narrowed(filter) : new Store(filter);
        this.loaded = source !== undefined;
      }
      this.older = "idle";
      this.trimmed = false;
      this.#seekAgain();
    }
    void this.#subscribe();
  }

  /** Show these and no others: those of an exported file. */
  give(events: readonly EventJson[], filter: Filter): void {
    if (!this.#given) {
      this.#given = new Store({});
      this.#warmth.add(this.#given.append(events, "", ""));
    }
    this.#store = this.#given.narrowed(filter);
    this.loaded = true;
    this.older = "start";
    this.#seekAgain();
  }
  get given(): boolean {
    return this.#given !== null;
  }

  /** Show nothing after this `seq`; null ends that. */
  upTo(seq: number | null): void {
    if (seq === this.#until) return;
    this.#until = seq;
    this.version++;
  }

  /** Show only what contains these words. */
  seek(text: string): void {
    const words = wordsOf(text);
    if (words.join(" ") === this.#words.join(" ")) return;
    this.#words = words;
    this.#seekAgain();
  }

  /** Leave out what agents and loops say by the hundred, or show it. */
  quieten(quiet: boolean): void {
    if (quiet === this.#quiet) return;
    this.#quiet = quiet;
    this.#seekAgain();
  }
  /** Whether this event is loaded and left out. */
  leavesOut(seq: number): boolean {
    const { items } = this.#store.list;
    const item = items[upTo(items, seq) - 1];
    return this.#quiet && item?.event?.seq === seq && isNoise(item);
  }

  /** Ask the daemon's index; null goes back to the live events. */
  searchAll(text: string | null, filter: Filter): void {
    const { search } = this;
    if (text === null ? !search : search?.text === text && nameOf(search.store.filter) === nameOf(filter)) return;
    search?.stop();
    this.search = text === null ? null : new Search(text, filter, () => this.version++);
    this.version++;
  }

  async loadOlder(): Promise<void> {
    if (this.search) return this.search.more();
    const store = this.#store;
    if (this.older === "loading" || this.older === "start" || this.older === "lost" || store.oldest === null) return;
    if (store.list.items.length + PAGE > MOST) {
      this.older = "full";
      return;
    }
    this.older = "loading";
    try {
      const query = queryOf(store.filter);
      query.set("before", store.oldest);
      const page = await ask<EventPage>(`/api/events?order=desc&limit=${PAGE}&${query}`);
      if (store !== this.#store) return;
      if (page.reset) this.older = "lost";
      else {
        const added = store.prepend(page.events, page.cursor);
        this.#found?.prepend(added);
        this.#warmth.add(added);
        this.older = page.more ? "idle" : "start";
        this.#look();
      }
    } catch (failure) {
      if (store !== this.#store) return;
      this.older = "failed";
      this.problem = wordsFor(failure);
    }
    this.version++;
  }

  /** Listen on the connection that there is now; call what is returned when there is another one. */
  listen(): () => void {
    const stops = [
      live.on<Frame>("events", (frame) => this.#hear(frame)),
      live.on<ResetJson>("reset", ({ reason, cursor }) => this.#sub !== null && this.#reset(reason, cursor)),
    ];
    return () => stops.forEach((stop) => stop());
  }

  end(): void {
    this.#ended = true;
    this.#warmth.end();
    this.#asked++;
    this.search?.stop();
    if (this.#given) return;
    live.request("subscribe", { filter: NOTHING, from: "now" }).catch(() => undefined); // the next connection asks anew
  }

  async #subscribe(): Promise<void> {
    const asked = ++this.#asked;
    const store = this.#store;
    this.#sub = null;
    this.#early = [];
    try {
      const from = store.cursor ?? { last: FIRST };
      const answer = await live.request<Opened>("subscribe", { filter: store.filter, from, max_batch: 256 });
      if (asked !== this.#asked) return;
      this.problem = "";
      if (answer.status === "reset" && answer.reason) this.#reset(answer.reason, answer.cursor);
      else if (store.cursor === null) store.begin(answer.cursor);
      this.#sub = answer.sub;
      this.#drain();
      setTimeout(() => asked === this.#asked && (this.loaded = true), QUIET_MS);
    } catch (failure) {
      if (asked === this.#asked) this.problem = wordsFor(failure);
    }
  }

  #hear(frame: Frame): void {
    if (this.#sub === null) this.#early.push(frame);
    else if (frame.sub === this.#sub) {
      this.#incoming.push(frame);
      // So many without a frame of the screen: nobody looks, and they must not pile up.
      if (this.#incoming.length >= UNSEEN) this.#apply();
      else this.#plan();
    }
  }

  /** Of what came before the answer was read, only what follows it: the rest is of the subscription before. */
  #drain(): void {
    let at = this.#store.cursor;
    for (const frame of this.#early.splice(0)) {
      if (frame.sub !== this.#sub || frame.prev !== at) continue;
      at = frame.upto;
      this.#hear(frame);
    }
  }

  /** At most once per frame of the screen, and less often where drawing takes long; a page that nobody sees has none. */
  #plan(): void {
    if (this.#planned) return;
    this.#planned = true;
    const apply = () => this.#apply();
    const wait = this.#pace.wait();
    if (document.hidden) setTimeout(apply, HIDDEN_MS);
    else if (wait > FRAME_MS) setTimeout(() => requestAnimationFrame(apply), wait - FRAME_MS);
    else requestAnimationFrame(apply);
  }

  #apply(): void {
    this.#planned = false;
    if (this.#ended || !this.#incoming.length) return;
    this.#pace.begin();
    const store = this.#store;
    for (const { prev, upto, events } of this.#incoming.splice(0)) {
      if (prev !== store.cursor) {
        void this.#subscribe(); // from the cursor, so nothing is missed
        break;
      }
      const added = store.append(events, prev, upto);
      this.#found?.append(added);
      this.#warmth.add(added);
    }
    if (store.trim()) {
      this.trimmed = true;
      this.older = "idle";
      this.#found?.drop(store.list.items[0]!.n);
    }
    this.loaded = true;
    this.version++;
  }

  #reset(reason: ResetJson["reason"], cursor: string): void {
    this.#apply();
    if (cursor === this.#store.cursor) return; // said twice: in the answer and by itself
    if (this.#store.cursor === null) this.#store.begin(cursor);
    const line = this.#store.say(`Events were missed here: ${MISSED[reason] ?? reason}.`, cursor);
    this.#found?.append([line]);
    this.version++;
  }

  #seekAgain(): void {
    this.#found = this.#words.length || this.#quiet ? new Found(this.#words, this.#quiet, this.#store.list.items) : null;
    this.#look();
    this.version++;
  }

  #look(): void {
    const found = this.#found;
    this.seeking = found !== null && !found.done;
    if (!found || found.done) return;
    found.step();
    this.version++;
    // A message channel would be sooner; a frame lets the page draw what there is.
    if (!found.done) requestAnimationFrame(() => found === this.#found && this.#look());
    else this.seeking = false;
  }
}

export function wordsFor(failure: unknown): string {
  if (failure instanceof RequestFailed) {
    if (failure.code === "unauthorized") return "This page needs a session: run `claude-loop open`.";
    return `${failure.message} ${failure.hint}`.trim();
  }
  return "The daemon does not answer. `claude-loop up` starts it; this page goes on by itself.";
}
