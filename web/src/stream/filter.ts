/** Which events are wanted: the daemon's filter, as it stands in the address and as it is asked for. */

import type { EventJson } from "../lib/documents";

/** Values within a key are alternatives, keys must all hold. The names are those of `subscribe`. */
export type Filter = Readonly<Partial<Record<FilterKey, readonly string[]>>>;
export type FilterKey = (typeof KEYS)[number]["key"];

/** `name` is the parameter of this page's address, `query` that of `GET /api/events`. */
export const KEYS = [
  { key: "types", name: "type", query: "type", field: "type", words: "type" },
  { key: "projects", name: "project", query: "project", field: "project", words: "project" },
  { key: "prd_ids", name: "prd", query: "prd_id", field: "prd_id", words: "PRD" },
  { key: "story_ids", name: "story", query: "story_id", field: "story_id", words: "story" },
  { key: "sources", name: "source", query: "source", field: "source", words: "source" },
  { key: "run_ids", name: "run", query: "run_id", field: "run_id", words: "run" },
  { key: "session_ids", name: "session", query: "session_id", field: "session_id", words: "session" },
] as const;

const LONGEST = 128; // as the daemon takes them
const MOST = 100;

/** What the address asks for. Keys of `base` are the page's own business and not read. */
export function fromAddress(query: URLSearchParams, base: Filter): Filter {
  const found: Partial<Record<FilterKey, string[]>> = {};
  for (const { key, name } of KEYS) {
    // A PRD's own page has its project and run in the address too.
    if (base[key] || (base.prd_ids && (key === "run_ids" || key === "projects"))) continue;
    const values = [...new Set(query.getAll(name))].filter((value) => value && value.length <= LONGEST).slice(0, MOST);
    if (values.length) found[key] = values;
  }
  return found;
}

export const merged = (base: Filter, more: Filter): Filter => ({ ...more, ...base });

/** Equal filters have equal names. */
export const nameOf = (filter: Filter) =>
  JSON.stringify(KEYS.map(({ key }) => [...(filter[key] ?? [])].sort()));

export function queryOf(filter: Filter): URLSearchParams {
  const query = new URLSearchParams();
  for (const { key, query: name } of KEYS) for (const value of filter[key] ?? []) query.append(name, value);
  return query;
}

export function matcher(filter: Filter): (event: EventJson) => boolean {
  const tests = KEYS.flatMap(({ key, field }) => {
    const wanted = filter[key];
    if (!wanted?.length) return [];
    if (key === "types") return [typeTest(wanted)];
    const exact = new Set<string | null>(wanted);
    return [(event: EventJson) => exact.has(event[field])];
  });
  return (event) => tests.every((test) => test(event));
}

function typeTest(wanted: readonly string[]): (event: EventJson) => boolean {
  const known = new Map<string, boolean>(); // types are few, events are many
  return ({ type }) => {
    let answer = known.get(type);
    if (answer === undefined) {
      answer = wanted.some((pattern) => globMatches(pattern, type));
      known.set(type, answer);
    }
    return answer;
  };
}

/** `*` is any run of characters, dots too; `?` is one. In linear time for each star, whatever the pattern. */
function globMatches(pattern: string, text: string): boolean {
  let [p, t, star, mark] = [0, 0, -1, 0];
  while (t < text.length) {
    if (pattern[p] === "*") {
      star = p++;
      mark = t;
    } else if (p < pattern.length && (pattern[p] === "?" || pattern[p] === text[t])) {
      p++;
      t++;
    } else if (star >= 0) {
      p = star + 1;
      t = ++mark;
    } else return false;
  }
  while (pattern[p] === "*") p++;
  return p === pattern.length;
}

/** Whether all that `narrow` lets through passes `wide` too, as far as can be told without thinking hard. */
export function within(narrow: Filter, wide: Filter): boolean {
  return KEYS.every(({ key }) => {
    const allowed = wide[key];
    if (!allowed?.length) return true;
    const wanted = narrow[key];
    if (!wanted?.length) return false;
    return wanted.every((value) => allowed.includes(value) || (key === "types" && covered(value, allowed)));
  });
}

const covered = (type: string, globs: readonly string[]) =>
  !/[*?]/.test(type) && globs.some((glob) => globMatches(glob, type));
