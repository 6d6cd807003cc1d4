"""The spool's promise under SIGKILL: emitters write, stop and die, the daemon dies again and again, and every line
that was written whole is in the log once, each chain in its order."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from claude_loop.eventlog.base import nobody
from claude_loop.eventlog.sqlite import SqliteEventLog
from claude_loop.paths import Home
from tests.e2e.daemon import clean_environment
from tests.support import until

pytestmark = pytest.mark.requires("linux")

DAEMON = Path(__file__).with_name("spool_only.py")
SECONDS = 9.0
EMITTERS = 4

# Parent, subshell, parent, and a file of a fixed name that all share, whose lines have no ids. What was written
# whole is counted by one line on stdout for each record, after it.
EMITTER = r"""
set -u
spool=$1/spool who=$2 n=0
stem="${EPOCHREALTIME/[.,]/}-$$-$RANDOM"
put() { # FILE ID MARK
  local now=${EPOCHREALTIME/[.,]/} time
  TZ=UTC0 printf -v time '%(%Y-%m-%dT%H:%M:%S)T' "${now:0:10}"
  printf '\n{%s"type":"chain.step","timestamp":"%s.%sZ","data":{"mark":"%s"}}\n' "$2" "$time" "${now:10}" "$3" >>"$1"
  printf '%s\n' "$3"
}
while :; do
  n=$((n + 1))
  put "$spool/$stem.jsonl" "\"id\":\"$stem.$n\"," "$who:$n:1"
  ( stem="${EPOCHREALTIME/[.,]/}-$BASHPID-$RANDOM"; put "$spool/$stem.jsonl" "\"id\":\"$stem.1\"," "$who:$n:2" )
  put "$spool/shared-$who.jsonl" "" "$who:$n:3"
  n=$((n + 1))
  put "$spool/$stem.jsonl" "\"id\":\"$stem.$n\"," "$who:$n:4"
  if (( n % 20 == 0 )); then read -rt 0.6 <> <(:); fi # long enough to be quiet, sometimes
done
"""


class Emitters:
    """Bash processes that emit chains; what they report as written is what must arrive."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._all: list[subprocess.Popen[str]] = []
        self._outputs: list[Path] = []
        self._stopped: set[int] = set()

    def start(self) -> None:
        output = self._home.parent / f"written-{len(self._all)}"
        with output.open("w") as file:
            process = subprocess.Popen(
                ["bash", "-c", EMITTER, "emitter", str(self._home), f"e{len(self._all)}"],
                stdout=file,
                env=clean_environment(self._home),
                text=True,
            )
        self._all.append(process)
        self._outputs.append(output)

    @property
    def living(self) -> list[subprocess.Popen[str]]:
        return [process for process in self._all if process.poll() is None]

    def disturb(self, chance: random.Random) -> None:
        """Stop one where it is, wake one, or kill one and start another."""
        process = chance.choice(self.living)
        what = chance.random()
        if process.pid in self._stopped:
            self._stopped.discard(process.pid)
            process.send_signal(signal.SIGCONT)
        elif what < 0.7:
            self._stopped.add(process.pid)
            process.send_signal(signal.SIGSTOP)
        else:
            process.kill()
            process.wait()
            self.start()

    def end(self) -> None:
        for process in self._all:
            process.kill()  # a stopped process dies too
            process.wait()

    def written(self) -> list[list[str]]:
        return [output.read_text().split() for output in self._outputs]


def start_daemon(home: Path) -> subprocess.Popen[bytes]:
    environ = clean_environment(home)
    return subprocess.Popen([sys.executable, str(DAEMON), str(home)], env=environ, stdout=subprocess.DEVNULL)


async def stored(home: Path) -> list[str]:
    log = SqliteEventLog(home / "events.db")
    await log.open(nobody)
    marks: list[str] = []
    after = 0
    while page := (await log.read(after, 10_000)).events:
        marks += [event.data["mark"] for event in page]
        after = page[-1].seq
    assert after == len(marks)
    await log.close()
    return marks


async def test_nothing_is_lost_or_doubled_or_out_of_order(home: Path) -> None:
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    print(f"seed {seed}")
    Home(home).prepare()
    emitters = Emitters(home)
    for _ in range(EMITTERS):
        emitters.start()
    kills = 0
    daemon = start_daemon(home)
    try:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            time.sleep(chance.uniform(0.05, 0.9))
            emitters.disturb(chance)
            if chance.random() < 0.6:
                daemon.kill()
                daemon.wait()
                kills += 1
                daemon = start_daemon(home)
        emitters.end()
        places = [home / "spool", home / "leaving"]
        until(lambda: not any(os.listdir(place) for place in places), what="the spool was not drained")
    finally:
        emitters.end()
        daemon.kill()
        daemon.wait()
    check(await stored(home), emitters.written(), kills)
    assert not (home / "rejected" / "lines.jsonl").exists() or only_torn(home)


def check(marks: list[str], written: list[list[str]], kills: int) -> None:
    print(f"{kills} kills, {len(marks)} events")
    assert kills >= 3
    assert len(marks) > 200
    doubled = [mark for mark, count in Counter(marks).items() if count > 1]
    assert doubled == []
    place = {mark: number for number, mark in enumerate(marks)}
    for chain in written:
        missing = [mark for mark in chain if mark not in place]
        assert missing == []
        assert [mark for _, mark in sorted((place[mark], mark) for mark in chain)] == chain
    # Killed between writing a record and reporting it, an emitter has written one more than it says.
    assert len(marks) - sum(map(len, written)) <= len(written)


def only_torn(home: Path) -> bool:
    """Whether all that was rejected is a record that its emitter's death cut short."""
    notes = [json.loads(line) for line in (home / "rejected" / "lines.jsonl").read_text().splitlines()]
    return all(note["line"].startswith("{") and "not JSON" in note["reason"] for note in notes)
