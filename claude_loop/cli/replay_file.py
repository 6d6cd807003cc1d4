"""One file that holds a PRD's replay: the page, built with everything inside, and the patches it plays."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import quote

from claude_loop import __version__, resources
from claude_loop.cli.export import stored_events
from claude_loop.cli.named import detail_of
from claude_loop.client import DaemonClient
from claude_loop.errors import Internal, NotSupported

# What the page's build puts where the replay goes, as the only content of a script element that holds JSON.
PLACE = '"__CLAUDE_LOOP_REPLAY__"'
# Written so, no text of an event can end that element, or begin another.
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def template() -> str:
    """The page without a replay. Raises ``NotSupported`` when it was never built."""
    path = resources.replay_page()
    if not path.is_file():
        raise NotSupported(
            "This copy of claude-loop was made without the page that an export goes into.",
            hint="Install a release, or build the page in a clone: `npm ci && npm run build` in its folder `web`.",
        )
    page = path.read_text(encoding="utf-8")
    if page.count(PLACE) != 1:
        raise Internal(f"{path} has {page.count(PLACE)} places for the replay, not one.", hint="Build the page anew.")
    return page


def replay_page(client: DaemonClient, page: str, prd_id: str, project: str | None) -> str:
    """``page`` with the PRD inside. Raises ``ServerError``, also when ``project`` is needed and not given."""
    return page.replace(PLACE, as_script(replay(client, prd_id, project)))


def replay(client: DaemonClient, prd_id: str, project: str | None) -> dict[str, Any]:
    prd = detail_of(client, prd_id, project)["prd"]
    prd_id, project = prd["prd_id"], prd["project"]
    answer = client.get(f"/api/prds/{quote(prd_id, safe='')}/patches", {"project": project or ""})
    query = {"prd_id": prd_id, "project": project}
    events = [event for event in stored_events(client, query, answer["cursor"]) if event["project"] == project]
    return {
        "prd": prd_id,
        "title": prd["title"],
        "project": project,
        "exported_at": time.time_ns() // 1_000_000,
        "version": __version__,
        "documents": answer["documents"],
        "patches": answer["patches"],
        "events": events,
    }


def as_script(value: Any) -> str:
    """JSON that may stand in a script element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character, escape in _ESCAPES.items():
        text = text.replace(character, escape)
    return text
