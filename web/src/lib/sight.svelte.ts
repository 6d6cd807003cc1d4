/** Parts of a page that are out of sight follow a moment later: a hand on the scrubber waits for what it sees. */

const LATER_MS = 150;
const NEAR = "200px"; // it may be scrolled to at any moment

export class Sight {
  inSight = $state(true);

  /** Begin with an element; the result ends it. */
  of(element: Element): () => void {
    const observer = new IntersectionObserver((entries) => (this.inSight = entries.at(-1)!.isIntersecting), {
      rootMargin: NEAR,
    });
    observer.observe(element);
    return () => observer.disconnect();
  }
}

/** `value` while it is in sight, else as it was at most a moment ago. To be called while a component is made. */
export function following<T>(value: () => T, sight: Sight): { readonly current: T } {
  let current = $state.raw(value());
  let latest = current;
  let timer = 0;
  $effect.pre(() => {
    latest = value();
    if (sight.inSight) current = latest;
    else timer ||= window.setTimeout(() => ([timer, current] = [0, latest]), LATER_MS);
  });
  $effect(() => () => clearTimeout(timer));
  return {
    get current() {
      return current;
    },
  };
}
