"""The systemd user units, where they are installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from claude_loop import systemd_units
from claude_loop.doctor.finding import Finding, ok, problem, warning
from claude_loop.doctor.scene import Scene
from claude_loop.errors import ClaudeLoopError, SettingsRefused
from claude_loop.unit_files import NAMES, UnitFiles, user_folder

_INSTALL = "claude-loop service install"


def files(scene: Scene) -> Iterator[Finding]:
    if sys.platform != "linux" or isinstance(scene.settings, SettingsRefused):
        return
    plan, there = systemd_units.plan_for(scene.home, scene.settings.port), UnitFiles(user_folder())
    states = {name: there.state(name, plan) for name in NAMES}
    if set(states.values()) == {"missing"}:
        yield ok("No systemd units are installed; `claude-loop up` needs none.")
        return
    if there.served_home() not in (None, scene.home.root):
        yield ok(f"The systemd units serve another state directory, {there.served_home()}.")
        return
    for name, state in states.items():
        if state == "missing":
            yield warning(f"{name} is not installed, while other units are.", _INSTALL)
        elif state == "older":
            yield warning(f"{there.folder / name} is of another version or place.", _INSTALL)
    if set(states.values()) <= {"current", "changed", "foreign"}:
        yield ok(f"The systemd units are in {there.folder}.")


def states(scene: Scene) -> Iterator[Finding]:
    del scene
    if not any((user_folder() / name).exists() for name in NAMES) or not systemd_units.has_manager():
        return
    try:
        asked = systemd_units.unit_states()
    except ClaudeLoopError as failure:
        yield problem(failure.message, "systemctl --user status")
        return
    for name, (active, enabled) in asked.items():
        if active == "failed":
            yield problem(f"{name} has failed.", f"journalctl --user -u {name} -n 20; systemctl --user reset-failed")
        elif enabled == "disabled" and not name.endswith(".service"):
            yield warning(f"{name} is not enabled: it will not be there after the next login.", _INSTALL)
        elif active != "active" and not name.endswith(".service"):
            yield warning(f"{name} is {active}.", f"systemctl --user start {name}")
    if not systemd_units.lingers():
        yield warning("The units end when you log out.", "loginctl enable-linger")


CHECKS = {"systemd.files": files, "systemd.units": states}
