"""The daemon: whether it runs, answers, is well and of this version; its port; and the settings it starts with."""

from __future__ import annotations

import difflib
import os
import shlex
import stat
from collections.abc import Iterator

from claude_loop.build import full_version
from claude_loop.doctor.finding import Finding, ok, problem, warning
from claude_loop.doctor.scene import Scene
from claude_loop.errors import SettingsRefused
from claude_loop.settings import Settings, config_file
from claude_loop.settings_words import variable_of
from claude_loop.transports.listeners import tls_context
from claude_loop.transports.neighbour import known_by_its_process
from claude_loop.transports.port_holder import Holder, holder

AGAIN = "claude-loop down && claude-loop up"
_LOOPBACK = {"127.0.0.1": ("127.0.0.1", "::1"), "localhost": ("127.0.0.1", "::1"), "::1": ("::1",)}


def settings(scene: Scene) -> Iterator[Finding]:
    path = config_file()
    edit = f'"${{EDITOR:-vi}}" {shlex.quote(str(path))}'
    if isinstance(scene.settings, SettingsRefused):
        stands = str(path) in scene.settings.message
        yield problem(scene.settings.message, edit if stands else "env | grep ^CLAUDE_LOOP_")
        return
    if not path.exists():
        yield ok("The settings are the defaults and what the environment says.")
        return
    secrets = scene.settings.tells_people
    if secrets and stat.S_IMODE(path.stat().st_mode) & 0o077:
        yield warning(f"{path} holds addresses of channels and may be read by others.", f"chmod 600 {path}")
    yield ok(f"{path} is valid.")


def tls(scene: Scene) -> Iterator[Finding]:
    """Whether the certificate can be used, and what an address beyond loopback lacks."""
    if isinstance(scene.settings, SettingsRefused):
        return
    try:
        context = tls_context(scene.settings)
    except SettingsRefused as refusal:
        edit = f'"${{EDITOR:-vi}}" {shlex.quote(str(config_file()))}'
        yield problem(refusal.message, edit)
        return
    if context is not None:
        yield ok("The certificate and its key can be used.")
    elif scene.settings.host not in _LOOPBACK and not scene.settings.insecure_behind_proxy:
        yield problem(
            f"The address {scene.settings.host} needs TLS, and there is no certificate: no daemon will start.",
            "CLAUDE_LOOP_HOST=127.0.0.1 claude-loop up",
        )


def surroundings(scene: Scene) -> Iterator[Finding]:
    """Variables that make what one sees something else than one thinks."""
    if scene.environ.get("CLAUDE_LOOP_DISABLE") == "1":
        yield warning("CLAUDE_LOOP_DISABLE=1 silences every emitter started from here.", "unset CLAUDE_LOOP_DISABLE")
    if scene.environ.get("CLAUDE_LOOP_URL"):
        yield warning(
            "CLAUDE_LOOP_URL is set: `tail`, `prds` and their like ask a daemon elsewhere, not this one.",
            "unset CLAUDE_LOOP_URL",
        )


def names(scene: Scene) -> Iterator[Finding]:
    """Variables that are no settings, but nearly: the daemon takes them for something else, and says nothing."""
    settings = {variable_of((name,)): name for name in Settings.model_fields}
    for name in sorted(scene.environ):
        table, _, inner = name.partition("__")
        if not name.startswith("CLAUDE_LOOP_") or table in settings:
            continue
        # Of what all begin with nothing is to be learned.
        near = difflib.get_close_matches(table[12:], [known[12:] for known in settings], n=1, cutoff=0.75)
        if near:
            meant = f"CLAUDE_LOOP_{near[0]}" + (f"__{inner}" if inner else "")
            yield warning(f"{name} is no setting. Did you mean {meant}?", f"unset {name}")


def answer(scene: Scene) -> Iterator[Finding]:
    daemon, home = scene.daemon, scene.home
    if daemon.status is not None:
        status = daemon.status
        if status.get("status") == "healthy":
            yield ok(f"The daemon (pid {status.get('pid')}) is healthy at {status.get('url') or home.socket}.")
        else:
            yield problem(f"The daemon is unhealthy: {status.get('reason')}", "claude-loop status")
    elif daemon.runs:
        yield problem(f"A daemon runs{_who(scene)}, but: {daemon.failure}", AGAIN)
    elif daemon.failure:
        yield problem(f"It cannot be told whether a daemon runs: {daemon.failure}.", f"ls -ld {home.root}")
    elif daemon.note is not None:
        yield warning(
            f"No daemon runs: one that was pid {daemon.note.pid} crashed, and left its daemon.json.", "claude-loop up"
        )
    else:
        yield warning("No daemon runs; what scripts emit waits in the spool.", "claude-loop up")


def note(scene: Scene) -> Iterator[Finding]:
    """What clients are led by, while a daemon runs."""
    if not scene.daemon.runs or scene.daemon.status is None:
        return
    if scene.daemon.note is None:
        yield warning(f"{scene.home.daemon_json} is missing: clients do not find the port.", AGAIN)
    elif scene.daemon.pid is None:
        yield warning(f"{scene.home.daemon_json} names pid {scene.daemon.note.pid}, which is not the daemon.", AGAIN)


def version(scene: Scene) -> Iterator[Finding]:
    status, ours = scene.daemon.status, full_version()
    if status is None:
        yield ok(f"This is version {ours}.")
    elif status.get("version") != ours:
        yield warning(f"The running daemon is version {status.get('version')}, this is {ours}.", "claude-loop up")
    else:
        yield ok(f"The running daemon and this command are version {ours}.")


def port(scene: Scene) -> Iterator[Finding]:
    if isinstance(scene.settings, SettingsRefused):
        return
    wanted, host = scene.settings.port, scene.settings.host
    if scene.daemon.runs:
        noted = scene.daemon.note.url if scene.daemon.note else ""
        if wanted and noted and not noted.endswith(f":{wanted}"):
            yield warning(f"The daemon listens at {noted}, while the settings say port {wanted}.", AGAIN)
        elif noted:
            yield ok(f"The daemon has its port: {noted}.")
        return
    if not wanted:
        yield ok("The next daemon takes any free port.")
        return
    try:
        found = [held for address in _LOOPBACK.get(host, ()) if (held := holder(address, wanted))]
    except OSError:  # another system than Linux, or a sandbox without netlink
        yield ok(f"Who has port {wanted} cannot be told here.")
        return
    yield _held(found, wanted)


def _held(found: list[Holder], wanted: int) -> Finding:
    strangers = [one for one in found if not (one.command == "systemd" and one.uid == os.geteuid())]
    if strangers:
        known = known_by_its_process(strangers[0], wanted) if strangers[0].uid == os.geteuid() else None
        named = f"{strangers[0]}: {known}" if known else str(strangers[0])
        return problem(f"Port {wanted} is taken by {named}.", "CLAUDE_LOOP_PORT=0 claude-loop up")
    if found:
        return ok(f"Port {wanted} is held by systemd, which starts the daemon with the first connection.")
    return ok(f"Port {wanted} is free.")


def _who(scene: Scene) -> str:
    return f" (pid {scene.daemon.pid})" if scene.daemon.pid else ""


CHECKS = {
    "settings": settings,
    "settings.tls": tls,
    "environment": surroundings,
    "environment.names": names,
    "daemon": answer,
    "daemon.note": note,
    "version": version,
    "port": port,
}
