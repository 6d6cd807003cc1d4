/** Favicon and title: the worst state, seen from another tab. */

import type { Concern } from "./concerns";

const COLOURS: Record<string, string> = {
  waiting: "#d97706", vanished: "#dc2626", failed: "#dc2626", stalled: "#ea580c", paused: "#6b7280", running: "#2563eb", today: "#16a34a",
};
// Shapes on a disc of 16: not the colour alone says what it is.
const SHAPES: Record<string, string> = {
  waiting: "<path d='M5.5 4.5v7M10.5 4.5v7'/>",
  paused: "<path d='M5.5 4.5v7M10.5 4.5v7'/>",
  vanished: "<path d='M8 4v5M8 11.6v.1'/>",
  failed: "<path d='m5 5 6 6m0-6-6 6'/>",
  stalled: "<path d='M4.5 8h.1M8 8h.1M11.5 8h.1'/>",
  running: "<path d='m6.2 4.6 5 3.4-5 3.4z' fill='#fff'/>",
  today: "<path d='m4.6 8.2 2.4 2.4 4.4-5'/>",
};
const SAID: Record<string, string> = {
  waiting: "waiting", vanished: "gone", failed: "failed", stalled: "silent", paused: "paused", running: "running", today: "done lately",
};

/** They come most urgent first. */
export function worst(concerns: readonly Concern[]): { icon: string; title: string } {
  const group = concerns[0]?.group ?? "earlier";
  if (!(group in SHAPES)) return { icon: "/icon.svg", title: "claude-loop" };
  const count = concerns.filter((each) => each.group === group).length;
  const svg =
    `<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><circle cx='8' cy='8' r='8' fill='${COLOURS[group]}'/>` +
    `<g fill='none' stroke='#fff' stroke-width='2' stroke-linecap='round' stroke-linejoin='round'>${SHAPES[group]}</g></svg>`;
  return { icon: `data:image/svg+xml,${encodeURIComponent(svg)}`, title: `${count} ${SAID[group]} · claude-loop` };
}

export function wear({ icon, title }: { icon: string; title: string }): void {
  if (document.title !== title) document.title = title;
  const link = document.querySelector<HTMLLinkElement>("link[rel=icon]");
  if (link && link.getAttribute("href") !== icon) link.href = icon;
}
