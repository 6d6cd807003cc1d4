"""Agents that belong to no PRD: who only installed the hooks is told of a wait like anybody else."""

from claude_loop.delivery.dispatch import Outcome
from claude_loop.progress import draft
from claude_loop.progress.keys import session_key
from claude_loop.progress.passing import LEFT_ALONE_MS
from tests.support import eventually

PERMISSION = {"for": "human", "reason": "permission Bash rm -rf build"}


async def say(rig, type_, session="S1", **data):
    await rig.emit(type_, None, session_id=session, **data)


async def begin(rig, session="S1"):
    await say(rig, "session.started", session, agent="claude")
    await say(rig, "prompt.submitted", session, prompt="go")


async def notified(rig, session="S1"):
    key = session_key("shop", None, session)
    return (await rig.hub.log.entities(key))[key]["notified"]


async def test_a_wait_is_told_once_with_project_and_agent_and_so_is_its_end(rig):
    async with rig.notifying():
        await begin(rig)
        await say(rig, "agent.waiting", **PERMISSION)
        await say(rig, "agent.waiting", **PERMISSION)
        await rig.wait_for("claude in shop waits for you: permission Bash rm -rf build")
        (message,) = rig.dispatch.messages
        ids = [message[key] for key in ("kind", "title", "project", "prd_id", "run_id", "session_id")]
        assert ids == ["waiting", "claude in shop: waiting", "shop", None, None, "S1"]
        await rig.wait_for_alerts("alert.sent")
        told = await notified(rig)
        assert (told["kind"], told["channel"]) == ("waiting", "phone")
        await say(rig, "tool.started", tool="Bash", call_id="c1")
        assert await notified(rig) is None
        await rig.wait_for("claude in shop waits", "Resolved: claude in shop no longer waits: permission Bash rm -rf")
        await rig.wait_for_alerts("alert.sent", "alert.resolved")
    page = await rig.hub.log.read(0, 1000)
    assert {(e.project, e.prd_id, e.session_id) for e in page.events if e.type.startswith("alert.")} == {
        ("shop", None, "S1")
    }


async def test_who_is_idle_waits_for_nobody_and_a_limit_has_words_of_its_own(rig):
    async with rig.notifying():
        await begin(rig, "S2")
        await say(rig, "agent.idle", "S2")
        await begin(rig)
        await say(rig, "agent.waiting", **{"for": "rate_limit", "reason": "usage limit"})
        await rig.wait_for("claude in shop waits for the rate limit: usage limit")
        await say(rig, "session.ended")
        await rig.wait_for("claude in shop waits", "Resolved: claude in shop is no longer held by the rate limit")


async def test_a_turn_that_ended_in_an_error_is_told_and_so_is_that_it_goes_on(rig):
    async with rig.notifying():
        await begin(rig)
        await say(rig, "error.occurred", error="server_error: 500")
        await say(rig, "agent.idle")
        await say(rig, "error.occurred", "S2", error="of a session that is not known")
        await rig.wait_for("claude in shop failed: server_error: 500")
        assert (rig.dispatch.messages[0]["kind"], rig.dispatch.messages[0]["session_id"]) == ("failed", "S1")
        await rig.wait_for_alerts("alert.sent")
        assert (await notified(rig))["kind"] == "failed"
        await say(rig, "session.ended")
        await eventually(rig.has_looked)
        assert len(rig.dispatch.messages) == 1
        await say(rig, "session.started", agent="claude")
        assert await notified(rig) is None
        await rig.wait_for("claude in shop failed", "Resolved: claude in shop has moved on after it failed")


async def test_an_error_in_the_middle_of_a_turn_is_not_told(rig):
    async with rig.notifying():
        await begin(rig)
        await say(rig, "error.occurred", error="overloaded")
        await say(rig, "tool.started", tool="Bash", call_id="c1")
        await say(rig, "agent.idle")
        await eventually(rig.has_looked)
        assert rig.dispatch.messages == []


async def test_what_one_agent_does_ends_no_wait_of_another_nor_within_the_grace(rig):
    async with rig.notifying(grace=60) as notifier:
        for session in ("S1", "S2"):
            await begin(rig, session)
            await say(rig, "agent.waiting", session, **PERMISSION)
        await eventually(lambda: _waiting(notifier, 2))
        await say(rig, "agent.resumed", "S2")
        await eventually(lambda: _waiting(notifier, 1))
        rig.clock.advance(61)
        await say(rig, "log.message", "S2", message="on")
        await rig.wait_for("claude in shop waits for you")
        assert rig.dispatch.messages[0]["session_id"] == "S1"


async def test_a_restart_repeats_nothing_and_hears_of_an_end_it_missed(rig):
    async with rig.notifying():
        await begin(rig)
        await say(rig, "agent.waiting", **PERMISSION)
        await rig.wait_for_alerts("alert.sent")
    async with rig.notifying():
        await say(rig, "log.message", message="still here")
        await eventually(rig.has_looked)
        assert len(rig.dispatch.messages) == 1
    await say(rig, "session.ended")
    async with rig.notifying():
        await rig.wait_for("claude in shop waits", "Resolved: claude in shop no longer waits")


async def test_one_that_is_silent_for_very_long_is_given_up_and_nobody_hears_that_all_is_well(rig):
    async with rig.notifying(repeat_minutes=600, repeat_times=9) as notifier:
        await begin(rig)
        await say(rig, "agent.waiting", **PERMISSION)
        await rig.wait_for("claude in shop waits")
        await eventually(lambda: _waiting(notifier, 1))  # its repetition
        rig.clock.advance(LEFT_ALONE_MS / 1000)
        await rig.emit("note.made", "SHOP-8")
        await eventually(lambda: _waiting(notifier, 0))
        assert all(not text.startswith("Resolved") for text in rig.dispatch.texts)


async def test_a_session_that_is_let_go_leaves_nothing(rig, monkeypatch):
    monkeypatch.setattr(draft, "KEPT_SESSIONS", 2)
    rig.dispatch.outcomes = [Outcome(sent=False, reason="down")]
    async with rig.notifying() as notifier:
        await begin(rig)
        await say(rig, "agent.waiting", **PERMISSION)
        await eventually(lambda: _waiting(notifier, 1))
        await begin(rig, "S2")
        await begin(rig, "S3")
        await eventually(lambda: _waiting(notifier, 0))


async def _waiting(notifier, count):
    return (await notifier.report())["channels"][0]["waiting"] == count
