"""Redaction: secrets never reach the log, a rejection's record or an error's text."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from claude_loop.events import ID_KEYS
from claude_loop.id_rules import MAX_ID_LENGTH
from claude_loop.intake.redact_patterns import (
    CARD,
    EMAIL,
    KEY_GATE,
    SECRETS,
    SecretPattern,
    is_secret_under_key,
    key_kind,
    marker,
)
from claude_loop.intake.redact_vendors import VENDORS
from claude_loop.settings import RedactSettings

# The type of an event whose own type held a secret.
REDACTED_TYPE = "redacted.event"

Gate = Callable[[str], bool]


def _gate(pattern: str) -> Gate:
    """A test for ``pattern`` anywhere in a text, in time linear in it: 0.5 µs for an event, whatever it looks for."""
    return TypeAdapter(Annotated[str, Field(pattern=pattern, strict=True)]).validator.isinstance_python


def _never(text: str) -> bool:
    del text
    return False


def _without_keys_in_lines(items: list[Any]) -> list[Any]:
    """``items`` without the lines of private keys: editors report what they changed line by line."""
    kept: list[Any] = []
    inside = False
    for item in items:
        if isinstance(item, str):
            begin, end = item.rfind("-----BEGIN "), item.rfind("-----END ")
            if inside:
                kept.append(marker("private-key"))
                inside = end < 0 or begin > end
                continue
            inside = begin > end and "PRIVATE KEY" in item[begin:]
        kept.append(item)
    return kept


class Redactor:
    """Replaces secrets by ``[redacted:kind]``, in keys too, and what keys like ``password`` hold. Twice is as once."""

    def __init__(self, settings: RedactSettings) -> None:
        patterns = (*SECRETS, *VENDORS) if settings.secrets else ()
        patterns += (EMAIL,) if settings.emails else ()
        patterns += (CARD,) if settings.cards else ()
        self._patterns: list[tuple[Gate, SecretPattern]] = [(_gate(pattern.gate), pattern) for pattern in patterns]
        self._keys = settings.secrets
        self._cards = settings.cards
        text_gates = "|".join(f"(?:{pattern.gate})" for pattern in patterns)
        self._text_gate = _gate(text_gates) if patterns else _never
        gates = "|".join(filter(None, (text_gates, KEY_GATE if settings.secrets else "")))
        # False: `data` and `text` would change nothing. For serialized JSON without needless escapes.
        self.suspects: Gate = _gate(gates) if gates else _never

    def text(self, text: str) -> str:
        """``text`` without secrets."""
        # A secret replaced can lay bare the edge of the next one; more than a few in a chain are nobody's accident.
        for _ in range(4):
            if not self._text_gate(text):
                break
            before = text
            for gate, pattern in self._patterns:
                if gate(text):
                    text = pattern.find.sub(pattern.replace, text)
            if text == before:
                break
        return text

    def data(self, value: Any) -> Any:
        """A copy of a JSON value of bounded depth without secrets."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return self._object(value)
        if isinstance(value, list):
            return [self.data(item) for item in (_without_keys_in_lines(value) if self._keys else value)]
        if self._cards and isinstance(value, int) and value > 10**12:
            hidden = self.text(str(value))
            return value if hidden == str(value) else hidden
        return value

    def envelope(self, raw: dict[str, Any]) -> dict[str, Any]:
        """A valid envelope without secrets, still valid. `data` is left as it is."""
        clean = dict(raw)
        for key in (*ID_KEYS, "source", "id", "type"):
            value = raw.get(key)
            if not isinstance(value, str) or (hidden := self.text(value)) == value:
                continue
            if key == "id":  # two events must not become one
                hidden = f"redacted-{blake2b(value.encode(), digest_size=16).hexdigest()}"
            clean[key] = REDACTED_TYPE if key == "type" else hidden[:MAX_ID_LENGTH]
        return clean

    def _object(self, value: dict[str, Any]) -> dict[str, Any]:
        clean: dict[str, Any] = {}
        for key, inner in value.items():
            kind = key_kind(key) if self._keys else None
            name = self.text(key)
            while name in clean:  # two secrets as keys of one object
                name += "′"
            clean[name] = self.data(inner) if kind is None else self._hide(inner, kind)
        return clean

    def _hide(self, value: Any, kind: str) -> Any:
        """What stands under a key like ``password``: all its text, and numbers where they are no counts."""
        if isinstance(value, str):
            clean = self.text(value)
            return marker(kind) if is_secret_under_key(kind, value) or is_secret_under_key(kind, clean) else clean
        if isinstance(value, dict):
            return {self.text(key): self._hide(inner, kind) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._hide(item, kind) for item in value]
        if kind == "password" and isinstance(value, int | float) and not isinstance(value, bool):
            return marker(kind)
        return value
