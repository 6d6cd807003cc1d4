"""What lies in ``runs/<run_id>/``: shared by the wrapper that writes it and the daemon that reads it.

Standard library only: the wrapper stays as long as the loop does.
"""

from __future__ import annotations

import os
import re
import struct

RUN_JSON = "run.json"
END_JSON = "end.json"
# Each but the last has exactly this size, so that a name and a position make a place in the whole output.
SEGMENT_BYTES = 16 * 1024 * 1024
# A daemon that stays away must not fill the disk: what comes when so many segments wait is not kept.
MOST_SEGMENTS = 64
# Beside each segment: at which position of the whole output something came, and when, in milliseconds since the epoch.
# What stands behind it, up to the next position, came then too.
CAME = struct.Struct("<QQ")
_SEGMENT = re.compile(r"output\.([0-9]{6,9})\Z")
_TIMES = re.compile(r"times\.[0-9]{6,9}\Z")
_SAFE_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,99}\Z")


def segment_name(number: int) -> str:
    """The name of the ``number``-th segment; the first is 1."""
    return f"output.{number:06d}"


def segment_number(name: str) -> int | None:
    match = _SEGMENT.match(name)
    return None if match is None or int(match[1]) == 0 else int(match[1])


def times_name(number: int) -> str:
    """The name of the file that says when the ``number``-th segment came."""
    return f"times.{number:06d}"


def is_times_name(name: str) -> bool:
    return _TIMES.match(name) is not None


def is_directory_name(run_id: str) -> bool:
    """Whether an id can be the name of its run's directory as it is."""
    return _SAFE_ID.match(run_id) is not None


def own_process() -> dict[str, int | str] | None:
    """This process as the daemon judges the owners of runs; None where the system does not tell (not Linux).

    It stays the same through ``exec``.
    """
    try:
        with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot_id = file.read().strip()
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        return None
    return {"pid": os.getpid(), "start_ticks": ticks, "boot_id": boot_id, "pid_namespace": namespace}
