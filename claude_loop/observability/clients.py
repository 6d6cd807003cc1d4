"""Who is connected, over all transports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Protocol


class ClientSource(Protocol):
    """A transport with live clients."""

    def statistics(self) -> dict[str, Any]:
        """``{"clients": N, "subscriptions": M, "cut_off": K, "readers": [...]}``.

        Each reader has at least ``lag``, in events, and ``prds``, the PRDs it asked for by name.
        """


class Clients:
    """What ``/health`` and ``/status`` say about clients. ``sources`` maps a transport's name to it."""

    def __init__(self, sources: Mapping[str, ClientSource]) -> None:
        self._sources = dict(sources)

    def statistics(self) -> dict[str, dict[str, Any]]:
        """By transport."""
        return {name: source.statistics() for name, source in self._sources.items()}


def readers_of(statistics: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """All readers, each with ``via``, the name of its transport."""
    return [{"via": name, **reader} for name, transport in statistics.items() for reader in transport["readers"]]


def subscriptions_by_prd(statistics: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """How many readers asked for each PRD by name."""
    counts = Counter(prd_id for reader in readers_of(statistics) for prd_id in reader["prds"])
    return dict(sorted(counts.items()))


def total(statistics: Mapping[str, Mapping[str, Any]], key: str) -> int:
    return sum(int(transport[key]) for transport in statistics.values())
