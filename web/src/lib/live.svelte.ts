/** The live state: documents kept up to date over Socket.IO, and how the connection stands. */

import { io, type Socket } from "socket.io-client";
import type { Patch } from "./documents";
import { applied, type Document, type Documents } from "./patches";
import { enter, forget, RequestFailed, token } from "./session";

export type Link = "connecting" | "live" | "reconnecting" | "unauthorized" | "refused";

/** The PRD whose runs and stories are wanted, beside the cards of all. */
export interface Watched {
  prd_id: string;
  project: string | null;
  run_id?: string;
}

interface Snapshot {
  seq: number;
  cursor: string;
  now: number;
  stalled_after_ms: number;
  documents: Record<string, Record<string, unknown>>;
}

type Answer<T> = (T & { ok: true }) | { ok: false; error: { code: string; message: string; hint?: string } };

const ANSWER_MS = 15_000;
const ASK_AGAIN_MS = 3000;

class Live {
  documents = $state.raw<Documents>(new Map());
  /** Whether the documents are there; until then nothing is known, which is not the same as nothing. */
  loaded = $state(false);
  link = $state<Link>("connecting");
  /** What is wrong and what to do, in words; empty while all is well. */
  problem = $state("");
  lastEventAt = $state<number | null>(null);
  /** The daemon's clock, a second at a time. */
  now = $state(Date.now());
  /** Counts connections: whoever asked the last one for something asks again when this changes. */
  connection = $state(0);

  #ahead = 0; // of this browser's clock
  #socket: Socket | null = null;
  #watched: Watched | null = null;
  #asked = 0;

  async start(): Promise<void> {
    setInterval(() => (this.now = Date.now() + this.#ahead), 1000);
    try {
      await enter();
    } catch (failure) {
      this.link = failure instanceof RequestFailed ? "unauthorized" : "reconnecting";
      this.problem = failure instanceof RequestFailed ? `${failure.message} ${failure.hint}` : "The daemon does not answer.";
      if (failure instanceof RequestFailed) return;
    }
    this.#connect();
  }

  /** Which PRD's stories are wanted; the documents of another one go. */
  watch(prd: Watched | null): void {
    if (JSON.stringify(prd) === JSON.stringify(this.#watched)) return;
    this.#watched = prd;
    if (this.#socket?.connected) void this.#ask();
  }

  /** A request over the socket. Throws `RequestFailed`. */
  async request<T>(name: string, value: unknown): Promise<T> {
    if (!this.#socket) throw new RequestFailed("disconnected", "There is no connection.", "");
    const answer = (await this.#socket.timeout(ANSWER_MS).emitWithAck(name, value)) as Answer<T>;
    if (answer.ok) return answer;
    throw new RequestFailed(answer.error.code, answer.error.message, answer.error.hint ?? "");
  }

  /** Hear a message of the server; call what is returned to stop. */
  on<T>(name: string, heard: (value: T) => void): () => void {
    const socket = this.#socket;
    socket?.on(name, heard);
    return () => socket?.off(name, heard);
  }

  #connect(): void {
    const socket = io({
      // A subscription that nothing matches: without one, every event would come.
      auth: (give) => give({ ...(token() && { token: token() }), subscribe: { filter: { types: ["-"] }, from: "now" } }),
      transports: ["websocket", "polling"],
      reconnectionDelay: 300,
      reconnectionDelayMax: 3000,
    });
    this.#socket = socket;
    socket.on("connected", () => {
      this.connection += 1;
      void this.#ask();
    });
    socket.on("patches", (frame: { now: number; patches: Patch[] }) => this.#apply(frame));
    socket.on("connect_error", (failure: Error & { data?: { code?: string; hint?: string } }) => this.#failed(failure));
    socket.on("disconnect", (reason) => {
      this.link = "reconnecting";
      this.problem = "The connection to the daemon is gone. Trying again; `claude-loop up` starts it if it is down.";
      if (reason === "io server disconnect") setTimeout(() => socket.connect(), 500);
    });
  }

  async #ask(): Promise<void> {
    const asked = ++this.#asked;
    try {
      const snapshot = await this.request<Snapshot>("watch", this.#watched ? { prd: this.#watched } : {});
      if (asked === this.#asked) this.#begin(snapshot);
    } catch (failure) {
      if (asked !== this.#asked) return;
      this.problem = `The daemon did not send its state: ${failure instanceof Error ? failure.message : String(failure)}`;
      setTimeout(() => asked === this.#asked && this.#socket?.connected && void this.#ask(), ASK_AGAIN_MS);
    }
  }

  #begin({ documents, now }: Pick<Snapshot, "documents" | "now">): void {
    this.documents = new Map(Object.entries(documents));
    this.loaded = true;
    this.link = "live";
    this.problem = "";
    this.#tell(now);
    // Of a run, or of an agent without a PRD.
    for (const { last } of this.documents.values()) if (last) this.#heard(last);
  }

  #apply({ now, patches }: { now: number; patches: Patch[] }): void {
    if (!this.loaded) return;
    this.documents = applied(this.documents, patches);
    // Their own time would not do: a run that goes silent changes by the clock alone, without an event.
    for (const { path, value } of patches) {
      const last = path.length === 1 ? (value as Document | null)?.["last"] : path[1] === "last" && value;
      if (last) this.#heard(last);
    }
    this.#tell(now);
  }

  #heard(last: unknown): void {
    const { at } = last as { at: number };
    if (this.lastEventAt === null || at > this.lastEventAt) this.lastEventAt = at;
  }

  /** Every frame of patches says what time it is; every relative time drawn anew for each would be a waste. */
  #tell(now: number): void {
    this.#ahead = now - Date.now();
    if (Math.abs(now - this.now) > 1500) this.now = now;
  }

  #failed(failure: Error & { data?: { code?: string; hint?: string } }): void {
    const code = failure.data?.code;
    if (code === "unauthorized" && token()) {
      forget(); // a session ends with its daemon; without one the next attempt may be known by its connection
      setTimeout(() => this.#socket?.connect(), 200);
      return;
    }
    if (code === undefined) {
      this.link = this.loaded ? "reconnecting" : "connecting";
      this.problem = "The daemon does not answer. `claude-loop up` starts it; this page goes on by itself.";
      return;
    }
    this.link = code === "unauthorized" ? "unauthorized" : "refused";
    this.problem = code === "unauthorized" ? "This page needs a session: run `claude-loop open`." : `${failure.message} ${failure.data?.hint ?? ""}`;
    setTimeout(() => this.#socket?.connect(), 5000);
  }
}

export const live = new Live();
