/** The parts of `/status` that the schema leaves open. */

export interface Log {
  events: number;
  bytes: number;
  first: number;
  head: number;
  failure: string | null;
  retention: { days: number | null; events: number | null };
}

export interface RejectedLine {
  at?: string;
  file?: string;
  reason?: string;
  line?: string;
}

export interface Spool {
  backlog_files: number;
  backlog_bytes: number;
  rejected: number;
  failure: string | null;
  rejected_lines: RejectedLine[];
}

export interface Refusal {
  at: string;
  transport: string;
  code: string;
  field: string | null;
  message: string;
}

export function bytes(count: number): string {
  if (count < 1024) return `${count} B`;
  const units = ["KB", "MB", "GB", "TB"];
  const power = Math.min(units.length, Math.floor(Math.log(count) / Math.log(1024)));
  const value = count / 1024 ** power;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[power - 1]}`;
}

export const ms = (value: number) => (value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`);
export const count = (value: number) => Math.round(value).toLocaleString("en");
export const rate = (value: number) => (value < 10 ? value.toFixed(1) : count(value));
