"""Carries one message to one channel, in a process of its own, and leaves a receipt.

    python -m claude_loop.delivery.courier DESCRIPTOR     the job as JSON on stdin

A channel may hang, and what apprise calls blocks: here that costs nobody anything, and an end can be put to it. The
receipt, an open file, is locked while the courier lives and holds the outcome afterwards, so that a daemon that was
killed meanwhile learns from it what became of the message. The address comes by stdin and is never written anywhere.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from types import FrameType
from typing import Any

_STATUS = re.compile(r"error=(\d{3})\b")
_REASON = 200


def main() -> None:
    receipt = int(sys.argv[1])
    os.set_inheritable(receipt, False)  # what the courier starts must not keep the lock
    job = json.load(sys.stdin)
    signal.signal(signal.SIGALRM, _too_late)
    signal.setitimer(signal.ITIMER_REAL, job["time_limit"])
    try:
        problem = by_command(job) if job["command"] else by_address(job)
    except _TooLate:
        problem = f"no answer within {job['time_limit']:g} s"
    except OSError as failure:
        problem = failure.strerror or type(failure).__name__
    outcome = json.dumps({"sent": not problem, "reason": problem[:_REASON]}).encode()
    os.pwrite(receipt, outcome, 0)
    os.fsync(receipt)
    os._exit(0)  # a thread of a library may hang still


class _TooLate(Exception):
    pass


def _too_late(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise _TooLate


def by_command(job: dict[str, Any]) -> str:
    """What kept the command from taking the message; empty if nothing did."""
    message = job["message"]
    values = {f"CLAUDE_LOOP_NOTIFY_{name.upper()}": _variable(value) for name, value in message.items()}
    with subprocess.Popen(  # noqa: S603 - the owner's own command
        job["command"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | values,
        start_new_session=True,
    ) as process:
        try:
            process.communicate(json.dumps(message).encode())
        except BrokenPipeError:
            process.wait()  # it does not read what it was given, and need not
        except _TooLate:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return f"the command ended with status {process.returncode}" if process.returncode else ""


def _variable(value: Any) -> str:
    return "" if value is None else str(value).replace("\0", "")


def by_address(job: dict[str, Any]) -> str:
    """Likewise for an address. Only our own words leave here: what apprise says may hold the address."""
    import apprise  # noqa: PLC0415 - for this process alone, when there is something to send

    message = job["message"]
    carrier = apprise.Apprise()
    if not carrier.add(job["url"]):
        return "apprise does not know how to use this address"
    kind = apprise.NotifyType.SUCCESS if message["phase"] == "resolved" else apprise.NotifyType.WARNING
    body = f"{message['text']}\n{message['url']}" if message["url"] else message["text"]
    with apprise.LogCapture(level=apprise.logging.WARNING) as said:  # type: ignore[no-untyped-call]
        if carrier.notify(body=body, title=message["title"], notify_type=kind):
            return ""
        status = _STATUS.search(said.getvalue())
    return f"refused with status {status[1]}" if status else "it was not taken: unreachable, or refused"


if __name__ == "__main__":
    main()
