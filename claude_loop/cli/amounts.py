"""What agents used, in words: money and tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def money(usd: float) -> str:
    """``$14.20``, ``$1,240``; less than half a cent is said to be so."""
    if 0 < usd < 0.005:
        return "<$0.01"
    return f"${usd:,.2f}" if usd < 1000 else f"${usd:,.0f}"


def tokens(count: float) -> str:
    """``900``, ``54.7k``, ``3.4M``."""
    for size, unit in ((1_000_000, "M"), (1000, "k")):
        if count >= size:
            parts = count / size
            return f"{parts:.1f}{unit}" if parts < 100 else f"{parts:.0f}{unit}"
    return f"{count:.0f}"


def spent(usage: Mapping[str, Any]) -> list[str]:
    """``$14.20``, ``3.4M tokens in``, ``54.7k out``: what can be read of a report, or of a run's sum."""
    cost, read, written = (_amount(usage.get(key)) for key in ("cost_usd", "input_tokens", "output_tokens"))
    words = [] if cost is None else [money(cost)]
    if read is not None:
        words.append(f"{tokens(read)} tokens in")
    if written is not None:
        words.append(f"{tokens(written)} {'out' if read is not None else 'tokens out'}")
    return words


def _amount(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and math.isfinite(value) and value >= 0 else None
