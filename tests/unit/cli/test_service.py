"""`claude-loop service`. No user manager runs under test: a script stands in for `systemctl`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from claude_loop import systemd_units
from claude_loop.cli import cli
from claude_loop.doctor import units as checks
from claude_loop.paths import Home
from claude_loop.unit_files import NAMES, SERVICE
from tests.fake_systemd import FakeSystemd
from tests.unit.doctor.scenes import findings, scene

ANSWERS = """
  is-active) if [ -e "$FAILED" ]; then echo failed; exit 3; else echo active; fi ;;
  is-enabled) echo enabled ;;
  enable) [ ! -e "$FAILED" ] || { echo "Failed to enable: no." >&2; exit 1; } ;;
"""


class Machine(FakeSystemd):
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(folder, monkeypatch, ANSWERS)
        self.failed = folder / "failed"
        monkeypatch.setenv("HOME", str(folder))
        monkeypatch.setenv("FAILED", str(self.failed))
        monkeypatch.setattr(systemd_units, "_LINGER", folder / "linger")
        self.units = Path(os.environ["XDG_CONFIG_HOME"]) / "systemd" / "user"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path / "run", monkeypatch)


def service(*arguments: str):
    return CliRunner().invoke(cli, ["service", *arguments])


def test_install_writes_enables_and_hints(machine, home):
    outcome = service("install")
    assert (outcome.exit_code, outcome.stdout) == (0, "")
    assert sorted(os.listdir(machine.units)) == sorted(NAMES)
    assert f"CLAUDE_LOOP_HOME={home}" in (machine.units / SERVICE).read_text()
    assert machine.asked()[-2:] == ["daemon-reload", "enable --now claude-loop.socket claude-loop.path"]
    assert "loginctl enable-linger" in outcome.stderr
    assert service("install").exit_code == 0, "again is no fault"


def test_up_and_down_know_the_directory_that_the_units_serve(machine, home):
    service("install")
    machine.forget()
    assert systemd_units.start_unit(Home(home))
    systemd_units.stop_units(Home(home))
    assert machine.asked() == [
        "start claude-loop.service",
        "stop claude-loop.path claude-loop.socket claude-loop.service",
    ]
    assert not systemd_units.start_unit(Home.from_environment({}))


def test_uninstall_removes_its_own(machine):
    service("install")
    machine.forget()
    drop_in = machine.units / "claude-loop.service.d" / "override.conf"
    drop_in.parent.mkdir()
    drop_in.touch()
    assert service("uninstall").exit_code == 0
    assert os.listdir(machine.units) == ["claude-loop.service.d"]
    assert machine.asked() == ["disable --now claude-loop.path claude-loop.socket claude-loop.service", "daemon-reload"]
    assert "not installed" in service("uninstall").stderr


@pytest.mark.parametrize("command", ["install", "uninstall"])
def test_a_unit_changed_by_hand_is_neither_replaced_nor_removed(machine, command):
    machine.units.mkdir(parents=True)
    (machine.units / SERVICE).write_text("[Service]\nExecStart=/bin/true\n")
    outcome = service(command)
    assert outcome.exit_code == 4
    assert "systemctl --user edit" in outcome.stderr
    assert os.listdir(machine.units) == [SERVICE]
    assert machine.asked() == []


def test_without_a_user_manager_nothing_is_written(machine, monkeypatch):
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    outcome = service("install")
    assert outcome.exit_code == 1
    assert "XDG_RUNTIME_DIR" in outcome.stderr
    assert not machine.units.exists()


def test_what_systemd_says_against_it_is_told(machine):
    machine.failed.touch()
    outcome = service("install")
    assert outcome.exit_code == 1
    assert "Failed to enable: no." in outcome.stderr


def test_status_and_doctor(machine):
    assert service("status").exit_code == 1
    assert [one.level for one in findings(checks.files, scene())] == ["ok"]
    assert findings(checks.states, scene()) == []

    service("install")
    outcome = service("status")
    assert outcome.exit_code == 0
    assert "claude-loop.socket: installed, active, enabled\n" in outcome.stdout
    assert [one.level for one in findings(checks.files, scene())] == ["ok"]
    assert [one.fix for one in findings(checks.states, scene())] == ["loginctl enable-linger"]
    assert [one.fix for one in findings(checks.files, scene(port=18799))] == ["claude-loop service install"]

    machine.failed.touch()
    assert service("status").exit_code == 1
    assert {one.level for one in findings(checks.states, scene())} == {"problem", "warning"}
    (machine.units / SERVICE).unlink()
    assert "warning" in {one.level for one in findings(checks.files, scene())}


def test_on_macos_the_file_is_written_and_said_to_be_untested(machine, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.platform", "darwin")
    path = Path(os.environ["HOME"]) / "Library" / "LaunchAgents" / "claude-loop.plist"
    outcome = service("install")
    assert outcome.exit_code == 0
    assert "not been tested" in outcome.stderr
    assert path.exists()
    assert service("status").exit_code == 0
    assert service("uninstall").exit_code == 0
    assert not path.exists()
    path.write_text("somebody's")
    assert service("install").exit_code == service("uninstall").exit_code == 4
    assert machine.asked() == []
