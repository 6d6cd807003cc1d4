/** What agents used, in words: those of the terminal (claude_loop/cli/amounts.py). */

const grouped = (value: number, digits: number) =>
  value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });

/** `$14.20`, `$1,240`; less than half a cent is said to be so. */
export function money(usd: number): string {
  if (usd > 0 && usd < 0.005) return "<$0.01";
  return `$${grouped(usd, usd < 1000 ? 2 : 0)}`;
}

/** `900`, `54.7k`, `3.4M`. */
export function tokens(count: number): string {
  for (const [size, unit] of [[1e6, "M"], [1e3, "k"]] as const) {
    if (count >= size) return (count / size).toFixed(count / size < 100 ? 1 : 0) + unit;
  }
  return String(Math.round(count));
}

const isAmount = (value: unknown): value is number => typeof value === "number" && value >= 0;

/** `$14.20`, `3.4M tokens in`, `54.7k out`: what can be read of a report, or of a run's sum. */
export function spent(usage: { [key in "cost_usd" | "input_tokens" | "output_tokens"]?: unknown }): string[] {
  const { cost_usd: cost, input_tokens: read, output_tokens: written } = usage;
  return [
    isAmount(cost) && money(cost),
    isAmount(read) && `${tokens(read)} tokens in`,
    isAmount(written) && `${tokens(written)} ${isAmount(read) ? "out" : "tokens out"}`,
  ].filter((words) => words !== false);
}
