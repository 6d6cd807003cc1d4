import type { EventJson, Patch } from "../lib/documents";
import type { Document } from "../lib/patches";

/** What `claude-loop export --format html` puts into the page. */
export interface Exported {
  prd: string;
  title: string | null;
  project: string | null;
  exported_at: string | number;
  version: string;
  documents: Record<string, Document>;
  patches: Patch[];
  events: EventJson[];
}

/** Null in a page that nothing was put into. */
export function exportedHere(): Exported | null {
  const value: unknown = JSON.parse(document.getElementById("replay")?.textContent ?? "null");
  return typeof value === "object" ? (value as Exported | null) : null;
}
