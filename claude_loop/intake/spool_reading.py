"""What a line of the spool is: when it happened, and its event or events, or why it has none.

To bring lines into order only their times are needed. In lines that our emitters have written these are found without
parsing; such lines become events just before the log numbers them, in its thread. All others do at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import structlog

from claude_loop.clock import parse_time
from claude_loop.errors import InvalidJson
from claude_loop.events import Event
from claude_loop.intake.accept import Acceptor
from claude_loop.intake.agent_lines import ANCHOR
from claude_loop.intake.rejected_lines import RejectedLine
from claude_loop.intake.spool_names import derived_prefix
from claude_loop.intake.spool_table import SpoolFile

log = structlog.get_logger(__name__)

SOURCE = "spool"
# What our emitters write in front of a time; the time with its closing quote: `2026-01-26T12:00:00.000000Z"`.
_BEFORE_TIME = b',"timestamp":"'
_SECOND_BYTES = len("2026-01-26T12:00:00.")
_TIME_BYTES = _SECOND_BYTES + len('000000Z"')
# Lines wait as they are until the log's thread makes events of them: not long ones, which an event would cut short.
LONGEST_PLAIN_LINE = 4_096

# A line as it is, and when it happened, in microseconds since the epoch.
PlainLine = tuple[bytes, int]
# A line's event or events, or why there is none, or a line that is none of these yet. Told apart by class: a tuple is
# always a plain line, a list always the events of one line.
Item = Event | list[Event] | RejectedLine | PlainLine
# An item, when it happened (None if it does not say), where its line starts and where it ends.
Found = tuple[Item, int | None, int, int]


class LineReader:
    """Reads lines for the merge, and once more where the log's thread could not make an event of one."""

    def __init__(self, acceptor: Acceptor) -> None:
        self._acceptor = acceptor

    def times_us(self, file: SpoolFile, texts: Sequence[bytes]) -> list[int] | None:
        """When lines happened, in microseconds since the epoch, if all are plain: to be made events later, without a
        look for secrets. None if one of them is not."""
        whole = b"\n".join(texts)
        times = seen_times_us(texts, whole)  # says no the quickest of the three
        if times is None or self._is_hidden(file) or not self._acceptor.is_clear(whole):
            return None
        return times

    def items(self, file: SpoolFile, lines: Sequence[tuple[int, int, bytes]]) -> Iterator[Found]:
        """What any lines are, given as ``(start, end, line)``."""
        clear = self._acceptor.is_clear(b"\n".join([line for _, _, line in lines]))
        hidden = self._is_hidden(file)
        for start, end, line in lines:
            yield *self.item(file, line, start, clear=clear, hidden=hidden), start, end

    def _is_hidden(self, file: SpoolFile) -> bool:
        """Whether its name holds a secret: no id may begin with it."""
        return self._acceptor.redactor.text(file.name) != file.name

    def item(self, file: SpoolFile, line: bytes, start: int, *, clear: bool, hidden: bool) -> tuple[Item, int | None]:
        """What a line is that begins at ``start``, and when it happened. ``clear``: it has no secret, as is known;
        ``hidden``: the file's name has one."""
        derived = derived_prefix(file.name, file.generation, hidden=True) if hidden else file.derived
        try:
            return self._acceptor.salvage_line(line, derived_id=f"{derived}{start}", source=SOURCE, clear=clear)
        except InvalidJson as failure:
            return RejectedLine(file.row, start, failure.message, line), None
        except Exception:  # a defect of ours, in one line: all that others have spooled must not wait for it
            log.exception("a spooled line cannot be read")
            reason = "This is a defect of claude-loop: daemon.log has the details."
            return RejectedLine(file.row, start, reason, line), None

    def event(self, file: SpoolFile, plain: PlainLine, start: int) -> Event:
        """The event of a plain line. Raises ``InvalidJson``."""
        line, at_us = plain
        derived_id = f"{file.derived}{start}"
        return self._acceptor.salvage(line, derived_id=derived_id, source=SOURCE, clear=True, at_us=at_us)[0]


def seen_times_us(lines: Sequence[bytes], whole: bytes) -> list[int] | None:
    """When the events of these lines happened, if the lines are JSON; None if it takes more than a look to tell.

    A torn line does not end as one of our emitters does. What else is no JSON, and looks as if it were, delays what is
    behind it in its file as an event of its time would.

    ``whole`` are all lines, without needless escapes. Then what looks like a key behind a comma is one: a quote inside
    of text has a backslash before it. It is the envelope's, since no other object or array has begun before it, and no
    line has a second one, which would count instead: every line has one, and there are as many as lines. Lines of
    agents' hooks become several events, and are none of these.
    """
    if (
        whole.count(b'"timestamp"') != len(lines)
        or ANCHOR in whole
        or max(map(len, lines), default=0) > LONGEST_PLAIN_LINE
    ):
        return None
    times = []
    second, second_us = b"", 0
    try:
        for line in lines:
            at = line.find(_BEFORE_TIME)
            if at < 0 or line.find(b"{", 1, at) >= 0 or line.find(b"[", 0, at) >= 0 or line[-2:] != b"}}":
                return None
            time = line[at + len(_BEFORE_TIME) : at + len(_BEFORE_TIME) + _TIME_BYTES]
            fraction = time[_SECOND_BYTES:-2]
            if time[-2:] != b'Z"' or not fraction.isdigit():
                return None
            if time[:_SECOND_BYTES] != second:
                second = time[:_SECOND_BYTES]
                second_us = _second_us(second)
            times.append(second_us + int(fraction))
    except ValueError:
        return None
    return times


def _second_us(text: bytes) -> int:
    """``2026-01-26T12:00:00.`` in microseconds since the epoch. Raises ``ValueError``."""
    if text[-1:] != b".":
        raise ValueError("no fraction of a second follows")
    return parse_time(text[:-1].decode())
