"""Cutting very long texts before secrets are looked for: a megabyte of output is not worth a standstill of the daemon.

Whatever is kept is looked through whole, so no cut may leave half a secret or one without what gives it away. Hence
cuts are made between lines, or else between words, and what is left of a private key goes as a whole.
"""

from __future__ import annotations

from typing import Any

from claude_loop.intake.shorten import with_truncated

# Of a longer text this much is kept of its begin and of its end, which is where outputs say what came of it.
LONGEST = 65_536
_HALF = LONGEST // 2
# Where a line or a word has to end, looked at from a cut.
_NEAR = 4_096


def without_long_texts(payload: dict[str, Any]) -> dict[str, Any]:
    """``payload`` itself, or a copy with very long texts cut in the middle, and a record of it."""
    cut: dict[str, int] = {}
    bounded = _bounded(payload, "", cut)
    return with_truncated(bounded, cut) if cut else payload


def _bounded(value: Any, path: str, cut: dict[str, int]) -> Any:
    if isinstance(value, str):
        if len(value) <= LONGEST:
            return value
        cut[path[1:200]] = len(value.encode())
        return _middle_cut(value)
    if isinstance(value, dict):
        return {key: _bounded(inner, f"{path}.{key}", cut) for key, inner in value.items()}
    if isinstance(value, list):
        return [_bounded(inner, f"{path}.{index}", cut) for index, inner in enumerate(value)]
    return value


def _middle_cut(text: str) -> str:
    begin, end = text[:_HALF], text[-_HALF:]
    for edge in "\n ":
        at = begin.rfind(edge, _HALF - _NEAR)
        if at >= 0:
            begin = begin[: at + 1]
            break
    for edge in "\n ":
        at = end.find(edge, 0, _NEAR)
        if at >= 0:
            end = end[at + 1 :]
            break
    key_end = end.find("-----END ")
    if key_end >= 0 and "-----BEGIN " not in end[:key_end]:
        end = end[key_end:]
    return f"{begin}…[{len(text) - len(begin) - len(end)} characters cut]…{end}"
