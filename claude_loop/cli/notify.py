"""`notify test` and `notify status`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from claude_loop.cli import FAILED, USAGE
from claude_loop.cli.terminal import note, plural, printable, put, put_json

if TYPE_CHECKING:
    from claude_loop.delivery.dispatch import Outcome, Target
    from claude_loop.paths import Home
    from claude_loop.settings import Settings


@click.group()
def notify() -> None:
    """Notifications: docs/notifications.md says how to set them up."""


@notify.command()
@click.option("--channel", metavar="NAME", help="Only this channel. [default: all]")
def test(channel: str | None) -> None:
    """Send a test message now, past quiet hours and the outbox. Status 1 when a channel did not take it."""
    from claude_loop.delivery.dispatch import targets_of
    from claude_loop.settings import load_settings

    settings = load_settings()
    targets = [t for t in targets_of(settings.notify) if channel in (None, t.name, t.settings.name)]
    if not targets:
        names = ", ".join(one.name for one in settings.notify)
        if names:
            note(f"claude-loop: There is no channel {printable(channel or '', 60)}.\n  There are: {names}.")
        else:
            note(f"claude-loop: No channel is set up.\n{_first_channel()}")
        sys.exit(USAGE)
    good = True
    for target, outcome in zip(targets, _send(targets, settings), strict=True):
        put(f"{target.name}: {'taken' if outcome.sent else printable(outcome.reason, 200)}")
        good = good and outcome.sent
    _say_what_the_daemon_lacks([target.name for target in targets])
    if not good:
        sys.exit(FAILED)


def _say_what_the_daemon_lacks(names: list[str]) -> None:
    """A channel that works is told nothing as long as the daemon has not read of it."""
    from claude_loop.client import DaemonClient
    from claude_loop.errors import ClaudeLoopError
    from claude_loop.instance import is_running
    from claude_loop.paths import Home

    client, home = DaemonClient.from_environment(), Home.from_environment()
    if client.is_elsewhere:
        return
    if not is_running(home):
        note("No daemon is running. It has these channels once it is started: claude-loop up")
        return
    try:
        state = client.get("/status")["notify"]
    except ClaudeLoopError as failure:
        note(f"Whether the running daemon has these channels cannot be said: {printable(str(failure), 200)}")
        return
    known = {channel["name"] for channel in state["channels"]} if state else set()
    if missing := [name for name in names if name not in known]:
        note(f"The running daemon does not have {', '.join(missing)}: it reads its settings when it starts.{_AGAIN}")
    elif _have_changed_since_the_start(home):
        note(f"config.toml was changed since the running daemon read it.{_AGAIN}")


_AGAIN = "\n  So that it reads them: claude-loop down && claude-loop up"


def _have_changed_since_the_start(home: Home) -> bool:
    from datetime import datetime

    from claude_loop.instance import DaemonNote
    from claude_loop.settings import config_file

    started = DaemonNote.read(home)
    try:
        changed_at = config_file().stat().st_mtime
        return started is not None and changed_at > datetime.fromisoformat(started.started_at).timestamp()
    except (OSError, ValueError):  # set by variables alone; a note of another version
        return False


def _first_channel() -> str:
    """What somebody without one needs to have one."""
    from claude_loop.settings import config_file

    return (
        f"  A first one, in {printable(str(config_file()), 300)}, which the daemon reads when it starts:\n\n"
        '    [[notify]]\n    name = "desk"\n    command = ["notify-send", "claude-loop needs you"]\n\n'
        "  docs/notifications.md has those for phones, chats and mail, and what is told when."
    )


def _send(targets: list[Target], settings: Settings) -> list[Outcome]:
    """To all at once: one that hangs keeps nobody waiting but the person."""
    import asyncio

    from claude_loop.clock import SystemClock
    from claude_loop.delivery.dispatch import Dispatch
    from claude_loop.ids import new_event_id
    from claude_loop.paths import Home

    home, clock = Home.from_environment(), SystemClock()
    home.prepare()
    dispatch = Dispatch(home.receipts)

    async def one(target: Target) -> Outcome:
        message = _message(f"test-{new_event_id(clock)}", target.name, settings.monitor_url)
        try:
            return await dispatch.send(target, message)
        finally:
            dispatch.settled(message["message_id"])

    async def everything() -> list[Outcome]:
        return list(await asyncio.gather(*map(one, targets)))

    return asyncio.run(everything())


def _message(message_id: str, channel: str, monitor_url: str) -> dict[str, Any]:
    nothing = dict.fromkeys(("project", "prd_id", "run_id", "story_id", "session_id", "since"))
    return {
        **nothing,
        "message_id": message_id,
        "channel": channel,
        "kind": "test",
        "phase": "alert",
        "urgency": "normal",
        "title": "claude-loop: test",
        "text": "This is a test of claude-loop's notifications.",
        "url": monitor_url or None,
        "step": 0,
        "attempt": 1,
    }


@notify.command(short_help="Show the running daemon's channels.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def status(as_json: bool) -> None:  # noqa: FBT001 - click's way
    """Show the running daemon's channels: what waits, was sent, could not be. Status 1 when one fails."""
    from claude_loop.client import DaemonClient

    state = DaemonClient.from_environment().get("/status")["notify"]
    if as_json:
        put_json(state, indent=2)
    elif state is None:
        put("The running daemon has no channels. It reads its settings when it starts.")
    else:
        for line in _lines(state):
            put(line)
    if state and any(channel["failing_since"] for channel in state["channels"]):
        sys.exit(FAILED)


def _lines(state: dict[str, Any]) -> list[str]:
    lines = [_channel(channel) for channel in state["channels"]]
    if state["failure"]:
        lines.append(f"The outbox cannot be used: {printable(state['failure'], 80)}")
    if state["dead_letters"]:
        lines.append("Given up:")
        lines += [
            f"  {printable(one['channel'], 50)}: {printable(one['about'], 80)} {printable(one['kind'], 20)}"
            f" since {printable(one['since'], 30)}, {plural(one['attempts'], 'attempt')}:"
            f" {printable(one['reason'], 200)}"
            for one in state["dead_letters"]
        ]
    beat = state["heartbeat"]
    if beat is not None:
        last = f"last one at {beat['last_at']}" if beat["last_at"] else "none yet"
        lines.append(f"heartbeat: {last}" + (f", now: {printable(beat['reason'], 100)}" if beat["reason"] else ""))
    return lines


def _channel(channel: dict[str, Any]) -> str:
    counts = f"{channel['sent']} sent, {channel['waiting']} waiting, {channel['dead']} given up"
    if not channel["failing_since"]:
        return f"{printable(channel['name'], 50)}: {counts}"
    return (
        f"{printable(channel['name'], 50)}: {counts}, failing since {channel['failing_since']}:"
        f" {printable(channel['reason'], 200)}"
    )
