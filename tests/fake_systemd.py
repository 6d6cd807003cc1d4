"""A user manager that is not there: a script stands in for `systemctl`, and writes down what it was asked."""

from __future__ import annotations

from pathlib import Path

import pytest

SYSTEMCTL = """#!/bin/sh
echo "$*" >>"$ASKED"
case "$2" in
%s
esac
"""


class FakeSystemd:
    """``answers``: the cases of `systemctl --user VERB`, in sh."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, answers: str) -> None:
        self.folder = folder
        (folder / "systemd").mkdir(parents=True)
        (folder / "systemd" / "private").touch()
        (folder / "bin").mkdir()
        (folder / "bin" / "systemctl").write_text(SYSTEMCTL % answers)
        (folder / "bin" / "systemctl").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
        monkeypatch.setenv("ASKED", str(folder / "asked"))

    def asked(self) -> list[str]:
        """What was asked, without looking."""
        file = self.folder / "asked"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line.removeprefix("--user ") for line in lines if " is-" not in line]

    def forget(self) -> None:
        """What was asked before does not count."""
        (self.folder / "asked").unlink()
