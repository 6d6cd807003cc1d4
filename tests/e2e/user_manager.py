"""A real user manager of systemd, in a mount namespace of its own: its own `/run` makes it believe that it has booted the machine.

It has a control group of its own as well: when a service ends, its manager kills whatever is left in the group of that
service's name, and without that the daemons of other managers which run at the same time would be in it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from claude_loop.paths import Home
from tests.e2e.control_group import ControlGroup
from tests.e2e.daemon import clean_environment
from tests.support import ROOT, free_port, until

# The service sees no /tmp of others, where the tests' directories are, and perhaps the clone; it may be killed often.
OVERRIDE = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nPrivateTmp=no\nPrivateUsers=no\nExecStart=\nExecStart={program} serve\n"
PROGRAM = '#!/bin/sh\ncd / && PYTHONPATH=$(readlink {place}) exec {python} -m claude_loop "$@"\n'
SYSTEMD = "echo $$ >{members} && mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && exec /lib/systemd/systemd --user"


class UserManager:
    """The manager of a person whose unit starts the code that ``place`` leads to."""

    def __init__(self, state: Path, folder: Path) -> None:
        self.home, self.place = Home(state), folder / "place"
        config, runtime = folder / "config", state.with_name("run")
        override = config / "systemd" / "user" / "claude-loop.service.d" / "override.conf"
        program = folder / "program"
        for directory in (override.parent, runtime, config / "claude-loop"):
            directory.mkdir(parents=True, mode=0o700)
        program.write_text(PROGRAM.format(place=self.place, python=sys.executable))
        program.chmod(0o755)
        override.write_text(OVERRIDE.format(program=program))
        self.port = free_port()
        (config / "claude-loop" / "config.toml").write_text(f"port = {self.port}\n")
        #: What a login gives to this person's processes.
        self.names = {"XDG_RUNTIME_DIR": str(runtime), "XDG_CONFIG_HOME": str(config), "HOME": str(folder)}
        self.environ = clean_environment(state) | self.names
        self._group = ControlGroup.make(f"claude-loop-{os.getpid()}-{self.port}")
        self.process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", SYSTEMD.format(members=self._group.members)],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            until((runtime / "systemd" / "private").exists, 30)
        except AssertionError:
            self.process.kill()
            self.process.wait()
            self._group.remove()
            raise

    def run(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "claude_loop", *arguments]
        done = subprocess.run(
            command, env=self.environ, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def asked(self, *arguments: str) -> str:
        command = ["systemctl", "--user", *arguments]
        return subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=60, check=False).stdout

    def end(self) -> None:
        """It ends what it started, then itself."""
        self.process.terminate()
        self.process.wait(60)
        self._group.remove()

    def starts(self, code: Path) -> None:
        """The unit starts this code from now on."""
        fresh = self.place.with_name("fresh")
        fresh.symlink_to(code)
        fresh.replace(self.place)
