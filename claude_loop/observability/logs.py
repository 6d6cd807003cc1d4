"""How the daemon writes its log: one line an entry on stderr, which `up` sends to daemon.log."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, Processor

_STDERR = 2
# What a terminal would obey. Names of files are anybody's, and `serve` writes to a terminal.
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class _Stderr:
    """Takes an entry as one write, and drops what cannot be written. Whoever logs has to go on, the event log's writer
    above all, and a full disk is both when there is most to say and where daemon.log lies."""

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            os.write(_STDERR, text.encode(errors="backslashreplace"))

    def flush(self) -> None:
        """Nothing is held back."""


def configure_logging(level: str) -> None:
    """Send structlog's and the standard library's entries of ``level`` and above to stderr.

    Call it once, where a process begins; libraries and embedding programs configure their own logging.
    """
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    logfmt = structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False)

    def renderer(logger: Any, name: str, entry: EventDict) -> str:
        return _OBEYED.sub(lambda found: f"\\x{ord(found[0]):02x}", logfmt(logger, name, entry))

    stderr = cast("TextIO", _Stderr())
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(threshold, logging.WARNING))  # of libraries only what somebody should look at
