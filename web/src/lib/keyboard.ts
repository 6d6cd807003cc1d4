/** Keys for those who know them. A view adds its own while it is shown. */

export type Keys = Record<string, () => void>;

const layers: Keys[] = [];
const SECOND_MS = 1200; // the second key of `g o` follows within
let first: { key: string; at: number } | null = null;

/** Until what is returned is called. Two keys in a row are written with a space: `g o`. */
export function keys(layer: Keys): () => void {
  layers.push(layer);
  return () => void layers.splice(layers.indexOf(layer), 1);
}

function typing(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (typing(event.target)) {
    if (event.key !== "Escape") return;
    event.preventDefault(); // Chromium would empty a search field that it has just left, and tell nobody
    (event.target as HTMLElement).blur();
    return;
  }
  const chord = first && event.timeStamp - first.at < SECOND_MS ? `${first.key} ${event.key}` : event.key;
  const layer = layers.findLast((each) => chord in each) ?? layers.findLast((each) => event.key in each);
  const action = layer?.[chord in layer ? chord : event.key];
  first = action ? null : { key: event.key, at: event.timeStamp };
  if (!action) return;
  event.preventDefault();
  action();
});
