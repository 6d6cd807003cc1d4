"""The report as one file: no script, nothing loaded, light and dark as the reader's system is."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from claude_loop.cli.report_text import happened, heading, need_line, parts

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2128; --soft: #5b6673; --paper: #fff; --card: #f4f6f8; --act: #9a3412; --line: #d5dbe1 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e3e8ee; --soft: #98a4b1; --paper: #14181d; --card: #1c2229; --act: #fdba74; --line: #323b45 }
}
body { margin: 2rem auto; max-width: 56rem; padding: 0 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif }
h1 { font-size: 1.3rem } h2 { font-size: 1.05rem; margin: 0 0 .4rem; overflow-wrap: anywhere }
section { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; margin: 1rem 0; padding: .8rem 1rem }
section.needs { border-color: var(--act) } section.needs h2 { color: var(--act) }
ul { margin: 0; padding-left: 1.2rem } li { overflow-wrap: anywhere } .below { margin-left: 1.2rem } p { color: var(--soft) }
"""  # noqa: E501 - a line a rule


def as_html(report: dict[str, Any]) -> str:
    return "".join(_parts(report))


def _parts(report: dict[str, Any]) -> Iterator[str]:
    title = escape(heading(report))
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    yield f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
    if report["needs"]:
        yield from _section("Needs you now", [need_line(need, report) for need in report["needs"]], "needs")
    else:
        yield "<p>Nothing needs you.</p>\n"
    for _, about, body in parts(report):
        yield from _section(about, list(body), "prd")
    if not happened(report):
        yield "<p>Nothing happened.</p>\n"
    yield "</body>\n</html>\n"


def _section(title: str, lines: list[str], kind: str) -> Iterator[str]:
    yield f'<section class="{kind}">\n<h2>{escape(title)}</h2>\n'
    if lines:
        items = (f"<li{_below(line)}>{escape(line.removeprefix('- '))}</li>\n" for line in lines)
        yield "<ul>\n" + "".join(items) + "</ul>\n"
    yield "</section>\n"


def _below(line: str) -> str:
    return ' class="below"' if line.startswith("- ") else ""
