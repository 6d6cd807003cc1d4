"""`GET /api/prds…`: the read model as it stands now, and the patches that led there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, NotRequired

import orjson
from aiohttp import hdrs, web
from typing_extensions import TypedDict

from claude_loop.clock import Clock
from claude_loop.errors import StorageFailed
from claude_loop.events import Event
from claude_loop.filters import Filter
from claude_loop.hub import Hub
from claude_loop.progress.documents import Card, Patch, PrdDocument
from claude_loop.progress.keys import prd_key, prd_prefixes, run_key, sessions_prefix, stories_prefix
from claude_loop.progress.patches import prd_patches
from claude_loop.progress.views import Moment, find_prd, list_cards, no_such_run, prd_detail
from claude_loop.subscription import Reset, Start
from claude_loop.transports.http_endpoint import Parameter
from claude_loop.transports.http_events import ResetJson
from claude_loop.transports.http_json import json_answer
from claude_loop.transports.http_query import AFTER, PROJECT, Query

DETAIL_QUERY = (PROJECT, Parameter("run_id", "One of the PRD's earlier runs; the latest one without it."))
PATCHES_QUERY = (
    PROJECT,
    AFTER,
    Parameter("run_id", "Only documents of the PRD itself, of this run and its stories, and of agents' sessions."),
)
# Folding an event takes some 50 µs: a page is a few milliseconds in which nobody else has a turn.
_PAGE_EVENTS = 100
_CHUNK_BYTES = 65_536


class PrdList(TypedDict):
    """Cards, the most urgent first."""

    prds: list[Card]


class PatchesAnswer(TypedDict):
    """``documents`` is what the first patch applies to: empty unless older events have been pruned. With ``after``
    it is absent, because the asker has them; after a ``reset`` it is there again."""

    documents: NotRequired[dict[str, dict[str, Any]]]
    patches: list[Patch]
    cursor: str
    reset: NotRequired[ResetJson]


class PrdsHandler:
    """Asks the read model. ``stalled_after`` is in seconds."""

    def __init__(self, hub: Hub, clock: Clock, stalled_after: float) -> None:
        self._hub = hub
        self._clock = clock
        self._stalled_after_ms = round(stalled_after * 1000)

    def moment(self) -> Moment:
        return Moment(self._clock.now_us() // 1000, self._stalled_after_ms)

    async def list_prds(self, request: web.Request) -> web.Response:
        """A card for every PRD, the most urgent first."""
        Query(request, ())
        return json_answer({"prds": await list_cards(self._hub.log, self.moment())})

    async def get_prd(self, request: web.Request) -> web.Response:
        """One PRD: its card, one run, that run's stories, and all runs."""
        query = Query(request, DETAIL_QUERY)
        prd_id = request.match_info["id"]
        detail = await prd_detail(
            self._hub.log, prd_id, self.moment(), project=query.text("project"), run_id=query.text("run_id")
        )
        return json_answer(detail)

    async def get_patches(self, request: web.Request) -> web.StreamResponse:
        """What changed in one PRD, in order: replay applies these to the documents they begin with."""
        query = Query(request, PATCHES_QUERY)
        prd = await find_prd(self._hub.log, request.match_info["id"], query.text("project"))
        run_id = query.text("run_id")
        wanted = None if run_id is None else await self._of_run(prd, run_id)
        after, reset = 0, None
        cursor = query.cursor("after")
        if cursor is not None:
            opened = await self._hub.subscribe(start=Start("cursor", cursor=cursor))
            after = cursor.seq
            if opened.reason is not None:
                after, reset = 0, Reset(opened.reason, self._hub.state.trimmed_cursor)
        head = self._hub.state.head_cursor
        place, documents = await self._before_the_oldest(prd)
        opening: dict[str, Any] = {"cursor": str(head)}
        if reset is not None:
            opening["reset"] = {"reason": reset.reason, "cursor": str(reset.cursor)}
        if after == 0:
            opening["documents"] = {key: documents[key] for key in documents if wanted is None or wanted(key)}
        patches = prd_patches(
            self._events(prd, place, head.seq),
            prd["project"],
            prd["prd_id"],
            stalled_after_ms=self._stalled_after_ms,
            now_ms=self.moment().now_ms,
            after_seq=after,
            documents=documents,
        )
        return await _send_patches(request, opening, patches if wanted is None else _only(wanted, patches))

    async def _of_run(self, prd: PrdDocument, run_id: str) -> Callable[[str], bool]:
        """Whether a key is the PRD's, this run's or one of its stories'. Raises ``NotFound``."""
        names = prd["project"], prd["prd_id"], run_id
        own, below = {prd_key(*names[:2]), run_key(*names)}, (stories_prefix(*names), sessions_prefix(*names[:2]))
        _, run = await self._hub.log.snapshot(lambda stored: stored.get(run_key(*names)))
        if run is None:
            raise no_such_run(prd["prd_id"], run_id)
        return lambda key: key in own or key.startswith(below)

    async def _before_the_oldest(self, prd: PrdDocument) -> tuple[int, dict[str, dict[str, Any]]]:
        """What the oldest event kept applies to, and the position before it."""
        prefixes = prd_prefixes(prd["project"], prd["prd_id"])
        while True:
            found = [await self._hub.log.trimmed_entities(prefix) for prefix in prefixes]
            place = found[0][0]
            if all(position == place for position, _ in found):  # else it moved between two of them
                break
        own, *below = (documents for _, documents in found)
        documents = {key: own[key] for key in own if key == prefixes[0]}
        for more in below:
            documents |= more
        return place, documents

    async def _events(self, prd: PrdDocument, place: int, head: int) -> AsyncIterator[Event]:
        """The PRD's events between the two positions."""
        filter_ = Filter(prd_ids=(prd["prd_id"],))
        while place < head:
            page = await self._hub.log.read(place, _PAGE_EVENTS, filter_)
            if place < page.first - 1:
                raise StorageFailed("Events were pruned while they were being replayed.", hint="Ask again.")
            for event in page.events:
                if event.seq > head:
                    return
                yield event
            place = page.upto


async def _only(wanted: Callable[[str], bool], patches: AsyncIterator[Patch]) -> AsyncIterator[Patch]:
    async for patch in patches:
        if wanted(patch["path"][0]):
            yield patch


async def _send_patches(
    request: web.Request, opening: dict[str, Any], patches: AsyncIterator[Patch]
) -> web.StreamResponse:
    """One JSON object, written as it is made: a long run has more patches than fit into memory comfortably."""
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: "application/json"})
    await response.prepare(request)
    buffer = bytearray(orjson.dumps(opening)[:-1] + b',"patches":[')
    comma = b""
    async for patch in patches:
        buffer += comma + orjson.dumps(patch)
        comma = b","
        if len(buffer) > _CHUNK_BYTES:
            await response.write(bytes(buffer))
            buffer.clear()
    await response.write(bytes(buffer + b"]}"))
    await response.write_eof()
    return response
