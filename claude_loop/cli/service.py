"""`service`: the daemon as a service of the user, under systemd; for launchd the file is written."""

from __future__ import annotations

import shlex
import sys

import click

from claude_loop import launch, launch_agent, resources, systemd_units
from claude_loop.cli import FAILED
from claude_loop.cli.terminal import note, put
from claude_loop.client import DaemonClient
from claude_loop.errors import ForeignFile
from claude_loop.instance import is_running
from claude_loop.paths import Home
from claude_loop.unit_files import NAMES, Plan, UnitFiles, user_folder

_STATES = {
    "missing": "not installed",
    "current": "installed",
    "older": "installed, of another version or place",
    "changed": "changed by hand",
    "foreign": "not written by us",
}


@click.group()
def service() -> None:
    """Run the daemon as a service of yours: at login, and with the first event or connection."""


@service.command(short_help="Write the user units and start them, now and at each login.")
def install() -> None:
    """Write the user units, open the port and watch the spool, now and at each login.

    A daemon that runs is stopped, and started again by systemd. Repeating it renews units of an older version.
    """
    home = Home.from_environment()
    if sys.platform == "darwin":
        _write_agent(home)
        return
    systemd_units.insist_manager()
    plan, files = _planned(home), UnitFiles(user_folder())
    files.insist_ours(plan)
    home.prepare()
    ran = is_running(home)
    launch.stop(home)  # the port has to be free for the socket unit
    for name in files.write(plan):
        note(f"wrote {files.folder / name}")
    systemd_units.enable_units()
    if ran:
        launch.start(home, DaemonClient(home), tell=note)
    note(f"systemd has port {plan.port} and watches {home.spool}: the first connection or event starts the daemon.")
    if not systemd_units.lingers():
        note("It ends when you log out. To keep it running then:\n  loginctl enable-linger")


@service.command()
def uninstall() -> None:
    """Stop the units and remove their files. Settings made with `systemctl edit`, and all events, stay."""
    if sys.platform == "darwin":
        _remove_agent()
        return
    plan, files = _planned(Home.from_environment()), UnitFiles(user_folder())
    if not any((files.folder / name).exists() for name in NAMES):
        note("The units are not installed.")
        return
    files.insist_ours(plan)
    if systemd_units.has_manager():
        systemd_units.disable_units()
    for name in files.remove():
        note(f"removed {files.folder / name}")
    if systemd_units.has_manager():
        systemd_units.forget_units()


@service.command()
def status() -> None:
    """Say how the units are. Status 1 when they are not installed, or one has failed."""
    if sys.platform == "darwin":
        put(f"{launch_agent.location()}: {'written' if launch_agent.location().exists() else 'not written'}")
        return
    plan, files = _planned(Home.from_environment()), UnitFiles(user_folder())
    states = {name: files.state(name, plan) for name in NAMES}
    asked = systemd_units.unit_states() if systemd_units.has_manager() else {}
    for name, state in states.items():
        active, enabled = asked.get(name, ("", ""))
        words = f", {active}, {enabled or 'unknown'}" if active and state != "missing" else ""
        put(f"{name}: {_STATES[state]}{words}")
    if not asked:
        note("No user manager of systemd runs here.")
    elif not systemd_units.lingers():
        note("It ends when you log out: `loginctl enable-linger` keeps it running.")
    if "missing" in states.values() or any(active == "failed" for active, _ in asked.values()):
        sys.exit(FAILED)


def _planned(home: Home) -> Plan:
    from claude_loop.settings import load_settings

    return systemd_units.plan_for(home, load_settings().port)


def _write_agent(home: Home) -> None:
    path = launch_agent.location()
    content = launch_agent.property_list(resources.lasting(resources.command()), home.root)
    if path.exists() and not launch_agent.is_ours(path.read_bytes()):
        raise ForeignFile(f"{path} is there already, and not made by `claude-loop service install`.")
    home.prepare()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    note(f"wrote {path}. It has not been tested on macOS. To start it now, and at each login:")
    note(f"  claude-loop down; launchctl bootstrap gui/$(id -u) {shlex.quote(str(path))}")


def _remove_agent() -> None:
    path = launch_agent.location()
    if not path.exists():
        note(f"{path} is not there.")
        return
    if not launch_agent.is_ours(path.read_bytes()):
        raise ForeignFile(f"{path} is not made by `claude-loop service install`.")
    path.unlink()
    note(f"removed {path}. What runs from it ends with:\n  launchctl bootout gui/$(id -u)/{launch_agent.LABEL}")
