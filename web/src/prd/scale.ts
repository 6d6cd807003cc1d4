/** Time to pixels, and round moments for an axis. */

const [S, M, H, D] = [1000, 60_000, 3_600_000, 86_400_000];
const STEPS = [S, 2 * S, 5 * S, 15 * S, 30 * S, M, 2 * M, 5 * M, 10 * M, 15 * M, 30 * M, H, 2 * H, 3 * H, 6 * H, 12 * H, D, 2 * D, 7 * D, 30 * D];
const TICK_PX = 84;
const LETTER_PX = 6.2; // of an axis, a little more than it takes
const SHORTEST_MS = 5 * S;

export interface Span {
  from: number;
  to: number;
}

export interface Tick {
  at: number;
  words: string;
}

export const xOf = (at: number, { from, to }: Span, width: number) => ((at - from) / Math.max(1, to - from)) * width;

export function ticks(span: Span, width: number): Tick[] {
  const most = Math.max(1, width / TICK_PX);
  const step = STEPS.find((each) => (span.to - span.from) / each <= most) ?? STEPS.at(-1)!;
  const shift = new Date(span.from).getTimezoneOffset() * M; // round in the viewer's zone
  const found: Tick[] = [];
  for (let at = Math.ceil((span.from - shift) / step) * step + shift; at <= span.to; at += step) {
    found.push({ at, words: said(at, step) });
  }
  return found;
}

/** Whether all of a tick's words are within the drawing, `beside` pixels behind their moment. */
export const fits = (tick: Tick, span: Span, width: number, beside: number) =>
  xOf(tick.at, span, width) + beside + tick.words.length * LETTER_PX <= width;

function said(at: number, step: number): string {
  const date = new Date(at);
  if (step >= D || (date.getHours() === 0 && date.getMinutes() === 0 && step >= M))
    return date.toLocaleDateString(undefined, { day: "numeric", month: "short" });
  return date.toLocaleTimeString(undefined, {
    hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...(step < M && { second: "2-digit" }),
  });
}

/** The span made `factor` times as long around `around`, within `whole`. */
export function zoomed(span: Span, factor: number, around: number, whole: Span): Span | null {
  const length = Math.max(SHORTEST_MS, (span.to - span.from) * factor);
  if (length >= whole.to - whole.from) return null;
  const share = (around - span.from) / (span.to - span.from);
  return within({ from: around - share * length, to: around + (1 - share) * length }, whole);
}

export function within(span: Span, whole: Span): Span {
  const by = Math.max(whole.from - span.from, 0) || Math.min(whole.to - span.to, 0);
  return { from: span.from + by, to: span.to + by };
}
