/** Opt-in browser notifications: when a run ends, fails or waits, and when an agent without a PRD waits. */

import type { Concern } from "./concerns";
import { route } from "./route.svelte";

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
  tell(concerns: readonly Concern[], now: number): void {
    const before = this.#before;
    this.#before = new Map(concerns.map(({ key, signature }) => [key, signature]));
    if (!this.on || !before || !document.hidden) return;
    for (const { key, signature, state, title, words, address } of concerns) {
      if (before.get(key) === signature || QUIET.has(state)) continue;
      const shown = new Notification(title, { body: words(now), tag: key });
      shown.onclick = () => {
        focus();
        route.go(address);
        shown.close();
      };
    }
  }
}

export const notify = new Notify();
