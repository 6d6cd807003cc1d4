"""The terminal that the wrapper was started in: its settings, its size, and whether we are in its foreground."""

from __future__ import annotations

import fcntl
import os
import termios
from typing import Any

_IFLAG, _OFLAG, _CFLAG, _LFLAG, _CC = 0, 1, 2, 3, 6
_NO_SIZE = bytes(8)


class OuterTerminal:
    """Raw while we are in the foreground, so that every key goes to the inner one; as it was otherwise."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.settings = termios.tcgetattr(descriptor)
        self.is_raw = False

    def in_foreground(self) -> bool:
        try:
            return os.tcgetpgrp(self.descriptor) == os.getpgrp()
        except OSError:  # it is gone
            return False

    def take(self) -> bool:
        """Make it raw if we are in the foreground; whether we are."""
        if not self.in_foreground():
            return False
        if not self.is_raw:
            try:
                self.settings = termios.tcgetattr(self.descriptor)
                termios.tcsetattr(self.descriptor, termios.TCSADRAIN, _raw(self.settings))
            except termios.error:
                return False
            self.is_raw = True
        return True

    def restore(self) -> None:
        if not self.is_raw:
            return
        self.is_raw = False
        if self.in_foreground():  # else somebody else has it, with settings of their own
            try:
                termios.tcsetattr(self.descriptor, termios.TCSADRAIN, self.settings)
            except termios.error:
                return  # it is gone

    def size(self) -> bytes:
        return size_of(self.descriptor)


def _raw(settings: list[Any]) -> list[Any]:
    raw = list(settings)
    raw[_IFLAG] &= ~(
        termios.BRKINT | termios.ICRNL | termios.INLCR | termios.IGNCR | termios.ISTRIP | termios.IXON | termios.PARMRK
    )
    raw[_OFLAG] &= ~termios.OPOST
    raw[_CFLAG] = (raw[_CFLAG] & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
    raw[_LFLAG] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.IEXTEN | termios.ISIG)
    raw[_CC] = list(raw[_CC])
    raw[_CC][termios.VMIN], raw[_CC][termios.VTIME] = 1, 0
    return raw


def size_of(descriptor: int) -> bytes:
    """Rows and columns as the kernel has them."""
    try:
        return fcntl.ioctl(descriptor, termios.TIOCGWINSZ, _NO_SIZE)
    except OSError:
        return _NO_SIZE


def set_size(descriptor: int, size: bytes) -> None:
    if size != _NO_SIZE:
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, size)


def signals_of_keys(master: int, keys: bytes) -> int | None:
    """Which signal the inner terminal will make of ``keys``: SIGINT or SIGQUIT; None if neither."""
    if len(keys) > 64 or not any(key < 32 for key in keys):
        return None  # text, or something pasted
    try:
        settings = termios.tcgetattr(master)
    except termios.error:
        return None
    if not settings[_LFLAG] & termios.ISIG:
        return None
    for character, number in ((termios.VINTR, 2), (termios.VQUIT, 3)):
        if settings[_CC][character] in keys and settings[_CC][character] != b"\0":
            return number
    return None
