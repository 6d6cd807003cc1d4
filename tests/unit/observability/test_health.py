"""What makes the daemon unhealthy."""

from claude_loop.errors import StorageReadOnly
from claude_loop.observability.health import Health
from claude_loop.supervision import TaskOwner
from tests.support import eventually


class Log:
    failure = None


def test_the_log_decides_first():
    log = Log()
    health = Health(log)
    assert health.problem is None
    health.task_failed("server/retention", ValueError())
    log.failure = StorageReadOnly("The log is read-only.")
    assert health.problem is log.failure
    log.failure = None
    assert health.problem is not None
    assert health.problem.code == "internal"


async def test_a_task_that_dies_makes_it_unhealthy_and_one_that_ends_does_not():
    health = Health(Log())
    tasks = TaskOwner("server", on_failure=health.task_failed)

    async def dies():
        raise RuntimeError("a secret detail")

    async def ends():
        return None

    await tasks.spawn(ends(), "short")
    assert health.problem is None
    tasks.spawn(dies(), "important")
    problem = await eventually(lambda: health.problem)
    assert "server/important (RuntimeError)" in problem.message
    assert "secret" not in problem.message
