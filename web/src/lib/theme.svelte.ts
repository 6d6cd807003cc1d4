/** Light, dark, or what the system says. */

export type Theme = "auto" | "light" | "dark";
const KEY = "claude-loop-theme";
const THEMES: readonly Theme[] = ["auto", "light", "dark"];

class ThemeChoice {
  current = $state<Theme>("auto");

  constructor() {
    const kept = localStorage.getItem(KEY) as Theme | null;
    if (kept && THEMES.includes(kept)) this.current = kept;
    this.#show();
  }

  next(): void {
    this.current = THEMES[(THEMES.indexOf(this.current) + 1) % THEMES.length]!;
    localStorage.setItem(KEY, this.current);
    this.#show();
  }

  #show(): void {
    if (this.current === "auto") delete document.documentElement.dataset["theme"];
    else document.documentElement.dataset["theme"] = this.current;
  }
}

export const theme = new ThemeChoice();
