"""What is asked of systemd about our user units: by `up` and `down`, `service` and `doctor`."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from claude_loop import resources
from claude_loop.errors import DaemonUnreachable, NoUserManager, UnitFailed
from claude_loop.paths import Home
from claude_loop.unit_files import DEFAULT_PORT, NAMES, PATH, SERVICE, SOCKET, Plan, UnitFiles, user_folder

_SECONDS = 30
_LINGER = Path("/var/lib/systemd/linger")


def start_unit(home: Home) -> bool:
    """Start the service through systemd if its socket unit is active for this home; False if it is not.

    Raises ``DaemonUnreachable`` when systemd could not start it: the port is systemd's then, and nobody else can.
    """
    if not _manages(home) or not _succeeds("is-active", "--quiet", SOCKET):
        return False
    if not _succeeds("start", SERVICE):
        hint = f"`journalctl --user -u {SERVICE} -n 20` says why."
        raise DaemonUnreachable(f"systemd could not start {SERVICE}.", hint=hint)
    return True


def runs(home: Home, pid: int) -> bool:
    """Whether the daemon of this home with that ``pid`` is the service."""
    if not _manages(home):
        return False
    return _systemctl("show", "--property=MainPID", "--value", SERVICE).stdout.strip() == str(pid)


def restart_unit() -> None:
    """Stop the service in order and start it again; its port stays open meanwhile. Raises ``UnitFailed``."""
    _insist("restart", SERVICE)


def stop_units(home: Home) -> None:
    """Stop what would start the daemon again, then the service."""
    if _manages(home):
        # Whatever state they are in: a service that waits for its restart is not "active", and would come back.
        _succeeds("stop", PATH, SOCKET, SERVICE)


def enable_units() -> None:
    """Read the files anew; open the port and watch the spool, now and at each login. Raises ``UnitFailed``."""
    _succeeds("stop", PATH, SOCKET, SERVICE)  # units of another directory or port would go on as they began
    _insist("daemon-reload")
    _insist("enable", "--now", SOCKET, PATH)


def disable_units() -> None:
    """Stop all, and start none of them any more. Raises ``UnitFailed``."""
    _insist("disable", "--now", PATH, SOCKET, SERVICE)


def forget_units() -> None:
    """After their files are gone. Raises ``UnitFailed``."""
    _insist("daemon-reload")


def unit_states() -> dict[str, tuple[str, str]]:
    """Unit -> whether it is active and whether it is enabled, in systemd's words."""
    return {
        name: (_systemctl("is-active", name).stdout.strip(), _systemctl("is-enabled", name).stdout.strip())
        for name in NAMES
    }


def plan_for(home: Home, port: int) -> Plan:
    """The units for this copy of claude-loop; without a port of its own (0) behind the usual one."""
    return Plan(
        templates=resources.units(),
        command=resources.lasting(resources.command()),
        home=home.root,
        port=port or DEFAULT_PORT,
        has_ipv6=_has_ipv6(),
    )


def _has_ipv6() -> bool:
    """Whether this machine has ::1."""
    try:
        return f"{1:032x}" in Path("/proc/net/if_inet6").read_text()
    except OSError:
        return False


def insist_manager() -> None:
    """Raises ``NoUserManager``."""
    if not has_manager():
        raise NoUserManager("No user manager of systemd runs here.")


def has_manager() -> bool:
    """Whether there is a user manager to ask."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return (
        bool(runtime) and Path(runtime or "", "systemd", "private").exists() and shutil.which("systemctl") is not None
    )


def lingers(folder: Path = _LINGER) -> bool:
    """Whether the user's units run while the user is logged out."""
    return (folder / pwd.getpwuid(os.geteuid()).pw_name).exists()


def _manages(home: Home) -> bool:
    """Whether there is a user manager, and this is the home its units serve: by default the default one."""
    if not has_manager():
        return False
    return home.root == (UnitFiles(user_folder()).served_home() or Home.from_environment({}).root)


def _insist(*arguments: str) -> None:
    done = _systemctl(*arguments)
    if done.returncode:
        said = " ".join(done.stderr.split())[:300]
        raise UnitFailed(f"`systemctl --user {' '.join(arguments)}` failed: {said or f'status {done.returncode}'}")


def _succeeds(*arguments: str) -> bool:
    return _systemctl(*arguments).returncode == 0


def _systemctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["systemctl", "--user", *arguments]
    try:
        return subprocess.run(command, check=False, timeout=_SECONDS, capture_output=True, text=True)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise DaemonUnreachable(f"`{' '.join(command)}` did not end within {_SECONDS} seconds.", hint="") from None
