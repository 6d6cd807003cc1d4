/** Where the filter is kept: in the page's address, but for an exported file, which has none of its own. */

export interface Address {
  readonly query: URLSearchParams;
  amend(changes: Record<string, string | readonly string[] | null>): void;
}

export class LocalAddress implements Address {
  query = $state.raw(new URLSearchParams());

  amend(changes: Record<string, string | readonly string[] | null>): void {
    const query = new URLSearchParams(this.query);
    for (const [name, value] of Object.entries(changes)) {
      query.delete(name);
      for (const each of [value ?? []].flat()) query.append(name, each);
    }
    this.query = query;
  }
}
