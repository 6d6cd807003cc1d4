/** What is shown, as a file: made in the browser, of loaded events or of pages of the log. */

import type { EventJson, EventPage } from "../lib/documents";
import { ask } from "../lib/session";
import { queryOf, type Filter } from "./filter";

export type Format = "jsonl" | "csv";

/** A browser keeps the whole file in memory; `claude-loop export` has no such limit. */
export const MOST_SAVED = 100_000;
const PAGE = 1000;

const COLUMNS = ["seq", "id", "type", "project", "prd_id", "story_id", "run_id", "session_id", "source", "timestamp", "received_at"] as const;

export function written(events: Iterable<EventJson>, format: Format): string[] {
  if (format === "jsonl") return Array.from(events, (event) => JSON.stringify(event) + "\n");
  const lines = [[...COLUMNS, "data"].join(",") + "\r\n"];
  for (const event of events) {
    const cells = [...COLUMNS.map((name) => event[name]), JSON.stringify(event.data)];
    lines.push(cells.map(cell).join(",") + "\r\n");
  }
  return lines;
}

/** A spreadsheet takes what begins like a formula for one: an apostrophe before it prevents that. */
function cell(value: string | number | null): string {
  if (value === null) return "";
  if (typeof value === "number") return String(value);
  const harmless = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}

/** Oldest first; what passes `wanted` of everything in the log, at most `MOST_SAVED` of the newest. */
export async function all(
  filter: Filter,
  wanted: (event: EventJson) => boolean,
  progress: (found: number, read: number) => void,
  signal: AbortSignal,
): Promise<{ events: EventJson[]; complete: boolean }> {
  const events: EventJson[] = [];
  let before: string | null = null;
  let read = 0;
  for (;;) {
    const query = queryOf(filter);
    if (before !== null) query.set("before", before);
    const page: EventPage = await ask<EventPage>(`/api/events?order=desc&limit=${PAGE}&${query}`, signal);
    read += page.events.length;
    for (const event of page.events) if (wanted(event)) events.push(event);
    progress(events.length, read);
    if (!page.more || page.reset || events.length >= MOST_SAVED)
      return { events: events.slice(0, MOST_SAVED).reverse(), complete: !page.more };
    before = page.cursor;
  }
}

export function save(parts: string[], format: Format): void {
  const type = format === "csv" ? "text/csv" : "application/x-ndjson";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(parts, { type }));
  const stamp = new Date().toISOString().slice(0, 19).replaceAll(":", "");
  link.download = `claude-loop-events-${stamp}.${format}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
