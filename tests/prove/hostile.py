"""Inputs that nobody of good will sends, drawn from seeded dice: nearly right ones more often than noise."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

_TYPES = (
    *("story.started", "story.completed", "test.run", "commit.created", "prd.started", "prd.completed", "plan.updated"),
    *("error.occurred", "log.message", "agent.waiting", "agent.resumed", "progress.updated", "run.started", "a.b"),
    *("run.completed", "iteration.started", "prd.archived", "prd.forgotten", "session.started", "tool.started", "x"),
)
_HOOKS = (
    *("SessionStart", "SessionEnd", "UserPromptSubmit", "PreToolUse", "PostToolUse", "PostToolUseFailure", "Stop"),
    *("Notification", "SubagentStart", "SubagentStop", "PreCompact", "PermissionRequest", "agent-turn-complete"),
)
_TEXTS = (
    *("", " ", "\x00", "\x1b[31m", "\u2028", "\u202ertl", "🜁", "'; DROP TABLE events; --", "<script>alert(1)</script>"),
    *(
        "../../etc/passwd",
        "%00",
        "%s%n",
        "null",
        "true",
        "1e999",
        "-0",
        "𝒳" * 200,
        "a" * 5000,
        "\ufeff",
        "\\ud800",
        "\ud800",
    ),
    *("PRD-001", "US-001", "shop", "2026-01-26T12:00:00Z", "9999-12-31T23:59:59Z", "*", "[", "a.*", "sk-" + "a" * 40),
)
_NUMBERS = (0, -1, 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**64), 10**30, 0.1, -1e308, 1e308, 5e-324)
_ENVELOPE = (
    "type",
    "id",
    "timestamp",
    "project",
    "prd_id",
    "story_id",
    "run_id",
    "session_id",
    "source",
    "data",
    "extra",
)
_NAMED = frozenset({"project", "prd_id", "story_id", "run_id", "session_id", "source"})
_FIELDS = (
    *("status", "success", "passed", "failed", "total", "failures", "story_id", "commit_hash", "subject", "message"),
    *("level", "error", "for", "reason", "until", "current", "stories", "title", "command", "iteration", "exit_code"),
    *("tool_name", "tool_input", "tool_response", "tool_use_id", "prompt", "cwd", "transcript_path", "hook_event_name"),
)


# Whatever is named gets a document that stays, a story one for each of its runs and projects: with more names than these
# a long run would measure how many documents there are.
_NAMES = 6


class Hostile:
    """Each method gives one input. ``made`` counts the parts of inputs that have parsers of their own."""

    def __init__(self, dice: Random, api: dict[str, Any]) -> None:
        self._dice = dice
        self.made: Counter[str] = Counter()
        self._names = {field: [self.value(1) for _ in range(_NAMES)] for field in sorted(_NAMED)}
        self._operations = [
            (path, operation)
            for path, methods in api["paths"].items()
            for method, operation in methods.items()
            if method == "get" and not path.endswith(("/stream", "openapi.json"))
        ]

    # -- values ------------------------------------------------------------------------------------------------------

    def text(self) -> str:
        dice = self._dice
        if dice.random() < 0.5:
            return dice.choice(_TEXTS)
        return "".join(chr(dice.randrange(32, 0x2FF)) for _ in range(dice.randrange(12)))

    def value(self, depth: int = 3) -> Any:
        dice = self._dice
        kind = dice.random()
        if depth and kind < 0.15:
            return [self.value(depth - 1) for _ in range(dice.randrange(4))]
        if depth and kind < 0.35:
            return {dice.choice((*_FIELDS, self.text())): self.value(depth - 1) for _ in range(dice.randrange(5))}
        if kind < 0.4:
            return self._nested(dice.choice((5, 31, 32, 33, 200)))
        if kind < 0.6:
            return dice.choice(_NUMBERS)
        return dice.choice((None, True, False, self.text(), self.text(), self.text()))

    def name(self, field: str) -> Any:
        """What may be no name at all, but is one of a limited number."""
        return self._dice.choice(self._names[field])

    @staticmethod
    def _nested(levels: int) -> Any:
        value: Any = {}
        for _ in range(levels):
            value = {"a": value}
        return value

    # -- events ------------------------------------------------------------------------------------------------------

    def event(self) -> Any:
        """Mostly an object that looks like an event, with something wrong in one place or none."""
        dice = self._dice
        if dice.random() < 0.03:
            return self.value()
        event: dict[str, Any] = {"type": dice.choice(_TYPES), "data": {}}
        for _ in range(dice.randrange(4)):
            field = dice.choice(_ENVELOPE)
            event[field] = self.name(field) if field in _NAMED else dice.choice((self.text, self.value))()
        if dice.random() < 0.7:
            event |= {
                "type": dice.choice(_TYPES),
                "prd_id": f"PRD-{dice.randrange(20)}",
                "story_id": f"US-{dice.randrange(9)}",
            }
        if isinstance(event["data"], dict):
            event["data"] = event["data"] | {dice.choice(_FIELDS): self.value() for _ in range(dice.randrange(4))}
        return event

    def line(self) -> bytes:
        """One line of NDJSON or of the spool, without its end."""
        return self._bent(json.dumps(self.event(), ensure_ascii=self._dice.random() < 0.5))

    def hook(self) -> bytes:
        """A line of an agent's hook."""
        dice = self._dice
        self.made["hooks"] += 1
        data = {dice.choice(_FIELDS): self.value() for _ in range(dice.randrange(8))}
        data |= {
            "hook_event_name": dice.choice((*_HOOKS, self.value())),
            "session_id": dice.choice(("s1", "s2", self.name("session_id"))),
        }
        if dice.random() < 0.3:
            data |= {
                "tool_name": "Bash",
                "tool_input": {"command": dice.choice(("pytest", "git commit", self.value()))},
            }
        raw = {"type": f"hook.{dice.choice(('claude', 'codex', self.text()))}", "data": data}
        return self._bent(json.dumps(raw))

    def _bent(self, text: str) -> bytes:
        """``text`` as bytes, now and then cut, flipped or stuffed somewhere; never with a newline in it."""
        dice = self._dice
        line = bytearray(text.encode("utf-8", "surrogatepass"))
        for _ in range(dice.choice((0, 0, 0, 1, 3))):
            place = dice.randrange(len(line) + 1)
            kind = dice.randrange(4)
            if kind == 0:
                del line[place:]
            elif kind == 1 and place < len(line):
                line[place] ^= 1 << dice.randrange(8)
            elif kind == 2:
                line[place:place] = dice.choice((b"\0", b"\xff", b"\xed\xa0\x80", b'"', b"{", b"]", b"\\u12"))
            else:
                line[place:place] = line[: dice.randrange(len(line) + 1)]
        return bytes(line).replace(b"\n", b" ").replace(b"\r", b" ")

    # -- requests ----------------------------------------------------------------------------------------------------

    def cursor(self, good: str) -> str:
        dice = self._dice
        self.made["cursors"] += 1
        kind = dice.randrange(5)
        if kind == 0:
            return good
        if kind == 1:
            epoch, seq, digest = good.split(".")
            return f"{epoch}.{int(seq) + dice.choice((-1, 1, 10**9, 10**17))}.{digest}"
        if kind == 2:
            return good[: dice.randrange(len(good))]
        place = dice.randrange(len(good))
        return self.text() if kind == 3 else good[:place] + dice.choice("0fz.\u0661") + good[place + 1 :]

    def start(self, good: str) -> Any:
        dice = self._dice
        forms: tuple[Callable[[], Any], ...] = (
            lambda: "now",
            lambda: "start",
            lambda: {"last": dice.choice(_NUMBERS)},
            lambda: {"since": self.value(1)},
            lambda: self.cursor(good),
            self.value,
        )
        return dice.choice(forms)()

    def filter(self) -> Any:
        self.made["filters"] += 1
        names = ("types", "projects", "prd_ids", "story_ids", "run_ids", "session_ids", "sources", self.text())
        if self._dice.random() < 0.2:
            return self.value()
        return {self._dice.choice(names): self.value(1) for _ in range(self._dice.randrange(3))}

    def request(self, good: str) -> tuple[str, list[tuple[str, str]]]:
        """A path and a query, by the API's description: parameters with values that fit, and that do not."""
        dice = self._dice
        path, operation = dice.choice(self._operations)
        self.made["filters"] += path == "/api/events"
        query: list[tuple[str, str]] = []
        for parameter in operation["parameters"]:
            if parameter["in"] == "path":
                path = path.replace(
                    "{" + parameter["name"] + "}", dice.choice(("PRD-1", "PRD-2", "x", "%2e%2e", "%00"))
                )
            elif dice.random() < 0.5:
                query += [(parameter["name"], self._argument(parameter, good)) for _ in range(dice.choice((1, 1, 2)))]
        if dice.random() < 0.1:
            query.append((self.text(), self.text()))
        return path, query

    def _argument(self, parameter: dict[str, Any], good: str) -> str:
        dice = self._dice
        if parameter["name"] in ("after", "before", "from", "cursor", "since"):
            return self.cursor(good)
        chosen = parameter["schema"].get("enum") or parameter["schema"].get("items", {}).get("enum")
        if chosen and dice.random() < 0.5:
            return str(dice.choice(chosen))
        return dice.choice((self.text(), str(dice.choice(_NUMBERS)), "1", "PRD-1", "10m", "2026-01-26T12:00:00Z"))

    # -- Socket.IO ---------------------------------------------------------------------------------------------------

    def packet(self, good: str) -> str | bytes:
        """What goes into one websocket message."""
        dice = self._dice
        kind = dice.random()
        if kind < 0.75:
            name = dice.choice(
                ("event", "event", "subscribe", "subscribe_prd", "unsubscribe_prd", "watch", "control_prd")
            )
            ack = dice.choice(("", "1", "7", "99999999999999999999"))
            return f"42{ack}{json.dumps([name, self._payload(name, good)])}"
        if kind < 0.9:
            return f"42{dice.choice(('', '3', '/other,', '/x,7'))}{json.dumps(self.value())}"
        if kind < 0.95:
            return dice.choice(
                ("2", "3", "40", "40/admin,", "41", "43", "431[]", "44", "451-", "45", "5", "6", "9", "", "4")
            )
        return dice.randbytes(dice.randrange(64))

    def _payload(self, name: str, good: str) -> Any:
        dice = self._dice
        if dice.random() < 0.2:
            return self.value()
        if name == "event":
            return self.event()
        if name == "subscribe":
            return {
                "filter": self.filter(),
                "from": self.start(good),
                "max_batch": dice.choice((1, 256, self.value(1))),
            }
        if name == "watch":
            return {"prd": dice.choice(({"prd_id": "PRD-1", "project": None}, self.value()))}
        return {"prd_id": dice.choice(("PRD-1", "*", self.value())), "history": dice.choice((0, 10, self.value(1)))}

    def polling_body(self) -> bytes:
        """What a polling client would post."""
        dice = self._dice
        return dice.choice((b"40", b"2probe", b"42[]", b"\x1e" * 20, b"b" + dice.randbytes(20), dice.randbytes(30)))
