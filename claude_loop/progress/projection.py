"""The reducer as the log's projection: it runs in the transaction that appends, so the two never disagree."""

from __future__ import annotations

from claude_loop.eventlog.base import Entities
from claude_loop.events import Event
from claude_loop.progress.reducer import fold


class ProgressProjection:
    """Implements ``eventlog.base.Projection``."""

    def apply(self, event: Event, entities: Entities) -> None:
        """Fill in ``event.run_id`` and store the documents that the event changes.

        ``event`` has its ``seq``, ``id`` and ``received_at``.
        """
        documents, run_id = fold(event, entities.get)
        event.run_id = run_id
        for key, document in documents.items():
            entities.put(key, document)
