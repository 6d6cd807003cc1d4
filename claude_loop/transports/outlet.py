"""What a pump and the fan-out need of a client and of what feeds it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from claude_loop.subscription import Batch, Reset, Subscription
from claude_loop.transports.outbox import Frame

# On polling the client's other packets must find room in the same response.
POLLING_ROUND = 8


class Outlet(Protocol):
    """The way to one client. A polling client takes rounds of at most ``POLLING_ROUND`` frames."""

    @property
    def on_polling(self) -> bool: ...

    @property
    def ready(self) -> bool:
        """Whether everything before has left, and the connection takes more."""

    def write(self, frames: list[Frame]) -> None:
        """Send ``frames`` at once; only while ``ready``."""

    def push(self, frames: list[Frame]) -> None:
        """Send ``frames`` when the client is ready."""

    async def drained(self) -> None:
        """Return when everything pushed has left. Raises ``ConnectionAbortedError`` when the client was given up."""


class Feed(Protocol):
    """Turns what the hub gives into frames, and knows how far the client has been told."""

    subscription: Subscription

    def backlog(self, size: int) -> Iterator[list[Frame]]:
        """What goes before everything else, in rounds of at most ``size`` frames."""

    def rounds(self, outcome: Batch | Reset, size: int) -> Iterator[list[Frame]]:
        """The frames for ``outcome``, in rounds of at most ``size``. A round counts as told when it is given out."""

    @property
    def untold_since(self) -> float | None:
        """Since when (``loop.time()``) the client has not heard of a cursor that has moved; None if it has."""

    def position(self) -> list[Frame]:
        """Tells the client where it is."""
