"""Whether the daemon does its work, and if not, why."""

from __future__ import annotations

from typing import Protocol

from claude_loop.errors import ClaudeLoopError, Internal


class Failing(Protocol):
    """Something that knows why it cannot work at the moment: the event log."""

    @property
    def failure(self) -> ClaudeLoopError | None: ...


class Health:
    """Unhealthy while the log cannot be written, and for good once a background task has died."""

    def __init__(self, log: Failing) -> None:
        self._log = log
        self._dead_tasks: dict[str, str] = {}

    def task_failed(self, name: str, failure: BaseException) -> None:
        """For ``TaskOwner(on_failure=…)`` of tasks that must live as long as the daemon."""
        self._dead_tasks[name] = type(failure).__name__

    @property
    def problem(self) -> ClaudeLoopError | None:
        """What is wrong, with the next step; None when nothing is."""
        if self._log.failure is not None:
            return self._log.failure
        if self._dead_tasks:
            names = ", ".join(f"{name} ({kind})" for name, kind in sorted(self._dead_tasks.items()))
            hint = "Restart the daemon; daemon.log has the cause."
            return Internal(f"A background task has ended: {names}.", hint=hint)
        return None
