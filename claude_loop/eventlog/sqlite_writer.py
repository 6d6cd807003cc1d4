"""The one writer: a thread that numbers what is queued in groups, and has them committed.

Under load many publishers share one fsync; alone, a publisher waits for nobody. While groups are queued, one is being
stored by a second thread as the next is numbered and folded: SQLite and the disk need no interpreter. What numbering
reads is as if the commit under way were stored already; if it is not, in the end, the next is numbered anew. Failures
are answered, never hidden: the transaction is rolled back, in-memory projections are dropped, and the connection is
opened anew.
"""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import structlog

from claude_loop.clock import Clock
from claude_loop.errors import ClaudeLoopError, Internal, LoadError, LogGone, ShuttingDown
from claude_loop.eventlog.base import Projection
from claude_loop.eventlog.checkpoints import Checkpoints
from claude_loop.eventlog.facts import Facts
from claude_loop.eventlog.migrations import complete
from claude_loop.eventlog.numbering import EntityCache, Numbering
from claude_loop.eventlog.sqlite_commit import Append, Commit, Committed, EarlierCommitFailed, Lane, OutcomeUnknown
from claude_loop.eventlog.sqlite_file import LogRow, has_room, open_writer, read_log_row, write_log_row
from claude_loop.eventlog.sqlite_health import Health
from claude_loop.eventlog.sqlite_lookups import Lookups

log = structlog.get_logger(__name__)

# A group this large takes a few tens of milliseconds: larger ones save little and delay everybody in them.
GROUP_EVENTS = 1024
# A group smaller than this waits for the commit under way, and takes along what comes meanwhile.
LEAST_AHEAD = 256
# Behind a group of at least so many appends the next waits until this share of them has come again: they were answered
# together, and a commit costs as much as storing dozens of events. PostgreSQL calls it `commit_delay`. It looks so many
# times at most, in steps of so many seconds; shorter ones would take the interpreter from those who are waited for.
SIBLINGS = 8
SIBLINGS_SHARE = 7 / 8
SIBLINGS_LOOKS, SIBLINGS_STEP = 4, 0.001
PROBE_SECONDS = 1.0


@dataclass(slots=True)
class Job:
    """Anything else the writer does between commits; ``run`` gets the writer."""

    run: Callable[[Writer], Any]
    answer: Callable[[Any], None]


class _Nothing:
    """Says that the queue is empty; None in the queue says stop."""


_NOTHING = _Nothing()


class Writer:
    """Runs in its own thread from ``open`` to ``stop``; everything below ``submit`` belongs to that thread. The write
    connection is the storage thread's while a commit is under way there."""

    def __init__(
        self,
        path: Path,
        projection: Projection,
        clock: Clock,
        durability: str,
        announce: Callable[[Committed], None],
        report: Callable[[ClaudeLoopError | None], None],
    ) -> None:
        self._path = path
        self._projection = projection
        self._clock = clock
        self._durability = durability
        self._announce = announce
        self._report = report
        self._queue: queue.SimpleQueue[Append | Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="eventlog-writer", daemon=True)
        self._connection: sqlite3.Connection | None = None
        self._checkpoints: Checkpoints | None = None
        self.health = Health(path, report)
        self.row: LogRow
        self._lane = Lane(self._attempt)
        self._lookups = Lookups(path, self._lane, lambda: self.connection)
        self.cache = EntityCache(self._lookups.document, keys_under=self._lookups.keys_under)
        self._facts = Facts(self._lookups.recent)
        self._siblings = 0
        self.commits = 0
        self.commit_ms: deque[float] = deque(maxlen=1000)

    def open(self) -> LogRow:
        """Open the file (in the caller's thread, which then must not touch it again) and start the thread."""
        try:
            self._connect()
            complete(self.connection, self._projection.first_values)
            self._lane.open()
        except BaseException:
            self._disconnect()
            raise
        self._thread.start()
        return self.row

    def submit(self, request: Append | Job) -> None:
        self._queue.put(request)

    def stop(self) -> None:
        """Finish what is queued, mark the stop as clean, close. Blocks."""
        self._queue.put(None)
        self._thread.join()

    @property
    def connection(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connect()
        assert self._connection is not None  # noqa: S101 - for the type checker: _connect sets it or raises
        return self._connection

    def _connect(self) -> None:
        self.health.insist_on_place()
        self._connection, self.row = open_writer(self._path, self._clock, self._durability)
        self._checkpoints = Checkpoints(self._path, self._durability)
        self._lookups.open()
        self.health.note_place()

    def _run(self) -> None:
        try:
            self._work()
        except Exception as failure:  # a defect of ours: nothing is stored from now on, which has to show
            self._report(Internal(f"The event log's writer has ended: {failure}."))
            log.exception("the event log's writer has ended")
        finally:
            self._lane.close()

    def _work(self) -> None:
        running = True
        while running:
            try:
                first = self._queue.get(timeout=PROBE_SECONDS if self.health.failure else None)
            except queue.Empty:
                self._probe()
                continue
            running = self._turn(first)
        self._close()

    def _turn(self, request: Append | Job | _Nothing | None) -> bool:
        """Serve what is queued up to a pause or a job; False when it was time to stop."""
        while isinstance(request, Append):
            group, request = self._gather(request)
            self._serve(group, ahead=isinstance(request, Append))
        self._settle()
        if request is _NOTHING:
            return True
        if isinstance(request, Job):
            self._do(request)
            return True
        return False

    def _gather(self, first: Append) -> tuple[list[Append], Append | Job | _Nothing | None]:
        """A group that begins with ``first``, and what waits behind it."""
        if self._siblings >= SIBLINGS and first.count < LEAST_AHEAD:
            self._await_siblings()
        group, size = [first], first.count
        request = self._next_waiting()
        while size < GROUP_EVENTS:
            if isinstance(request, Append):
                group.append(request)
                size += request.count
            elif request is _NOTHING and size < LEAST_AHEAD and self._lane.commit is not None:
                self._settle()
            else:
                break
            request = self._next_waiting()
        self._siblings = len(group)
        return group, request

    def _await_siblings(self) -> None:
        for _ in range(SIBLINGS_LOOKS):
            if self._queue.qsize() + 1 >= self._siblings * SIBLINGS_SHARE:
                return
            sleep(SIBLINGS_STEP)

    def _next_waiting(self) -> Append | Job | _Nothing | None:
        try:
            return self._queue.get_nowait()
        except queue.Empty:
            return _NOTHING

    def _do(self, job: Job) -> None:
        try:
            self.health.insist()
            result = job.run(self)
        except (sqlite3.Error, OSError, LogGone) as failure:
            result = self._failed(failure)
        except ClaudeLoopError as failure:
            result = failure
        except Exception:
            log.exception("a job of the event log failed")
            self.cache.discard()
            self._disconnect()
            result = Internal("The event log could not do this.")
        job.answer(result)

    def _serve(self, group: Sequence[Append], *, ahead: bool = False) -> None:
        """Number a group and have it stored; ``ahead`` while the next is numbered, which waits already."""
        group = self._made(group)
        if not group:
            return
        try:
            self.health.insist()
            commit = self._number(group)
        except EarlierCommitFailed:  # and so has this one, for now
            self.cache.discard()
            self._settle()
            self._serve(group)
            return
        except Exception as failure:  # noqa: BLE001 - told to whom it concerns, below
            self._settle()
            self._give_up(group, failure)
            return
        self._settle()
        self.row = commit.row  # if the commit fails the file is opened anew, and its row is read
        if ahead:
            self._lane.start(commit)
        else:
            self._conclude(commit, self._attempt(commit))

    def _made(self, group: Sequence[Append]) -> list[Append]:
        """The appends that hold something. Those whose events cannot be made are told why; what holds nothing, as when
        all of a body was refused, needs no storage, and may have none."""
        made = []
        for append in group:
            try:
                append.made()
            except ClaudeLoopError as refusal:
                self._refuse([append], refusal)
            except Exception as failure:
                log.exception("events could not be made")
                self._refuse([append], Internal(f"The events could not be made: {failure}."))
            else:
                if append.events or append.offsets:
                    made.append(append)
                else:
                    self._announce(Committed(answers=[partial(append.answer, [])]))
        return made

    def _number(self, group: Sequence[Append]) -> Commit:
        if self._connection is None:
            self._connect()  # which reads the row
        started = perf_counter()
        received_at = max(self.row.received_at, self._clock.now_us() // 1000)
        find = self._lookups.by_id
        numbering = Numbering(self.row.state, received_at, find, self._facts, self._projection, self.cache)
        try:
            outcomes = numbering.number([append.events for append in group])
            self._lane.insist()
            self.health.insist()  # once more: that may have been a long wait
        except BaseException:
            numbering.undo()
            raise
        documents = self.cache.dirty
        self.cache.folded()
        return Commit(group, numbering, outcomes, documents, self.row.after(numbering.new, received_at), started)

    def _attempt(self, commit: Commit) -> Exception | None:
        """Store a commit and announce it, or return why it could not be stored. In either thread: the other leaves
        the connection alone meanwhile."""
        try:
            commit.store(self.connection)
        except Exception as failure:  # noqa: BLE001 - returned
            return failure
        self._stored(commit)
        return None

    def _stored(self, commit: Commit) -> None:
        if commit.new:
            self.commits += 1
            self.commit_ms.append((perf_counter() - commit.started) * 1000)
        if (commit.new or commit.offsets) and self._checkpoints is not None:
            self._checkpoints.committed(len(commit.new))
        self._announce(commit.announcement())

    def _settle(self) -> None:
        """Wait for the commit under way, and see to what has become of it."""
        taken = self._lane.take()
        if taken is not None:
            self._conclude(*taken)

    def _conclude(self, commit: Commit, failure: Exception | None) -> None:
        if isinstance(failure, OutcomeUnknown) and self._outcome_known_as(commit.row):
            failure = None
            self._stored(commit)
        if failure is None:
            self.health.recovered()
            return
        commit.numbering.undo()
        self._give_up(commit.group, failure)

    def _give_up(self, group: Sequence[Append], failure: Exception) -> None:
        """Answer those whose events are not stored. Nothing is under way."""
        reason = failure.__cause__ if isinstance(failure, OutcomeUnknown) else failure
        if isinstance(reason, sqlite3.Error | OSError | LoadError):
            self._refuse(group, self._failed(reason))
            return
        # A defect of ours, in one event: the others of the group must not pay for it.
        self.cache.discard()
        self._disconnect()
        if len(group) > 1:
            for append in group:
                self._serve([append])
            return
        log.error("a batch could not be stored", exc_info=failure)
        self._refuse(group, Internal(f"The events could not be stored: {failure}."))

    def _refuse(self, group: Sequence[Append], reason: ClaudeLoopError) -> None:
        """Nothing was stored of these, nor will be of what follows in their chains. Each publisher is told why."""
        for append in group:
            append.chain.break_at(append.place, reason)
        self._announce(Committed(answers=[partial(append.answer, reason) for append in group]))

    def _outcome_known_as(self, expected: LogRow) -> bool:
        """After an error at COMMIT nobody knows whether it took place: open the file anew and look."""
        self._disconnect()
        with contextlib.suppress(sqlite3.Error, OSError, LogGone):  # still broken: reported by whoever asks next
            self._connect()
            return read_log_row(self.connection).state == expected.state
        return False

    def _failed(self, failure: sqlite3.Error | OSError | LoadError) -> ClaudeLoopError:
        error = self.health.failed(failure)
        self.cache.discard()
        if not isinstance(error, LogGone):  # it may come back, and until then it is all there is
            self._disconnect()
        return error

    def _probe(self) -> None:
        """While the storage fails, try a small write now and then: recovery needs no publisher."""
        try:
            if self.health.damage is not None:
                return
            self.health.insist_on_place()
            if not has_room(self._path):
                return
            connection = self.connection
            connection.execute("BEGIN IMMEDIATE")
            write_log_row(connection, self.row)
            connection.execute("COMMIT")
        except (sqlite3.Error, OSError, LogGone) as failure:
            self._failed(failure)
        else:
            self.health.recovered()

    def _disconnect(self) -> None:
        if self._checkpoints is not None:
            self._checkpoints.close()
            self._checkpoints = None
        self._lookups.close()
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):  # it is being thrown away because it failed
                self._connection.close()
            self._connection = None

    def _close(self) -> None:
        while (left := self._next_waiting()) is not _NOTHING:
            refusal = ShuttingDown("The daemon is stopping.")
            if isinstance(left, Append):
                self._refuse([left], refusal)
            elif isinstance(left, Job):
                left.answer(refusal)
        try:
            self.health.insist()
            connection = self.connection  # which reads the row, if it has to be opened
            self.row = replace(self.row, clean=True)
            write_log_row(connection, self.row)
        except (sqlite3.Error, OSError, ClaudeLoopError) as failure:
            log.exception("the event log could not be closed cleanly", reason=str(failure))
        self._disconnect()
