"""Hands one message to a courier and hears what became of it, within bounds."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from claude_loop.paths import is_locked
from claude_loop.settings import NotifySettings

# A courier ends itself at its channel's limit; one that does not is ended this many seconds later.
_SLACK = 5.0
_POLL = 0.03


class Outcome(NamedTuple):
    sent: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """One place to deliver to: a channel's command, or one of its addresses. The others do not wait for it."""

    name: str
    settings: NotifySettings
    url: str = ""

    def __repr__(self) -> str:
        return f"<Target {self.name}>"


def targets_of(channels: tuple[NotifySettings, ...]) -> list[Target]:
    """``phone`` and, for its second address, ``phone#2``."""
    found = []
    for channel in channels:
        if channel.command:
            found.append(Target(channel.name, channel))
        for number, url in enumerate(channel.urls, 1):
            name = channel.name if number == 1 else f"{channel.name}#{number}"
            found.append(Target(name, channel, url.get_secret_value()))
    return found


class Dispatch:
    """Couriers' receipts lie in ``folder``. A courier inherits the lock on its receipt and is no child of the event
    loop: neither the end of the task that waits for it nor that of the daemon ends it, and its receipt is found at the
    next start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._couriers: dict[str, subprocess.Popen[bytes]] = {}  # under way, or left alone

    async def send(self, target: Target, message: dict[str, Any]) -> Outcome:
        limit = target.settings.time_limit
        job = {"command": target.settings.command, "url": target.url, "message": message, "time_limit": limit}
        path = self._path(message["message_id"])
        courier = await asyncio.to_thread(self._start, path, json.dumps(job).encode())
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limit + _SLACK
        while courier.poll() is None:
            if loop.time() > deadline:
                courier.kill()
            await asyncio.sleep(_POLL)
        del self._couriers[path.name]
        return _outcome(path) or Outcome(sent=False, reason=f"its courier ended with status {courier.returncode}")

    def _start(self, path: Path, job: bytes) -> subprocess.Popen[bytes]:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path.unlink(missing_ok=True)  # of an earlier attempt
        receipt = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(receipt, fcntl.LOCK_EX)
            courier = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-P", "-m", "claude_loop.delivery.courier", str(receipt)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(receipt,),
                start_new_session=True,
            )
        finally:
            os.close(receipt)
        self._couriers[path.name] = courier
        assert courier.stdin is not None  # noqa: S101 - for the type checker: a pipe
        with contextlib.suppress(BrokenPipeError), courier.stdin as pipe:  # what ended it shows in its status
            pipe.write(job)
        return courier

    async def found(self, message_id: str, seconds: float) -> Outcome | None:
        """What became of a message whose courier was left alone; None if nobody knows."""
        path = self._path(message_id)
        deadline = asyncio.get_running_loop().time() + seconds + _SLACK
        while is_locked(path) and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - a file's lock
            await asyncio.sleep(_POLL)
        courier = self._couriers.pop(message_id, None)
        if courier is not None:
            await asyncio.to_thread(courier.wait, _SLACK)
        return _outcome(path)

    def settled(self, message_id: str) -> None:
        """The receipt has been read and what it says is stored."""
        self._path(message_id).unlink(missing_ok=True)

    def _path(self, message_id: str) -> Path:
        return self._folder / message_id


def _outcome(receipt: Path) -> Outcome | None:
    try:
        answer = json.loads(receipt.read_bytes())
        return Outcome(bool(answer["sent"]), str(answer["reason"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None  # it was not written, or not to its end
