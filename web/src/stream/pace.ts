/** How often to draw: what a drawing costs is at most a third of the time, so that the page stays at hand. */

const SHARE = 3;
const MOST_MS = 250;

export class Pace {
  #began = 0;
  #cost = 0;
  #after = new MessageChannel();

  constructor() {
    // A task posted while a frame is made runs when it has been.
    this.#after.port1.onmessage = () => (this.#cost = performance.now() - this.#began);
  }

  /** Drawing begins. */
  begin(): void {
    this.#began = performance.now();
    this.#after.port2.postMessage(0);
  }

  /** Milliseconds until it should begin again. */
  wait(): number {
    return this.#began + Math.min(MOST_MS, this.#cost * SHARE) - performance.now();
  }
}
