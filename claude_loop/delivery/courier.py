"""Carries one message to one channel, in a process of its own, and leaves a receipt.

    python -m claude_loop.delivery.courier DESCRIPTOR     the job as JSON on stdin

A channel may hang, and what apprise calls blocks: here that costs nobody anything, and an end can be put to it. The
receipt, an open file, is locked while the courier lives and holds the outcome afterwards, so that a daemon that was
killed meanwhile learns from it what became of the message. The address comes by stdin and is never written anywhere.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

_STATUS = re.compile(r"error=(\d{3})\b")
_REASON = 200
# apprise reads an answer whole, whatever its length.
_MOST_MEMORY = 1024 * 1024 * 1024


class Courier:
    """``receipt`` is an open file."""

    def __init__(self, receipt: int, job: dict[str, Any]) -> None:
        self._receipt = receipt
        self._job = job
        self._process: subprocess.Popen[bytes] | None = None

    def carry(self) -> NoReturn:
        """Does not return: the process ends, whatever threads a library has left."""
        signal.signal(signal.SIGALRM, self._too_late)
        signal.setitimer(signal.ITIMER_REAL, self._job["time_limit"])
        try:
            problem = self._by_command() if self._job["command"] else self._by_address()
        except MemoryError:
            problem = "the answer was too long"
        except OSError as failure:
            problem = failure.strerror or type(failure).__name__
        self._end(problem)

    def _too_late(self, number: int, frame: FrameType | None) -> None:
        """Ends everything from here: an exception might be caught by whoever is at work."""
        del number, frame
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._end(f"no answer within {self._job['time_limit']:g} s")

    def _end(self, problem: str) -> NoReturn:
        signal.setitimer(signal.ITIMER_REAL, 0)
        outcome = json.dumps({"sent": not problem, "reason": problem[:_REASON]})
        os.pwrite(self._receipt, outcome.encode(), 0)
        os.fsync(self._receipt)
        os._exit(0)

    def _by_address(self) -> str:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        most = _MOST_MEMORY if hard == resource.RLIM_INFINITY else min(_MOST_MEMORY, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
        return by_address(self._job)

    def _by_command(self) -> str:
        """What kept the command from taking the message; empty if nothing did."""
        message = self._job["message"]
        values = {f"CLAUDE_LOOP_NOTIFY_{name.upper()}": _variable(value) for name, value in message.items()}
        with subprocess.Popen(  # noqa: S603 - the owner's own command
            self._job["command"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | values,
            start_new_session=True,
        ) as process:
            self._process = process
            process.communicate(json.dumps(message).encode())  # one that does not read has taken it all the same
            self._process = None
            return f"the command ended with status {process.returncode}" if process.returncode else ""


def _variable(value: Any) -> str:
    return "" if value is None else str(value).replace("\0", "")


def by_address(job: dict[str, Any]) -> str:
    """What kept an address from taking it. Only our own words leave here: what apprise says may hold the address."""
    import apprise  # noqa: PLC0415 - for this process alone, when there is something to send

    message, url = job["message"], job["url"]
    carrier = apprise.Apprise()
    if not carrier.add(_service_of(url) or url):
        return "apprise does not know how to use this address"
    kind = apprise.NotifyType.SUCCESS if message["phase"] == "resolved" else apprise.NotifyType.WARNING
    body = f"{message['text']}\n{message['url']}" if message["url"] else message["text"]
    with apprise.LogCapture(level=apprise.logging.WARNING) as said:  # type: ignore[no-untyped-call]
        if carrier.notify(body=body, title=message["title"], notify_type=kind):
            return ""
        status = _STATUS.search(said.getvalue())
    return f"refused with status {status[1]}" if status else "it was not taken: unreachable, or refused"


def _service_of(url: str) -> Any:
    """The service for an address, made from the one module that names its scheme: apprise alone would load all of its
    hundred and more, which takes a second. None where that is not enough to tell; apprise then decides."""
    from apprise import plugins  # noqa: PLC0415 - likewise

    scheme = url.partition("://")[0].lower()
    for path in sorted(Path(plugins.__path__[0]).glob("*.py")):
        if f'"{scheme}"' not in path.read_text(encoding="utf-8"):
            continue
        module = importlib.import_module(f"apprise.plugins.{path.stem}")
        for service in vars(module).values():
            if _serves(service, scheme) and service.__module__ == module.__name__:
                return _made(service, url)
    return None


def _made(service: Any, url: str) -> Any:
    try:
        parts = service.parse_url(url)
        return service(**parts) if parts else None
    except (TypeError, AttributeError):  # how apprise's services refuse an address that lacks something
        return None


def _serves(service: Any, scheme: str) -> bool:
    from apprise import NotifyBase  # noqa: PLC0415 - likewise

    if not (isinstance(service, type) and issubclass(service, NotifyBase)):
        return False
    named = [service.protocol, service.secure_protocol]
    return any(scheme == one or (isinstance(one, (tuple, list, set)) and scheme in one) for one in named)


def main() -> None:
    receipt = int(sys.argv[1])
    os.set_inheritable(receipt, False)
    Courier(receipt, json.load(sys.stdin)).carry()


if __name__ == "__main__":
    main()
