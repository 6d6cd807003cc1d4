"""Units made for one command, state directory and port, and what happens to files that are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_loop import resources
from claude_loop.errors import ForeignFile, SettingsRefused
from claude_loop.unit_files import NAMES, PATH, SERVICE, SOCKET, Plan, UnitFiles


def plan(command: str = "/opt/cl/bin/claude-loop", home: str = "/data/cl", port: int = 18791, **more: bool) -> Plan:
    return Plan(resources.units(), Path(command), Path(home), port, **more)


@pytest.fixture
def files(tmp_path: Path) -> UnitFiles:
    return UnitFiles(tmp_path / "systemd" / "user")


def test_command_directory_and_port_are_the_plan_s():
    service = plan().text(SERVICE)
    assert '\nExecStart="/opt/cl/bin/claude-loop" serve\n' in service
    assert "\nEnvironment=CLAUDE_LOOP_HOME=/data/cl\n" in service
    assert "\nReadWritePaths=/data/cl\n" in service
    assert "\nDirectoryNotEmpty=/data/cl/spool\n" in plan().text(PATH)
    assert "\nListenStream=127.0.0.1:18791\nFileDescriptorName" not in plan().text(SOCKET)
    assert "\nListenStream=[::1]:18791\n" in plan().text(SOCKET)
    for name in NAMES:
        settings = [line for line in plan().text(name).splitlines() if not line.startswith("#")]
        assert not [
            line for line in settings if "%h" in line or ("18790" in line and "=" in line and "Desc" not in line)
        ]


def test_without_ipv6_nobody_listens_on_it():
    assert "[::1]" not in plan(has_ipv6=False).text(SOCKET).replace("# ", "")
    assert "ListenStream=127.0.0.1:18791" in plan(has_ipv6=False).text(SOCKET)


def test_a_path_with_a_space_or_a_percent_sign():
    text = plan("/my programs/claude-loop", "/50%/my state").text(SERVICE)
    assert 'ExecStart="/my programs/claude-loop" serve' in text
    assert 'Environment="CLAUDE_LOOP_HOME=/50%%/my state"' in text
    assert 'ReadWritePaths="/50%%/my state"' in text


@pytest.mark.parametrize("home", ['/a"b', "/a\nExecStartPre=evil", "/a\\b"])
def test_a_path_that_would_become_something_else_is_refused(home):
    with pytest.raises(SettingsRefused):
        plan(home=home).text(SERVICE)


def test_written_once_and_renewed_when_the_plan_changes(files):
    assert {files.state(name, plan()) for name in NAMES} == {"missing"}
    assert files.write(plan()) == list(NAMES)
    assert files.write(plan()) == []
    assert {files.state(name, plan()) for name in NAMES} == {"current"}
    assert files.state(SERVICE, plan(home="/other")) == "older"
    assert files.write(plan(port=18792)) == [SOCKET]
    assert sorted(path.name for path in files.folder.iterdir()) == sorted(NAMES)
    assert files.served_home() == Path("/data/cl")
    assert files.remove() == list(NAMES)
    assert files.served_home() is None


def test_what_somebody_changed_or_wrote_is_left_alone(files):
    files.write(plan())
    path = files.folder / SERVICE
    path.write_text(path.read_text().replace("RestartSec=1", "RestartSec=5"))
    assert files.state(SERVICE, plan()) == "changed"
    with pytest.raises(ForeignFile):
        files.insist_ours(plan())
    path.write_text("[Service]\nExecStart=/bin/true\n")
    assert files.state(SERVICE, plan()) == "foreign"
    with pytest.raises(ForeignFile):
        files.insist_ours(plan())


def test_a_copy_made_by_hand_is_replaced(files):
    files.folder.mkdir(parents=True)
    (files.folder / SERVICE).write_text((resources.units() / SERVICE).read_text())
    assert files.state(SERVICE, plan()) == "older"
    assert files.served_home() == Path.home() / ".local" / "state" / "claude-loop"
    files.insist_ours(plan())
