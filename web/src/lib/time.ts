/** Durations and moments in words, in the viewer's zone. */

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const two = (number: number) => String(number).padStart(2, "0");

/** As on a stopwatch: `42s`, `12m`, `4h12m`, `3d4h`. */
export function short(ms: number): string {
  const time = Math.max(0, ms);
  if (time < MINUTE) return `${Math.floor(time / 1000)}s`;
  if (time < HOUR) return `${Math.floor(time / MINUTE)}m`;
  if (time < DAY) return `${Math.floor(time / HOUR)}h${two(Math.floor(time / MINUTE) % 60)}m`;
  return `${Math.floor(time / DAY)}d${Math.floor(time / HOUR) % 24}h`;
}

/** Within a sentence: `42 s`, `12 min`, `4 h 12 min`, `3 days`. */
export function spoken(ms: number): string {
  const time = Math.max(0, ms);
  if (time < MINUTE) return `${Math.floor(time / 1000)} s`;
  if (time < HOUR) return `${Math.floor(time / MINUTE)} min`;
  if (time < 10 * HOUR) return `${Math.floor(time / HOUR)} h ${Math.floor(time / MINUTE) % 60} min`;
  if (time < 2 * DAY) return `${Math.round(time / HOUR)} h`;
  return `${Math.round(time / DAY)} days`;
}

export const ago = (at: number, now: number) => (now - at < 1000 ? "now" : `${spoken(now - at)} ago`);

/** How precise a test's time is: `840 ms`, `3.2 s`, else as `spoken`. */
export function precise(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return ms < MINUTE ? `${(ms / 1000).toFixed(1)} s` : spoken(ms);
}

const sameDay = (a: number, b: number) => new Date(a).toDateString() === new Date(b).toDateString();

/** `02:14`, and the day when it is another one. */
export function clock(at: number, now: number): string {
  const date = new Date(at);
  const time = `${two(date.getHours())}:${two(date.getMinutes())}`;
  if (sameDay(at, now)) return time;
  return `${dayAndMonth.format(at)}, ${time}`;
}

// Made once: making one costs as much as a hundred uses.
const inFull = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
const dayAndMonth = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

/** All there is to say about a moment; for the title of a relative time. */
export const absolute = (at: number) => inFull.format(at);

/** What remains, as a range: `1–2 h left`, `10–25 min left`, `less than a minute left`. */
export function left(from: number, to: number, now: number): string {
  const [low, high] = [Math.max(0, from - now), Math.max(0, to - now)];
  if (high < MINUTE) return "about done";
  const [unit, name] = high < 90 * MINUTE ? [MINUTE, "min"] : high < 2 * DAY ? [HOUR, "h"] : [DAY, "days"];
  const [a, b] = [Math.floor(low / unit), Math.ceil(high / unit)];
  if (a === 0) return `up to ${b} ${name} left`;
  return a === b ? `about ${b} ${name} left` : `${a}–${b} ${name} left`;
}
