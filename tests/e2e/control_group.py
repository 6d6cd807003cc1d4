"""A control group of one's own below that of the test run: whoever kills what is left in a group finds only its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self


class ControlGroup:
    """An empty group in the hierarchy that systemd keeps its units in. A process joins it by writing its pid into ``members``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.members = folder / "cgroup.procs"

    @classmethod
    def make(cls, name: str) -> Self:
        """Raises ``OSError`` where none can be made."""
        folder = _own_group() / name
        folder.mkdir()
        return cls(folder)

    def remove(self) -> None:
        """With the groups that were made in it. Those with a process in them stay, and say so by an ``OSError``."""
        for inner, _, _ in os.walk(self.folder, topdown=False):
            Path(inner).rmdir()


def _own_group() -> Path:
    """Where this process is. systemd takes version 2 where it is mounted at all, and a hierarchy of its own elsewhere."""
    entries = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    groups = {controllers: group for _, controllers, group in entries}
    for kind, option, controllers in (("cgroup2", "", ""), ("cgroup", "name=systemd", "name=systemd")):
        for _, place, file_system, options, *_ in mounts:
            if file_system == kind and option in options and controllers in groups:
                return Path(place, groups[controllers].lstrip("/"))
    raise FileNotFoundError("no control groups are mounted here")
