/** Text of events is hostile: what cannot be seen is made visible, what is endless is cut. */

// C0 and C1 controls, lone surrogates, and what reorders or hides text around it. The joiners of emoji and of
// Persian stay: they harm nobody.
const UNSEEN = /[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]|\p{Cs}/gu;

// What programs colour their complaints with: left out of a line, and kept where an event is shown as JSON.
const COLOURS = /\x1b\[[0-9;:]{0,40}[mK]/g;

const escaped = (unit: number) => `\\u${unit.toString(16).padStart(4, "0")}`;

function shown(character: string): string {
  const code = character.codePointAt(0)!;
  if (code < 0x20) return String.fromCharCode(0x2400 + code); // ␀ and its neighbours
  if (code === 0x7f) return "␡";
  return `‹U+${code.toString(16).toUpperCase().padStart(4, "0")}›`;
}

/** On one line, without colours, at most `most` characters. */
export function visible(value: unknown, most = 500): string {
  let text = typeof value === "string" ? value : String(value);
  if (text.length > most * 2) text = text.slice(0, most * 2); // what is cut away anyway need not be looked at
  text = text.replace(COLOURS, "").replace(/[\t\r\n]+/g, " ");
  if (text.length > most) text = text.slice(0, most - 1).replace(/[\ud800-\udbff]$/, "") + "…";
  return text.replace(UNSEEN, shown);
}

/** JSON for people that is still the same JSON: what cannot be seen is escaped. */
export function visibleJson(value: unknown): string {
  return JSON.stringify(value, null, 2).replace(UNSEEN, (each) =>
    each === "\n" ? each : [...Array(each.length).keys()].map((index) => escaped(each.charCodeAt(index))).join(""),
  );
}

export function sizeWords(characters: number): string {
  return characters < 2048 ? `${characters} characters` : `${Math.round(characters / 1024)} KB`;
}
