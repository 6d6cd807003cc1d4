"""JSON as others write it, read so that it can be written again: an agent that cuts a text in the middle of a character
leaves half of it, which is no character by itself."""

from __future__ import annotations

import json
import re
from typing import Any

_HALF = re.compile(r"\\u[dD][89A-Fa-f]")


def read_json(text: str | bytes) -> Any:
    """The value, with U+FFFD for what is no character. Raises ``ValueError``, also for what is nested too deeply."""
    if isinstance(text, bytes):
        text = text.decode(json.detect_encoding(text), "replace")
    try:
        value = json.loads(text)
        return without_surrogates(value) if _HALF.search(text) else value
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def without_surrogates(value: Any) -> Any:
    """``value``, a JSON value, with U+FFFD for each half of a character. Raises ``RecursionError``."""
    if value.__class__ is str:
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {without_surrogates(key): without_surrogates(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_surrogates(inner) for inner in value]
    return value
