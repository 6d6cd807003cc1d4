"""What `up` and `down` ask of systemd. No user manager runs under test: a script stands in for `systemctl`."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_loop import systemd_units
from claude_loop.errors import DaemonUnreachable
from claude_loop.paths import Home
from claude_loop.systemd_units import start_unit, stop_units
from tests.fake_systemd import FakeSystemd

ANSWERS = """
  is-active) grep -qx "$4" "$ACTIVE" ;;
  start) [ ! -e "$BROKEN" ] ;;
"""


class Systemd(FakeSystemd):
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(folder, monkeypatch, ANSWERS)
        for name in ("active", "broken"):
            monkeypatch.setenv(name.upper(), str(folder / name))
        self.active()

    def active(self, *units: str) -> None:
        (self.folder / "active").write_text("".join(f"{unit}\n" for unit in units))


@pytest.fixture
def systemd(tmp_path, monkeypatch) -> Systemd:
    return Systemd(tmp_path / "run", monkeypatch)


@pytest.fixture
def default_home() -> Home:
    return Home.from_environment({})


def test_the_service_is_started_where_its_socket_is_there(systemd, default_home):
    systemd.active("claude-loop.socket")
    assert start_unit(default_home)
    assert systemd.asked() == ["start claude-loop.service"]


def test_without_the_socket_we_start_it_ourselves(systemd, default_home):
    assert not start_unit(default_home)
    assert systemd.asked() == []


def test_a_service_that_does_not_start_is_an_error_with_a_next_step(systemd, default_home):
    systemd.active("claude-loop.socket")
    (systemd.folder / "broken").touch()
    with pytest.raises(DaemonUnreachable) as failure:
        start_unit(default_home)
    assert "journalctl" in failure.value.hint


@pytest.mark.parametrize("active", [(), ("claude-loop.service", "claude-loop.socket", "claude-loop.path")])
def test_what_would_start_it_again_is_stopped_with_it(systemd, default_home, active):
    systemd.active(*active)
    stop_units(default_home)
    assert systemd.asked() == ["stop claude-loop.path claude-loop.socket claude-loop.service"]


def test_the_units_serve_the_default_home_only(systemd, home):
    systemd.active("claude-loop.service", "claude-loop.socket", "claude-loop.path")
    assert not start_unit(Home(home))
    stop_units(Home(home))
    assert systemd.asked() == []


def test_without_a_user_manager_nothing_is_asked(systemd, default_home, monkeypatch):
    systemd.active("claude-loop.socket")
    (systemd.folder / "systemd" / "private").unlink()
    assert not start_unit(default_home)
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert not start_unit(default_home)
    assert systemd.asked() == []


def test_a_manager_that_hangs_is_an_error(systemd, default_home, monkeypatch):
    monkeypatch.setattr(systemd_units, "_SECONDS", 0.05)
    (systemd.folder / "bin" / "systemctl").write_text("#!/bin/sh\nexec sleep 10\n")
    with pytest.raises(DaemonUnreachable, match="did not end within"):
        start_unit(default_home)
