"""What the read model says of an event that reports success: the line about it must not say more than is proven."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from claude_loop.client import DaemonClient
from claude_loop.clock import parse_time
from claude_loop.errors import ClaudeLoopError

Document = dict[str, Any]
# Enough for the PRDs that are worked on at a time; each answer may be large.
_KEPT_ANSWERS = 16


class ReadModel:
    """Asks the daemon for a story or a run as it stands. What it answered serves for all events it already knew of."""

    def __init__(self, client: DaemonClient) -> None:
        self._client = client
        self._answers: dict[tuple[str, str, str], Document] = {}

    def run(self, event: Document) -> Document | None:
        """The run that ``event`` belongs to; None when that cannot be told."""
        detail = self._detail(event)
        run: Document | None = None if detail is None else detail["run"]
        return run

    def story(self, event: Document) -> Document | None:
        """The story of ``event``; None when it cannot be told, or was started again since."""
        detail = self._detail(event)
        stories = [] if detail is None else detail["stories"]
        story: Document | None = next((one for one in stories if one["story_id"] == event["story_id"]), None)
        if story is None or (story["attempts"] and story["attempts"][-1]["started_at"] > _moment(event)):
            return None
        return story

    def _detail(self, event: Document) -> Document | None:
        """The PRD with the run of ``event`` in it."""
        prd = event["project"] or "", event["prd_id"] or ""
        if event["run_id"] is not None:
            return self._answer(prd, event["run_id"], event)
        latest = self._answer(prd, "", event)
        if latest is None:
            return None
        # An event that names no run went to the latest of its time: older runs had their last word before it.
        runs = [run for run in reversed(latest["runs"]) if run["last"]["seq"] >= event["seq"]]
        if not runs or runs[0]["started_at"] > _moment(event):
            return None
        if runs[0]["run_id"] == latest["run"]["run_id"]:
            return latest
        return self._answer(prd, runs[0]["run_id"], event)

    def _answer(self, prd: tuple[str, str], run_id: str, event: Document) -> Document | None:
        """What the daemon says of the run, or of the latest; asked again only for an event that is news to it."""
        key = (*prd, run_id)
        known = self._answers.pop(key, None)
        if known is None or known["prd"]["last"]["seq"] < event["seq"]:
            known = self._ask(*prd, run_id)
        if known is not None:
            self._answers[key] = known
            if len(self._answers) > _KEPT_ANSWERS:
                del self._answers[next(iter(self._answers))]
        return known

    def _ask(self, project: str, prd_id: str, run_id: str) -> Document | None:
        query = {"project": project, "run_id": run_id or None}
        try:
            detail: Document = self._client.get(f"/api/prds/{quote(prd_id, safe='')}", query)
        except ClaudeLoopError:
            return None  # the line then says only what the event says
        return detail


def _moment(event: Document) -> int:
    """When the read model says the event was, in milliseconds."""
    return min(parse_time(event["timestamp"]), parse_time(event["received_at"])) // 1000
