"""The user units in systemd/: accepted by systemd itself, consistent with each other and with the daemon."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from claude_loop.paths import Home
from claude_loop.settings import DEFAULT_PORT
from claude_loop.unit_files import Plan
from tests.support import BIN, ROOT

UNITS = ["claude-loop.service", "claude-loop.socket", "claude-loop.path"]


def directives(unit: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (ROOT / "systemd" / unit).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


class Verified:
    """The units as a person would have them, in a home with the command where the service expects it."""

    def __init__(self, folder: Path) -> None:
        self.home, self.runtime, self.units = folder / "home", folder / "run", folder / "units"
        local = self.home / ".local" / "bin"
        for directory in (local, self.runtime, self.units):
            directory.mkdir(parents=True, mode=0o700)
        (local / "claude-loop").symlink_to(BIN / "claude-loop")
        for unit in UNITS:
            (self.units / unit).write_text((ROOT / "systemd" / unit).read_text())

    def verify(self, unit: str) -> tuple[int, str]:
        # systemd takes %h from HOME, or for root from the system: there the test puts the home in itself.
        for each in self.units.iterdir():
            each.write_text(each.read_text().replace("%h/", f"{self.home}/"))
        done = subprocess.run(
            ["systemd-analyze", "verify", "--user", "--man=no", str(self.units / unit)],
            env={"HOME": str(self.home), "XDG_RUNTIME_DIR": str(self.runtime), "PATH": os.environ["PATH"]},
            cwd=self.units,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stderr


@pytest.fixture
def verified(tmp_path: Path) -> Verified:
    return Verified(tmp_path)


@pytest.mark.requires("systemd-analyze")
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_accepts_the_unit_without_a_word(verified, unit):
    assert verified.verify(unit) == (0, "")


@pytest.mark.requires("systemd-analyze")
@pytest.mark.parametrize(
    ("unit", "before", "after"),
    [
        ("claude-loop.service", "ProtectSystem=strict", "ProtectSystem=strictly"),
        ("claude-loop.service", "/.local/bin/claude-loop serve", "/.local/bin/claude-lop serve"),
        ("claude-loop.socket", "NoDelay=yes", "NoDelay=perhaps"),
        ("claude-loop.path", "MakeDirectory=yes", "MakeDirectories=yes"),
    ],
)
def test_systemd_would_have_complained_about_a_slip(verified, unit, before, after):
    text = (verified.units / unit).read_text()
    assert before in text
    (verified.units / unit).write_text(text.replace(before, after))
    status, words = verified.verify(unit)
    assert status != 0 or words


@pytest.mark.requires("systemd-analyze")
@pytest.mark.parametrize("folder", ["plain", "with a space and 50%"])
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_accepts_what_service_install_writes(verified, tmp_path, folder, unit):
    command = tmp_path / folder / "bin" / "claude-loop"
    command.parent.mkdir(parents=True)
    command.symlink_to(BIN / "claude-loop")
    plan = Plan(ROOT / "systemd", command, tmp_path / folder / "state", 18791)
    for name in UNITS:
        (verified.units / name).write_text(plan.text(name))
    assert verified.verify(unit) == (0, "")


def test_service_and_path_unit_mean_the_directory_that_emitters_use():
    home = Home.from_environment({}).root
    expected = str(home).replace(str(Path.home()), "%h")
    service, path = directives("claude-loop.service"), directives("claude-loop.path")
    assert service["Environment"] == [f"CLAUDE_LOOP_HOME={expected}"]
    assert service["ReadWritePaths"] == [expected]
    assert path["DirectoryNotEmpty"] == [f"{expected}/{Home(home).spool.name}"]


def test_the_socket_unit_opens_both_loopback_addresses_and_nothing_else():
    assert directives("claude-loop.socket")["ListenStream"] == [f"127.0.0.1:{DEFAULT_PORT}", f"[::1]:{DEFAULT_PORT}"]


def test_the_path_unit_starts_the_service_and_the_service_needs_what_it_makes():
    assert directives("claude-loop.path")["Unit"] == ["claude-loop.service"]
    assert "claude-loop.path" in directives("claude-loop.service")["Wants"]
    assert all("claude-loop.path" in after for after in directives("claude-loop.service")["After"])


def test_nothing_in_the_service_takes_capabilities_away_from_a_manager_that_has_none():
    """They make the unit fail with status 218 where the manager is not privileged."""
    assert not [
        key
        for key in directives("claude-loop.service")
        if re.match(
            "(Ambient|CapabilityBoundingSet|PrivateDevices|ProtectKernelModules|ProtectKernelLogs|ProtectClock)", key
        )
    ]
