"""What stands in the log about a message: `alert.sent`, `alert.resolved`, `alert.failed`, with the ids of the run."""

from __future__ import annotations

from claude_loop.clock import rfc3339
from claude_loop.delivery.messages import Message
from claude_loop.events import Event


def event_of(message: Message, urgent: bool) -> Event:  # noqa: FBT001 - a fact about the message
    """The same event for the same message, so that a crash between publishing and noting it changes nothing."""
    condition = message.condition
    settled_at = message.settled_at or 0
    if message.state == "dead":
        type_ = "alert.failed"
    else:
        type_ = "alert.resolved" if message.phase == "resolved" else "alert.sent"
    reason = message.reason if message.state == "dead" else condition.facts.get("reason") or ""
    data = {
        "kind": condition.kind,
        "channel": message.channel,
        "urgency": "urgent" if urgent else "normal",
        "message_id": message.message_id,
        "at": rfc3339(settled_at),
        "since": rfc3339(condition.since),
        "step": message.step,
        "reason": reason,
    }
    return Event(
        type_,
        data,
        id=f"{message.message_id}.{type_.partition('.')[2]}",
        project=condition.project,
        prd_id=condition.prd_id,
        run_id=condition.run_id,
        story_id=condition.story_id,
        session_id=condition.session_id,
        source="daemon",
        at=settled_at,
    )
