"""Channels for notifications: set up so that they can work, and reachable. Nothing is sent, and no address is shown."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

from claude_loop.delivery.dispatch import Target, targets_of
from claude_loop.doctor.finding import Finding, ok, problem, warning
from claude_loop.doctor.scene import Scene
from claude_loop.errors import SettingsRefused
from claude_loop.settings import config_file

CONNECT_SECONDS = 3.0
_HTTP = re.compile(r"(https?)://([A-Za-z0-9.-]+)(?::(\d+))?(?:/|$)")


def channels(scene: Scene) -> Iterator[Finding]:
    if isinstance(scene.settings, SettingsRefused):
        return
    targets = targets_of(scene.settings.notify)
    if not targets:
        yield ok("No notifications are set up (docs/notifications.md).")
    for target in targets:
        yield _command(target) if target.settings.command else _address(target)


def _command(target: Target) -> Finding:
    program = target.settings.command[0]
    if shutil.which(program) is None:
        return problem(f"The channel {target.name} runs {os.path.basename(program)}, which is not there.", _edit())
    return ok(f"The channel {target.name} has its command.")


def _edit() -> str:
    return f'"${{EDITOR:-vi}}" {shlex.quote(str(config_file()))}'


class Server(NamedTuple):
    host: str
    port: int


def _address(target: Target) -> Finding:
    service = _service(target.url)
    if service is None:
        return problem(f"apprise does not know how to use the address of {target.name}.", _edit())
    server = server_of(service)
    if server is None:
        return ok(f"The channel {target.name} is set up; where it leads cannot be tried without sending.")
    try:
        # Opened and closed again: not a byte is sent.
        socket.create_connection(server, timeout=CONNECT_SECONDS).close()
    except OSError as failure:
        reason = failure.strerror or type(failure).__name__
        return warning(
            f"The channel {target.name} cannot be reached: {reason}.",
            f"claude-loop notify test --channel {target.settings.name}",
        )
    return ok(f"The channel {target.name} can be reached.")


def _service(url: str) -> Any:
    """apprise's service for an address; None where it has none. What apprise says may hold the address."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a module of apprise's uses an old one of Python's
        import apprise  # noqa: PLC0415 - it loads a hundred modules, for channels with an address alone

        with apprise.LogCapture(level=apprise.logging.CRITICAL):  # type: ignore[no-untyped-call]
            return apprise.Apprise.instantiate(url, suppress_exceptions=True)


def server_of(service: Any) -> Server | None:
    """The server that a service talks to, where apprise lets that be seen.

    The host of an address is often none: in `discord://` it is half of a secret, which must not be looked up.
    """
    mail = getattr(service, "smtp_host", None)
    if mail:
        return Server(str(mail), int(service.port or 587))
    names = ("cloud_notify_url", "notify_url") if getattr(service, "mode", None) == "cloud" else ("notify_url",)
    for name in names:
        address = _HTTP.match(str(getattr(service, name, "") or ""))
        if address:
            return Server(address[2], int(address[3] or (443 if address[1] == "https" else 80)))
    if "host" not in service.template_tokens or not service.host:
        return None
    return Server(str(service.host), int(service.port or (443 if service.secure else 80)))


def deliveries(scene: Scene) -> Iterator[Finding]:
    """What the running daemon has seen of its channels."""
    if scene.daemon.status is None or isinstance(scene.settings, SettingsRefused):
        return
    state = scene.daemon.status.get("notify")
    if not state:
        if scene.settings.tells_people:
            yield warning(
                "The running daemon began before the channels were set up.", "claude-loop down && claude-loop up"
            )
        return
    for channel in state.get("channels", []):
        if channel.get("failing_since"):
            yield problem(
                f"The channel {channel['name']} fails since {channel['failing_since']}: {channel.get('reason')}.",
                f"claude-loop notify test --channel {str(channel['name']).partition('#')[0]}",
            )
    dead = len(state.get("dead_letters", []))
    if dead:
        yield warning(f"{dead} notifications were given up.", "claude-loop notify status")


CHECKS = {"notifications": channels, "notifications.sent": deliveries}
