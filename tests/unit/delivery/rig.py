"""Conditions, an outbox and channels for the tests of delivery, with a dispatch that does as it is told."""

from __future__ import annotations

from typing import Any

from claude_loop.delivery.conditions import Condition, Subject
from claude_loop.delivery.dispatch import Outcome, Target
from claude_loop.delivery.messages import Plan
from claude_loop.delivery.outbox import Outbox
from claude_loop.settings import NotifySettings

PRD = Subject("shop", "SHOP-7")
BOTH = frozenset({"phone", "desk"})


def waiting(since=1000, kind="waiting", **facts: Any) -> Condition:
    said = {"title": None, "for": "human", "reason": "permission Bash rm -rf build", "until": None, **facts}
    return Condition("run/shop/SHOP-7/r1", kind, since, PRD.project, PRD.prd_id, "r1", None, None, said)


def target(name="phone", **settings: Any) -> Target:
    return Target(name, NotifySettings(name=name, command=("true",), **({"grace": 0} | settings)))


def looked(outbox: Outbox, *found: tuple[Condition, list[Plan]], now=1000, resolving=BOTH) -> None:
    outbox.settle_look([PRD], list(found), [], resolving, "cursor", now)


class FakeDispatch:
    """``outcomes`` answer one after the other, the last for ever; ``receipts`` are what a crash left."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes) or [Outcome(sent=True)]
        self.messages: list[dict[str, Any]] = []
        self.receipts: dict[str, Outcome] = {}

    async def send(self, target: Target, message: dict[str, Any]) -> Outcome:
        del target
        self.messages.append(message)
        return self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]

    async def found(self, message_id: str, seconds: float) -> Outcome | None:
        del seconds
        return self.receipts.get(message_id)

    def settled(self, message_id: str) -> None:
        self.receipts.pop(message_id, None)

    @property
    def texts(self) -> list[str]:
        return [message["text"] for message in self.messages]
