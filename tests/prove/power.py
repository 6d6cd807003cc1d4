"""A disk that loses what was not synced: strace stops the daemon at each fsync, and the file is copied as it is then."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import threading
import time
from pathlib import Path

from tests.prove.world import DaemonUnderTest, Skipped, World
from tests.requirements import missing

# `1234  fdatasync(5</home/events.db-wal>) = 0`, in one line or two.
_CALL = re.compile(r"(?P<pid>\d+) +(?:\w+\(\d+<(?P<path>[^>]+)>|<\.\.\. \w+ resumed>)(?P<rest>.*)")
_FILES = ("events.db", "events.db-wal")


class Disk:
    """The files of the event log as of their last fsync. ``syncs`` counts them."""

    def __init__(self, world: World, daemon: DaemonUnderTest) -> None:
        if reason := missing("strace") or missing("linux"):
            raise Skipped(reason)
        self._daemon = daemon
        self._copies = world.folder / "synced"
        self._copies.mkdir()
        self._pipe = world.folder / "trace"
        self._reading: threading.Thread | None = None
        self.syncs = 0

    def start(self) -> None:
        """Start the daemon under the tracer."""
        os.mkfifo(self._pipe)
        self._reading = threading.Thread(target=self._read, name="trace")
        self._reading.start()
        calls = "fsync,fdatasync"
        watched = [option for name in _FILES for option in ("-P", str(self._daemon.home.root / name))]
        # -D: the daemon, not the tracer, is our child. SIGSTOP is pending before the call, so no thread of the daemon
        # runs on after it until it is continued.
        self._daemon.tracer = (
            *(
                "strace",
                "-D",
                "-f",
                "--seccomp-bpf",
                "-y",
                "-qq",
                "-e",
                f"trace={calls}",
                "-e",
                "signal=none",
                *watched,
            ),
            *("-e", f"inject={calls}:signal=SIGSTOP", "-o", str(self._pipe)),
        )
        self._daemon.start()

    def _read(self) -> None:
        path_of: dict[str, str] = {}
        with self._pipe.open() as lines:
            for line in lines:
                found = _CALL.match(line)
                if found is None:
                    continue
                pid = found["pid"]
                if found["path"]:
                    path_of[pid] = found["path"]
                if found["rest"].rstrip().endswith("= 0"):
                    self._copy(Path(path_of[pid]))
                if "unfinished" not in found["rest"]:
                    _go_on(int(pid))

    def _copy(self, file: Path) -> None:
        aside = self._copies / f"{file.name}.new"
        try:
            shutil.copyfile(file, aside)
        except FileNotFoundError:  # a clean stop has moved the WAL into the log's file
            (self._copies / file.name).unlink(missing_ok=True)
            return
        aside.replace(self._copies / file.name)
        self.syncs += 1

    def cut(self) -> None:
        """Power is gone: the daemon with it, and what was not synced."""
        self._daemon.kill()
        assert self._reading is not None
        self._reading.join(10)
        self._pipe.unlink()
        for name in (*_FILES, "events.db-shm"):
            (self._daemon.home.root / name).unlink(missing_ok=True)
        for name in _FILES:
            if (self._copies / name).exists():
                shutil.copyfile(self._copies / name, self._daemon.home.root / name)
                (self._daemon.home.root / name).chmod(0o600)


def _go_on(thread: int) -> None:
    """Continue the process, once the stop has taken hold: a SIGCONT before it may come to nothing."""
    deadline = time.monotonic() + 2.0
    with contextlib.suppress(OSError):  # it was killed there
        while _state(thread) not in "Tt" and time.monotonic() < deadline:
            time.sleep(0.0005)
        os.kill(thread, signal.SIGCONT)
        # From one kind of stop into the other: continued once more if it is still there.
        while _state(thread) in "Tt" and time.monotonic() < deadline:
            time.sleep(0.005)
            os.kill(thread, signal.SIGCONT)


def _state(thread: int) -> str:
    return Path(f"/proc/{thread}/stat").read_text().rpartition(")")[2].split()[0]
