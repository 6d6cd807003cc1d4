"""A load from every way in with a reader on every way out, and the oracle's judgement of both."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from tests.prove import oracle
from tests.prove.publishers import HttpPublisher, Publisher, Shell, SocketIOPublisher
from tests.prove.readers import Reader, one_of_each
from tests.prove.stored import StoredLog, read_log
from tests.prove.world import DaemonUnderTest, World, get_json
from tests.support import eventually

_STEPS = 3
_OTHERS = 2


class Load:
    """Begins with ``start``, is ended by ``finish`` with a daemon that runs, judged by ``check`` once it has stopped."""

    def __init__(
        self, world: World, daemon: DaemonUnderTest, *, shells: int = 1, http: int = 1, socketio: int = 1
    ) -> None:
        self._world = world
        self._daemon = daemon
        self.publishers: list[Publisher] = [HttpPublisher(f"http-{n}", world.dice) for n in range(http)]
        self.publishers += [SocketIOPublisher(f"socketio-{n}") for n in range(socketio)]
        self.readers = one_of_each()
        self.shells: list[Shell] = []
        self._shell_count = shells
        self._stop_file = world.folder / f"stop-{daemon.home.root.name}"
        self._chains: dict[str, int] = {}
        self._publishing: list[asyncio.Task[None]] = []
        self._reading: list[asyncio.Task[None]] = []

    def start(self) -> None:
        world, url = self._world, self._daemon.url
        self._publishing = [world.tasks.spawn(one.run(url), one.name) for one in self.publishers]
        self._reading = [world.tasks.spawn(one.run(url), one.transcript.name) for one in self.readers]
        for number in range(self._shell_count):
            shell = Shell(f"shell-{number}", self._stop_file, self._daemon.environ)
            world.at_end(shell.end)
            self.shells.append(shell)

    @property
    def acknowledged(self) -> dict[str, int]:
        return {id_: seq for one in self.publishers for id_, seq in one.acknowledged.items()}

    async def progress(self, seconds: float = 30.0) -> None:
        """Every publisher has got through once more."""
        before = [len(one.acknowledged) for one in self.publishers]

        def got_through() -> bool:
            for task in self._broken:
                task.result()  # raises what it found
            return all(len(one.acknowledged) > n for one, n in zip(self.publishers, before, strict=True))

        await eventually(got_through, seconds, "acknowledgements")

    async def finish(self) -> None:
        """Let everybody get through, and every reader come to the end."""
        for one in self.publishers:
            one.stopping = True
        await asyncio.wait_for(asyncio.gather(*self._publishing), 60)
        self._stop_file.touch()
        for shell in self.shells:
            self._chains[shell.name] = await asyncio.to_thread(shell.finish)
        head = (await get_json(f"{self._daemon.url}/status"))["log"]["head"]
        for one in self.readers:
            await eventually(
                lambda one=one: one.transcript.has_come_to(head) or self._broken, 60, f"{one.transcript.name} at {head}"
            )
        for task in self._broken:
            task.result()

    @property
    def _broken(self) -> list[asyncio.Task[None]]:
        return [task for task in (*self._publishing, *self._reading) if task.done() and task.exception() is not None]

    async def check(self, *, causal: bool = True) -> StoredLog:
        """Raises ``Violation``. The daemon has stopped. ``causal``: clocks agreed, so order over files must be kept."""
        stored = await read_log(self._daemon.home.database)
        judge(self._world, stored, self.acknowledged, self.readers)
        self._check_shells(stored, causal=causal)
        self._world.count(duplicates=sum(one.duplicates for one in self.publishers))
        return stored

    def _check_shells(self, stored: StoredLog, *, causal: bool) -> None:
        seen = stored.pairs if stored.first == 1 else self.readers[0].transcript.events
        at_least = {name: (_STEPS + _OTHERS) * chains for name, chains in self._chains.items()}
        self._world.count(spooled=sum(at_least.values()))
        if stored.first > 1:
            self._check_pruned_shells(len(seen), at_least)
            return
        steps = [(e.story_id, e.data["chain"], e.data["step"]) for e in stored.of_type("chain.step")]
        expected = [
            (name, chain, step)
            for name, chains in self._chains.items()
            for chain in range(1, chains + 1)
            for step in range(1, _STEPS + 1)
        ]
        oracle.exactly_once(expected, steps, "spooled lines")
        for name, chains in self._chains.items():
            others = [e for e in stored.events if e.type in ("story.started", "test.run") and e.story_id == name]
            oracle.exactly_once([name] * _OTHERS * chains, [e.story_id for e in others], "spooled lines")
            order = [step for step in steps if step[0] == name]
            if causal and order != sorted(order):
                raise oracle.Violation(f"{name}: something overtook its cause")

    def _check_pruned_shells(self, seen: int, at_least: dict[str, int]) -> None:
        """Of what is pruned the log says nothing; but the readers saw all of it, under numbers without a gap."""
        wanted = sum(at_least.values()) + len(self.acknowledged)
        if seen < wanted:
            raise oracle.Violation(f"{wanted} events were published and read by at most {seen}")


def judge(
    world: World, stored: StoredLog, acknowledged: dict[str, int], readers: Sequence[Reader], *, replaced: bool = False
) -> None:
    """All that holds for any log and its readers. ``replaced``: the log was exchanged for another. Raises ``Violation``."""
    pairs = stored.pairs
    transcripts = [one.transcript for one in readers]
    oracle.gapless(pairs, stored.first)
    oracle.kept(acknowledged, pairs, transcripts, stored.first)
    for transcript in transcripts:
        oracle.in_order(transcript)
    oracle.agree(transcripts, pairs, since_reset=replaced)
    world.count(
        acknowledged=len(acknowledged),
        delivered=sum(len(transcript.events) for transcript in transcripts),
        resets=sum(len(transcript.resets) for transcript in transcripts),
        stored=len(pairs),
    )


def spool_file(home: Path, name: str) -> Path:
    return home / "spool" / f"{name}.jsonl"
