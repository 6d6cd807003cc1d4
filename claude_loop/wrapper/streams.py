"""Copying what the command prints to where it belongs, and to the tee."""

from __future__ import annotations

import errno
import os
import select

from claude_loop.wrapper.tee import Tee

READ_BYTES = 16 * 1024
# After a read that was full: a pipe that is kept full is emptied with few calls.
_FULL_READ_BYTES = 1024 * 1024
GATHERED_BYTES = 64 * 1024
# A terminal that gives less has no more at the moment: another try would only cost.
SHORT_READ = 1024
# After the command's end so much of what it printed may still be on its way; more comes from what it left running.
_REST_BYTES = 2 * 1024 * 1024


class Stream:
    """One output of the command: ``source`` is our end, ``target`` the descriptor it would have had itself."""

    def __init__(self, source: int, target: int, *, terminal: bool) -> None:
        self.source = source
        self.target: int | None = target
        self.terminal = terminal
        # Whether the target is a terminal that is not raw: it makes line ends itself, and once is enough.
        self.leaves_line_ends = False
        self.open = True
        self._size = READ_BYTES
        if terminal:
            os.set_blocking(source, False)

    def copy(self, tee: Tee | None) -> int:
        """Pass on what is there; the number of bytes. Called when ``source`` is readable."""
        data = self._read()
        if len(data) >= SHORT_READ:
            data = self._much(data)
        elif self._size != READ_BYTES:
            self._size = READ_BYTES
        if not data:
            return 0
        if self.target is not None:
            self._pass_on(data.replace(b"\r\n", b"\n") if self.leaves_line_ends else data, self.target)
        if tee is not None:
            tee.keep(data)
        return len(data)

    def _much(self, data: bytes) -> bytes:
        """No line, as it is nearly always: with what follows."""
        if not self.terminal:
            self._size = READ_BYTES if len(data) < READ_BYTES else _FULL_READ_BYTES
            return data
        # A terminal gives a few kilobytes at a time, however much there is.
        parts, size = [data], len(data)
        while len(data) >= SHORT_READ and size < GATHERED_BYTES:
            data = self._read()
            parts.append(data)
            size += len(data)
        return b"".join(parts)

    def _read(self) -> bytes:
        """What is there; at its end the stream is closed."""
        try:
            data = os.read(self.source, self._size)
        except BlockingIOError:
            return b""
        except OSError as failure:
            if failure.errno != errno.EIO:  # nobody has the terminal open any more
                raise
            data = b""
        if not data:
            self.close()
        return data

    def _pass_on(self, data: bytes, target: int) -> None:
        try:
            write_all(target, data)
        except OSError as failure:
            self.target = None
            if self.terminal:
                return  # the window was closed: the command hears of that by SIGHUP
            # Whoever read it has gone, or the disk is full: the command's next write must fail, as it would have.
            self.close()
            if failure.errno != errno.EPIPE:
                tell(f"its output cannot be written: {failure.strerror}")

    def close(self) -> None:
        if self.open:
            self.open = False
            # The end of a terminal hangs up whoever is in it, and the command's leader may not have said all yet.
            if not self.terminal:
                os.close(self.source)


def write_all(descriptor: int, data: bytes) -> None:
    """Also where somebody else has made the descriptor non-blocking. Raises ``OSError``."""
    try:
        written = os.write(descriptor, data)
    except BlockingIOError:
        written = 0
    rest = memoryview(data)[written:] if written < len(data) else None
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            poll.poll()


def drain(streams: list[Stream], tee: Tee | None) -> None:
    """Copy what the command has left in its pipes and terminals."""
    copied = 0
    while copied < _REST_BYTES:
        ready = readable([stream for stream in streams if stream.open], 0)
        if not ready:
            return
        copied += sum(stream.copy(tee) for stream in ready)


def outlast(streams: list[Stream]) -> None:
    """Go on for what the command left running in the background, until that lets go of its output."""
    while left := [stream for stream in streams if stream.open]:
        for stream in readable(left, None):
            stream.copy(None)


def readable(streams: list[Stream], milliseconds: int | None) -> list[Stream]:
    poll = select.poll()
    for stream in streams:
        poll.register(stream.source, select.POLLIN)
    ready = {descriptor for descriptor, _ in poll.poll(milliseconds)}
    return [stream for stream in streams if stream.source in ready]


def tell(words: str) -> None:
    """A word on stderr, if that can be had."""
    try:
        os.write(2, f"claude-loop: {words}\n".encode())
    except OSError:
        return
