"""Making `data` fit its limits where nobody can be told to send less: from the spool and from agents' streams.

What was shortened is recorded in `data` itself: ``truncated: {path: original bytes}``, with ``…[N bytes cut]`` where
the text ends. Depth goes first (what lies too deep becomes its JSON as text), then the longest strings are cut to a
common length, then the largest values become shortened text; what still does not fit is text as a whole.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

TRUNCATED = "truncated"
# Below this a string is left alone: cutting many short strings destroys more than it saves.
_LEAST_KEPT = 256
# What an entry of `truncated` and a marker cost at most, besides the path.
_ENTRY_BYTES = 48
_PATH_LENGTH = 200


class _Text(NamedTuple):
    size: int
    path: str
    holder: Any
    key: str | int


def json_size(value: Any) -> int:
    """Bytes of ``value`` as JSON."""
    return len(orjson.dumps(value))


def depth_exceeds(value: Any, limit: int) -> bool:
    """Whether containers are nested deeper than ``limit``; never looks deeper than that."""
    if not isinstance(value, dict | list):
        return False
    if limit == 0:
        return True
    inner = value.values() if isinstance(value, dict) else value
    return any(depth_exceeds(item, limit - 1) for item in inner)


def flatten(data: dict[str, Any], levels: int) -> dict[str, Any]:
    """A copy of ``data`` with at most ``levels`` nested containers; deeper ones become text."""
    cut: dict[str, int] = {}
    flat = _flatten(data, levels, "", cut)
    return with_truncated(flat, cut)


def _flatten(value: Any, levels: int, path: str, cut: dict[str, int]) -> Any:
    if not isinstance(value, dict | list):
        return value
    if levels == 0:
        try:
            text = orjson.dumps(value).decode()
        except TypeError:  # deeper than the encoder goes
            text = f"…[{type(value).__name__} of more than 254 levels cut]"
        cut[_shown_path(path)] = len(text.encode())
        return text
    if isinstance(value, dict):
        return {key: _flatten(inner, levels - 1, f"{path}.{key}", cut) for key, inner in value.items()}
    return [_flatten(inner, levels - 1, f"{path}.{index}", cut) for index, inner in enumerate(value)]


def with_truncated(data: dict[str, Any], cut: dict[str, int]) -> dict[str, Any]:
    """``data`` with ``cut`` entered in its record. A `truncated` of the sender's own that is no record moves aside."""
    if not cut:
        return data
    record = data.get(TRUNCATED)
    if record is not None and not isinstance(record, dict):
        data = {**data, f"{TRUNCATED}_": record}
        record = None
    return {**data, TRUNCATED: {**(record or {}), **cut}}


def shorten(data: dict[str, Any], limit: int) -> dict[str, Any]:
    """``data`` if its JSON has at most ``limit`` bytes, else a shortened copy that has. ``limit`` is at least 1024."""
    size = json_size(data)
    if size <= limit:
        return data
    for attempt in (_cut_strings, _cut_values):
        shortened = attempt(orjson.loads(orjson.dumps(data)), size, limit)
        if json_size(shortened) <= limit:
            return shortened
    text = orjson.dumps(data).decode()
    return {"_extra": cut_text(text, limit // 2), TRUNCATED: {"": size}}


def cut_text(text: str, keep: int) -> str:
    """``text`` cut so that it takes about ``keep`` bytes as JSON, with a marker; itself when it does."""
    escaped = json_size(text) - 2
    if escaped <= keep:
        return text
    raw = text.encode()
    # Control characters take up to six bytes as JSON; an even share of them is assumed, the caller measures.
    kept = raw[: max(keep * len(raw) // escaped, 0)].decode(errors="ignore")
    return f"{kept}…[{len(raw) - len(kept.encode())} bytes cut]"


def _cut_strings(data: dict[str, Any], size: int, limit: int) -> dict[str, Any]:
    texts: list[_Text] = []
    _collect(data, "", texts)
    texts.sort(key=lambda text: text.size, reverse=True)
    level = _water_level([text.size for text in texts], size - limit)
    cut: dict[str, int] = {}
    for text in texts:
        if text.size <= level:
            break
        original = text.holder[text.key]
        text.holder[text.key] = cut_text(original, level)
        cut[_shown_path(text.path)] = len(original.encode())
    return with_truncated(data, cut)


def _water_level(sizes: list[int], excess: int) -> int:
    """The length to which all longer strings must be cut to save ``excess`` bytes; ``sizes`` descend."""
    total = 0
    for count, size in enumerate(sizes, 1):
        total += size
        below = sizes[count] if count < len(sizes) else 0
        level = (total - excess - count * (_ENTRY_BYTES + _PATH_LENGTH // 2)) // count
        if level >= max(below, _LEAST_KEPT) or below < _LEAST_KEPT:
            return max(level, _LEAST_KEPT)
    return _LEAST_KEPT


def _collect(value: Any, path: str, texts: list[_Text]) -> None:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        here = f"{path}.{key}"
        if isinstance(inner, str):
            if len(inner) > _LEAST_KEPT // 4:
                texts.append(_Text(json_size(inner), here, value, key))
        elif isinstance(inner, dict | list):
            _collect(inner, here, texts)


def _cut_values(data: dict[str, Any], size: int, limit: int) -> dict[str, Any]:
    """The largest values of the top level, one after the other, as shortened text."""
    cut: dict[str, int] = {}
    for value_size, key in sorted(((json_size(value), key) for key, value in data.items()), reverse=True):
        if size <= limit - 256 or value_size <= 2 * _LEAST_KEPT:
            break
        value = data[key]
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
        keep = max(_LEAST_KEPT, value_size - (size - limit) - 512)
        data[key] = cut_text(text, keep // 2 if text is not value else keep)
        cut[_shown_path(f".{key}")] = value_size
        size += json_size(data[key]) - value_size + _ENTRY_BYTES + min(len(key.encode()), _PATH_LENGTH)
    return with_truncated(data, cut)


def _shown_path(path: str) -> str:
    return path[1:] if len(path) <= _PATH_LENGTH else path[1 : _PATH_LENGTH // 3] + "…"
