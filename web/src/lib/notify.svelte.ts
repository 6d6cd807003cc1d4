/** Opt-in browser notifications: when a run ends, fails or waits. */

import type { Card } from "./cards";
import { prdAddress, route } from "./route.svelte";
import { stateWords } from "./words";

const KEY = "claude-loop-notify";
const QUIET = new Set(["running", "paused"]);

class Notify {
  on = $state(localStorage.getItem(KEY) === "on" && this.possible && Notification.permission === "granted");
  #before: Map<string, string> | null = null;

  get possible(): boolean {
    return "Notification" in globalThis;
  }

  async toggle(): Promise<void> {
    this.on = !this.on && (await Notification.requestPermission()) === "granted";
    localStorage.setItem(KEY, this.on ? "on" : "off");
  }

  /** To be told of every change; speaks of what changed since the last time, and only to who is not looking. */
  tell(cards: readonly Card[], now: number): void {
    const before = this.#before;
    this.#before = new Map(cards.map((card) => [card.key, `${card.run.run_id} ${card.run.state}`]));
    if (!this.on || !before || !document.hidden) return;
    for (const { key, prd, run } of cards) {
      if (before.get(key) === this.#before.get(key) || QUIET.has(run.state)) continue;
      const shown = new Notification(`${prd.prd_id} ${prd.title ?? ""}`.trim(), { body: stateWords(run, now), tag: key });
      shown.onclick = () => {
        focus();
        route.go(prdAddress(prd.project, prd.prd_id));
        shown.close();
      };
    }
  }
}

export const notify = new Notify();
