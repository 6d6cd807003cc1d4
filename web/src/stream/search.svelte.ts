/** A search of the whole log by the daemon's index, a page at a time. */

import type { EventJson } from "../lib/documents";
import { ask, RequestFailed } from "../lib/session";
import { queryOf, type Filter } from "./filter";
import { MOST, Store } from "./store";

interface Answer {
  events: EventJson[];
  cursor: string;
  more: boolean;
  indexed_upto: number;
  head: number;
}

const PAGE = 200;

export class Search {
  readonly store: Store;
  state = $state<"loading" | "more" | "end" | "failed" | "full">("loading");
  problem = $state("");
  /** Events of the log that the index has not reached yet. */
  behind = $state(0);
  upto = $state(0);

  #cursor: string | null = null;
  #stop = new AbortController();

  constructor(
    readonly text: string,
    filter: Filter,
    private readonly changed: () => void,
  ) {
    this.store = new Store(filter);
    void this.#page();
  }

  more(): Promise<void> {
    return this.state === "more" || this.state === "failed" ? this.#page() : Promise.resolve();
  }

  stop(): void {
    this.#stop.abort();
  }

  async #page(): Promise<void> {
    if (this.store.list.items.length + PAGE > MOST) {
      this.state = "full";
      return;
    }
    this.state = "loading";
    const query = queryOf(this.store.filter);
    query.set("q", this.text);
    query.set("limit", String(PAGE));
    if (this.#cursor !== null) query.set("before", this.#cursor);
    try {
      const page = await ask<Answer>(`/api/search?${query}`, this.#stop.signal);
      this.store.prepend(page.events, page.cursor);
      this.#cursor = page.cursor;
      this.upto = page.indexed_upto;
      this.behind = Math.max(0, page.head - page.indexed_upto);
      this.state = page.more ? "more" : "end";
    } catch (failure) {
      if (this.#stop.signal.aborted) return;
      this.problem = failure instanceof RequestFailed ? wordsOf(failure) : "The daemon does not answer.";
      this.state = "failed";
    }
    this.changed();
  }
}

function wordsOf({ code, message, hint }: RequestFailed): string {
  if (code === "not_found") return "This daemon has no search yet. The loaded events can be searched all the same.";
  return `${message} ${hint}`.trim();
}
