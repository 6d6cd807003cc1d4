"""Events at work on the read model: they change copies, made when first touched: what is stored stays as it was.

A draft takes one event after the other, of one event or of a whole commit. What follows from a document as it stands,
such as a run's state, is made once, at the end; the documents are the same however the events are cut into drafts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from claude_loop.events import OBSERVERS, Event
from claude_loop.progress.documents import PrdDocument, ProjectDocument, RunDocument, StoryDocument, new_prd
from claude_loop.progress.keys import kept_key, prd_key, project_key, run_key, session_key, used_key
from claude_loop.progress.run_draft import RunDraft
from claude_loop.progress.session_documents import SessionDocument, new_session

# Documents in general. What a key holds is known from the key, so a document read by key is Any to the type checker:
# a `cast` is a call, and this runs for every event.
Document = Any
# Sessions of a PRD, or of a project where they have none. When one more begins, the one that began first is let go.
KEPT_SESSIONS = 200
Get = Callable[[str], Document]


class PrdDraft:
    """One PRD, and those of its runs that were touched. ``document`` is as stored until ``changed``."""

    __slots__ = ("changed", "document", "key", "prd_id", "project", "runs")

    def __init__(self, project: str | None, prd_id: str, get: Get) -> None:
        self.project = project
        self.prd_id = prd_id
        self.key = prd_key(project, prd_id)
        self.document: PrdDocument | None = get(self.key)
        self.changed = False
        self.runs: dict[str, RunDraft] = {}


class Draft:
    """The copies, and the event that is at work on its PRD, its run and its story.

    The copies are shallow: rules replace the lists and objects inside a document, they never change them in place.
    """

    __slots__ = (
        "_get",
        "_kept",
        "_prds",
        "_projects",
        "_sessions",
        "_used",
        "data",
        "event",
        "moment",
        "prd_draft",
        "run",
        "run_draft",
        "story",
    )

    event: Event
    moment: int
    prd_draft: PrdDraft
    data: dict[str, Any]  # the event's, whatever was sent; for those with a rule only
    run_draft: RunDraft
    run: RunDocument  # its document
    story: StoryDocument | None  # the event's own, if it names one

    def __init__(self, get: Get) -> None:
        self._get = get
        self._prds: dict[tuple[str | None, str], PrdDraft] = {}
        self._projects: dict[str, ProjectDocument] = {}
        self._sessions: dict[str, SessionDocument | None] = {}
        self._kept: dict[str, dict[str, list[str]]] = {}
        self._used: dict[str, dict[str, Any]] = {}

    def take(self, event: Event, prd_id: str) -> None:
        """Begin with the next event, which is of that PRD."""
        self.event = event
        # As `moment_of`, without the call.
        at, received_at = event.at, event.received_at
        self.moment = received_at if 0 < received_at < at else at
        ids = (event.project, prd_id)
        prd = self._prds.get(ids)
        if prd is None:
            prd = self._prds[ids] = PrdDraft(*ids, self._get)
        self.prd_draft = prd

    def prd(self) -> PrdDocument:
        """The event's PRD, to be changed; a new one, without a run, if it was not seen before."""
        prd = self.prd_draft
        if not prd.changed:
            prd.changed = True
            known = prd.document
            prd.document = new_prd(prd.project, prd.prd_id, self.moment) if known is None else known.copy()
        assert prd.document is not None  # noqa: S101 - for the type checker
        return prd.document

    def touch_run(self, run_id: str) -> RunDraft | None:
        """A run of the PRD, to be changed; None if there is none of that name."""
        prd = self.prd_draft
        run = prd.runs.get(run_id)
        if run is None:
            stored: RunDocument | None = self._get(run_key(prd.project, prd.prd_id, run_id))
            if stored is not None:
                run = prd.runs[run_id] = RunDraft(stored.copy(), self._get)
        return run

    def add_run(self, run: RunDocument) -> RunDraft:
        added = self.prd_draft.runs[run["run_id"]] = RunDraft(run, self._get)
        return added

    def project(self, project: str) -> ProjectDocument | None:
        """Not to be changed."""
        known = self._projects.get(project)
        return self._get(project_key(project)) if known is None else known

    def put_project(self, document: ProjectDocument) -> None:
        self._projects[document["project"]] = document

    def touch_session(self, event: Event, moment: int, *, opens: bool) -> SessionDocument | None:
        """The event's session, to be changed; a new one if it was not seen before and the event ``opens`` it."""
        assert event.session_id is not None  # noqa: S101 - for the type checker: asked only for events that name one
        key = session_key(event.project, event.prd_id, event.session_id)
        session = self._session(key)
        if session is None and opens:
            session = self._sessions[key] = new_session(
                event.project, event.prd_id, event.session_id, event.seq, moment, event.type
            )
            self._keep(event.project, event.prd_id, event.session_id)
        return session

    def _keep(self, project: str | None, prd_id: str | None, session_id: str) -> None:
        place = kept_key(project, prd_id)
        known = self._kept.get(place) or self._get(place) or {"sessions": []}
        ids = [*known["sessions"], session_id]
        for gone in ids[:-KEPT_SESSIONS]:
            self._sessions[session_key(project, prd_id, gone)] = None
        self._kept[place] = {"sessions": ids[-KEPT_SESSIONS:]}

    def used(self) -> dict[str, Any]:
        """What the sessions of the event's PRD have reported as totals, by session. Not to be changed."""
        key = used_key(self.prd_draft.project, self.prd_draft.prd_id)
        return self._used.get(key) or self._get(key) or {}

    def put_used(self, used: dict[str, Any]) -> None:
        self._used[used_key(self.prd_draft.project, self.prd_draft.prd_id)] = used

    def known_session(self, run: RunDocument, session_id: str) -> SessionDocument | None:
        """A session of the run's PRD, to be changed."""
        return self._session(session_key(run["project"], run["prd_id"], session_id))

    def _session(self, key: str) -> SessionDocument | None:
        if key in self._sessions:
            return self._sessions[key]
        stored: SessionDocument | None = self._get(key)
        if stored is None:
            return None
        session = self._sessions[key] = stored.copy()
        return session

    def reopen_run(self) -> None:
        """Work begins after the end was reported: the run goes on. What an observer tells late of a beginning before
        that end does not put it back to work."""
        run, ended_at = self.run, self.run["finished_at"]
        if ended_at is not None and (self.moment > ended_at or self.event.source not in OBSERVERS):
            run["finished_at"] = run["prd_success"] = run["run_success"] = run["exit_code"] = None
            run["promise"] = run["promised_at"] = None  # it was of what was done until then

    def documents(self) -> dict[str, Document]:
        """Everything touched, as it is after the events taken, None where it is gone; the draft is then used up."""
        documents: dict[str, Document] = {project_key(project): found for project, found in self._projects.items()}
        documents.update(self._sessions)
        documents.update(self._kept)
        documents.update(self._used)
        for prd in self._prds.values():
            if prd.changed:
                documents[prd.key] = prd.document
            for run_id, run in prd.runs.items():
                documents[run_key(prd.project, prd.prd_id, run_id)] = run.settled()
                documents.update(run.stories_by_key())
        return documents
