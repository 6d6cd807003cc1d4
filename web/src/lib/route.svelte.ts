/** Which view the address names. */

export type View =
  | { name: "overview" }
  | { name: "prd"; prd: string }
  | { name: "session"; session: string }
  | { name: "events" }
  | { name: "system" }
  | { name: "unknown" };

function viewOf(path: string): View {
  if (path === "/") return { name: "overview" };
  if (path === "/events") return { name: "events" };
  if (path === "/system") return { name: "system" };
  if (path.startsWith("/prd/") && path.length > 5) return { name: "prd", prd: decoded(path.slice(5)) };
  if (path.startsWith("/session/") && path.length > 9) return { name: "session", session: decoded(path.slice(9)) };
  return { name: "unknown" };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a stray % in an address typed by hand
  }
}

class Route {
  view = $state.raw<View>(viewOf(location.pathname));
  query = $state.raw(new URLSearchParams(location.search));

  constructor() {
    addEventListener("popstate", () => this.#read());
    addEventListener("click", (event) => this.#followed(event));
  }

  go(address: string): void {
    history.pushState(null, "", address);
    this.#read();
    scrollTo(0, 0);
  }

  /** Change parameters of the address, without an entry in the history; null, or no value, takes one away. */
  amend(changes: Record<string, string | readonly string[] | null>): void {
    const query = new URLSearchParams(location.search);
    for (const [name, value] of Object.entries(changes)) {
      query.delete(name);
      for (const each of [value ?? []].flat()) query.append(name, each);
    }
    const text = query.toString();
    history.replaceState(null, "", location.pathname + (text ? `?${text}` : ""));
    this.#read();
  }

  #read(): void {
    this.view = viewOf(location.pathname);
    this.query = new URLSearchParams(location.search);
  }

  /** Links within the page need no load; all others, and those for another tab, are the browser's. */
  #followed(event: MouseEvent): void {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey)
      return;
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (viewOf(link.pathname).name === "unknown" || link.hash) return;
    event.preventDefault();
    this.go(link.pathname + link.search);
  }
}

export const route = new Route();

export function prdAddress(project: string | null, prd: string, run?: string | null): string {
  const query = new URLSearchParams();
  query.set("project", project ?? "");
  if (run) query.set("run", run);
  return `/prd/${encodeURIComponent(prd)}?${query}`;
}

export const sessionAddress = (project: string | null, session: string): string =>
  `/session/${encodeURIComponent(session)}${project === null ? "" : `?${new URLSearchParams({ project })}`}`;
