import asyncio

from claude_loop.supervision import TaskOwner
from tests.support import PATIENCE


async def test_tasks_have_names_and_are_kept_until_they_end():
    owner = TaskOwner("spool")
    gate = asyncio.Event()
    task = owner.spawn(gate.wait(), "reader")
    assert task.get_name() == "spool/reader"
    assert len(owner) == 1
    gate.set()
    await task
    await asyncio.sleep(0)
    assert len(owner) == 0


async def test_a_failure_is_heard_of(capsys):
    heard = []
    owner = TaskOwner("spool", on_failure=lambda name, failure: heard.append((name, str(failure))))

    async def fail():
        raise RuntimeError("broken")

    await asyncio.wait([owner.spawn(fail(), "reader")])
    await asyncio.sleep(0)
    assert heard == [("spool/reader", "broken")]
    assert "spool/reader" in capsys.readouterr().out


async def test_closing_cancels_and_is_bounded():
    owner = TaskOwner("spool")
    release = asyncio.Event()

    async def stubborn():
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    quick = owner.spawn(asyncio.sleep(1000), "quick")
    slow = owner.spawn(stubborn(), "slow")
    await asyncio.sleep(0)  # a task that has not begun cannot refuse
    async with asyncio.timeout(PATIENCE):
        await owner.close(0.05)
    assert quick.cancelled()
    assert not slow.done()
    release.set()
    await slow


async def test_a_task_may_close_its_own_owner():
    owner, ended = TaskOwner("test"), []

    async def wait():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("other")

    async def close():
        await owner.close()
        ended.append("self")

    owner.spawn(wait(), "waits")
    async with asyncio.timeout(PATIENCE):
        await owner.spawn(close(), "closes")
    assert ended == ["other", "self"]
    assert len(owner) == 0
