"""The systemd user units as files: made from those in `systemd/` for one command, state directory and port.

A first line says that we wrote the rest, with its digest, so that what somebody has changed since is never overwritten.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from claude_loop.errors import ForeignFile, SettingsRefused

SERVICE, SOCKET, PATH = "claude-loop.service", "claude-loop.socket", "claude-loop.path"
NAMES = (SERVICE, SOCKET, PATH)
State = Literal["missing", "current", "older", "changed", "foreign"]

_MARK = re.compile(r"# Written by `claude-loop service install` \(([0-9a-f]{16})\).*\n")
_HOME_LINE = re.compile(r'^Environment="?CLAUDE_LOOP_HOME=([^"\n]*)"?$', re.MULTILINE)
# What the templates say: the usual command, state directory and port.
_COMMAND, _HOME, DEFAULT_PORT = "%h/.local/bin/claude-loop", "%h/.local/state/claude-loop", 18790
# In one of these a path would need more than quotes, and nobody has them in a path that holds programs.
_UNQUOTABLE = re.compile(r"[\x00-\x1f\x7f\"'\\]")


@dataclass(frozen=True, slots=True)
class Plan:
    """What the units are to run, on which directory, and behind which port."""

    templates: Path
    command: Path
    home: Path
    port: int
    has_ipv6: bool = True

    def text(self, name: str) -> str:
        """The unit as it is to be. Raises ``SettingsRefused`` for a path that a unit cannot hold."""
        template = (self.templates / name).read_text(encoding="utf-8")
        body = "".join(f"{self._line(line)}\n" for line in template.splitlines() if self._applies(line))
        hint = f"to change it: systemctl --user edit {name}"
        return f"# Written by `claude-loop service install` ({_digest(body)}); {hint}\n{body}"

    def _applies(self, line: str) -> bool:
        return self.has_ipv6 or not line.startswith("ListenStream=[")

    def _line(self, line: str) -> str:
        key, equals, value = line.partition("=")
        if line.startswith("#") or not equals:
            return line
        value = value.replace(_COMMAND, f'"{_escaped(self.command)}"').replace(_HOME, _escaped(self.home))
        if key in ("Environment", "ReadWritePaths") and " " in value:  # elsewhere a space is no separator
            value = f'"{value}"'
        if key == "ListenStream":
            value = value.replace(f":{DEFAULT_PORT}", f":{self.port}")
        return f"{key}={value}"


class UnitFiles:
    """The three files in the directory where a user's manager looks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def state(self, name: str, plan: Plan) -> State:
        try:
            text = (self.folder / name).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return "missing"
        if text == plan.text(name):
            return "current"
        mark = _MARK.match(text)
        if mark is None:  # a copy made by hand is replaced: nothing in it is anybody's own
            return "older" if text == (plan.templates / name).read_text(encoding="utf-8") else "foreign"
        return "older" if _digest(text[mark.end() :]) == mark[1] else "changed"

    def insist_ours(self, plan: Plan) -> None:
        """Raises ``ForeignFile`` where replacing or removing would take something of somebody's away."""
        for name in NAMES:
            if self.state(name, plan) in ("changed", "foreign"):
                raise ForeignFile(
                    f"{self.folder / name} was written or changed by hand.",
                    hint=f"Move it away; `systemctl --user edit {name}` keeps changes in a file of their own.",
                )

    def write(self, plan: Plan) -> list[str]:
        """The names of those that were not there, or were others."""
        texts = {name: plan.text(name) for name in NAMES if self.state(name, plan) != "current"}
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            fresh = self.folder / f".{name}.{os.getpid()}"
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(self.folder / name)
        return list(texts)

    def remove(self) -> list[str]:
        there = [name for name in NAMES if (self.folder / name).exists()]
        for name in there:
            (self.folder / name).unlink()
        return there

    def served_home(self) -> Path | None:
        """The state directory that the installed service names; None where it does not."""
        try:
            found = _HOME_LINE.search((self.folder / SERVICE).read_text(encoding="utf-8", errors="replace"))
        except OSError:
            return None
        if found is None:
            return None
        return Path(found[1].replace("%%", "\0").replace("%h", str(Path.home())).replace("\0", "%"))


def user_folder() -> Path:
    """Where a user's own units are."""
    base = os.environ.get("XDG_CONFIG_HOME")
    root = Path(base) if base and os.path.isabs(base) else Path.home() / ".config"
    return root / "systemd" / "user"


def _digest(body: str) -> str:
    return sha256(body.encode()).hexdigest()[:16]


def _escaped(path: Path) -> str:
    text = str(path)
    if _UNQUOTABLE.search(text):
        raise SettingsRefused(f"A systemd unit cannot hold the path {text!r}.", hint="Move it to a plainer one.")
    return text.replace("%", "%%")
