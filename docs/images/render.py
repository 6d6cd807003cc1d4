"""Renders what `claude-loop demo` prints as docs/images/demo.svg.

bin/claude-loop demo | python docs/images/render.py > docs/images/demo.svg
"""

from __future__ import annotations

import re
import sys
from html import escape

COLOURS = {
    "▶": "#56b6c2",
    "▷": "#56b6c2",
    "↻": "#56b6c2",
    "✓": "#98c379",
    "■": "#98c379",
    "✗": "#e06c75",
    "●": "#e5c07b",
    "⏸": "#c678dd",
}
EVENT = re.compile(r"\d\d:\d\d:\d\d ")  # the words around the events name places on the machine
PAUSE = "⏸"  # few monospace fonts have it: it is drawn
CHARACTER, LINE, MARGIN = 8.43, 20, 16


def main() -> None:
    events = [line.rstrip("\n") for line in sys.stdin if EVENT.match(line)]
    lines = ["$ bin/claude-loop demo", *events]
    width = round(MARGIN * 2 + CHARACTER * max(map(len, lines)))
    height = MARGIN * 2 + LINE * len(lines)
    print(f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">')
    print(f'<rect width="{width}" height="{height}" rx="8" fill="#1e2127"/>')
    print('<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono, monospace" font-size="14">')
    for number, line in enumerate(lines):
        mark = next((character for character in line if character in COLOURS), None)
        place = line.index(mark) if mark else len(line)
        y = MARGIN + LINE * number + 15
        text(MARGIN, y, line[:place], "#8b929e" if mark else "#d7dae0")
        if mark:
            text(MARGIN + CHARACTER * place, y, line[place:].replace(PAUSE, " "), COLOURS[mark])
        if mark == PAUSE:
            pause(MARGIN + CHARACTER * place, y, COLOURS[mark])
    print("</g>\n</svg>")


def text(x: float, y: float, content: str, colour: str) -> None:
    if content.strip():
        length = round(CHARACTER * len(content), 1)
        print(
            f'<text x="{x:.1f}" y="{y}" fill="{colour}" textLength="{length}" lengthAdjust="spacingAndGlyphs"'
            f' xml:space="preserve">{escape(content)}</text>'
        )


def pause(x: float, y: float, colour: str) -> None:
    for shift in (0.5, 5):
        print(f'<rect x="{x + shift:.1f}" y="{y - 9}" width="2.5" height="9" fill="{colour}"/>')


if __name__ == "__main__":
    main()
