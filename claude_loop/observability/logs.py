"""How the daemon writes its log: one line an entry on stderr, which `up` sends to daemon.log."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

# What a terminal would obey. Names of files are anybody's, and `serve` writes to a terminal.
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


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

    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(threshold, logging.WARNING))  # of libraries only what somebody should look at
