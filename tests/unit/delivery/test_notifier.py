"""The reader: what of the read model becomes a message, on the real log and a clock of its own."""

from claude_loop.delivery import look as looking
from claude_loop.delivery.dispatch import Outcome
from tests.support import eventually

OWNER = {"pid": 4242}


async def test_kinds_and_their_words(rig):
    async with rig.notifying(resolved=False, time_limit=1):
        await rig.emit("prd.started", total_stories=2)
        await rig.emit("agent.waiting", **{"for": "rate_limit", "reason": "usage limit"})
        await rig.wait_for("SHOP-7 waits for the rate limit: usage limit")
        await rig.emit("agent.resumed")
        await rig.emit("prd.completed", success=False)
        await rig.wait_for("SHOP-7 waits", "SHOP-7 failed: it was reported as failed · 0 of 2 stories done, 0 verified")
        await rig.emit("prd.started", "SHOP-8")
        await rig.emit("prd.completed", "SHOP-8", success=True)
        await eventually(lambda: len(rig.dispatch.messages) == 3)
        assert rig.dispatch.texts[2].startswith("SHOP-8 is done, claimed: ")
        await rig.wait_for_alerts("alert.sent", "alert.sent", "alert.sent")


async def test_the_words_of_an_end_count_what_is_found_out_a_moment_after_it(rig, monkeypatch):
    monkeypatch.setattr(looking, "AFTER_END_MS", 600)
    async with rig.notifying() as notifier:
        await rig.emit("prd.started", total_stories=1)
        await rig.emit("story.started", story_id="US-001")
        await rig.emit("run.completed", success=True)
        await eventually(lambda: _one_waits(notifier))
        await rig.emit("story.completed", story_id="US-001", success=True)
        await eventually(rig.has_looked)
        rig.clock.advance(1)
        await rig.emit("note.made", "SHOP-8")
        await rig.wait_for("SHOP-7 is done, claimed: US-001: no test run, no commit · 1 of 1 stories done")


async def test_silence_is_told_when_its_time_has_come_and_so_is_its_end(rig):
    async with rig.notifying():
        await rig.emit("prd.started")
        rig.clock.advance(299)
        await rig.emit("note.made", "SHOP-8")
        rig.clock.advance(2)
        await rig.wait_for("SHOP-7 is silent for 5 min, last: prd.started")
        await rig.emit("log.message", message="here")
        await rig.wait_for("SHOP-7 is silent", "Resolved: SHOP-7 is no longer silent")


async def test_what_grows_worse_is_told_again_and_nothing_is_called_resolved_before_it_is(rig):
    async with rig.notifying():
        await rig.emit("prd.started", owner=OWNER)
        await rig.emit("system.run_owned", pid=4242)
        rig.clock.advance(301)
        await rig.wait_for("SHOP-7 is silent")
        await rig.emit("system.run_vanished", pid=4242)
        await rig.wait_for("SHOP-7 is silent", "SHOP-7 vanished")
        await rig.emit("note.made", "SHOP-8")
        await eventually(rig.has_looked)
        silent, vanished = rig.dispatch.messages
        assert (silent["replaces"], vanished["replaces"]) == ("", silent["cause_id"])
        await rig.emit("log.message", message="here")
        await rig.wait_for("SHOP-7 is silent", "SHOP-7 vanished", "Resolved: SHOP-7 has moved on after it vanished")


async def test_a_limit_that_ends_in_a_failure_is_told_as_a_failure_where_failures_are_told(rig):
    async with rig.notifying(kinds=["rate_limited", "failed"]):
        await rig.emit("prd.started")
        await rig.emit("agent.waiting", **{"for": "rate_limit", "reason": "usage limit"})
        await rig.wait_for("SHOP-7 waits for the rate limit")
        await rig.emit("prd.completed", success=False)
        await rig.wait_for("SHOP-7 waits for the rate limit", "SHOP-7 failed")
        await rig.emit("note.made", "SHOP-8")
        await eventually(rig.has_looked)
        assert len(rig.dispatch.messages) == 2


async def test_who_hears_of_no_failures_hears_that_the_limit_is_over(rig):
    async with rig.notifying(kinds=["rate_limited"]):
        await rig.emit("prd.started")
        await rig.emit("agent.waiting", **{"for": "rate_limit", "reason": "usage limit"})
        await rig.wait_for("SHOP-7 waits for the rate limit")
        await rig.emit("prd.completed", success=False)
        await rig.wait_for("SHOP-7 waits for the rate limit", "Resolved: SHOP-7 is no longer held by the rate limit")


async def test_a_state_that_comes_to_light_again_is_not_told_again(rig):
    async with rig.notifying(resolved=False):
        await rig.emit("prd.started", owner=OWNER)
        await rig.emit("system.run_owned", pid=4242)
        await rig.emit("agent.waiting", **{"for": "human", "reason": "one"})
        await rig.wait_for("SHOP-7 waits for you: one")
        await rig.emit("agent.waiting", **{"for": "human", "reason": "one"})
        await rig.emit("system.run_vanished", pid=4242)
        await rig.wait_for("SHOP-7 waits for you: one", "SHOP-7 vanished")
        await rig.emit("agent.waiting", **{"for": "human", "reason": "one"})
        await eventually(rig.has_looked)
        assert len(rig.dispatch.messages) == 2


async def looked(rig):
    await rig.emit("note.made", "SHOP-8")
    await eventually(rig.has_looked)


async def test_what_was_told_is_over_also_where_a_worse_state_came_between_too_short_to_be_told(rig):
    async with rig.notifying(grace=20):
        await rig.emit("prd.started")
        rig.clock.advance(330)
        await rig.wait_for("SHOP-7 is silent")
        await rig.emit("agent.waiting", session_id="S1", **{"for": "human", "reason": "one"})
        await looked(rig)
        rig.clock.advance(5)
        await rig.emit("agent.resumed", session_id="S1")
        await rig.wait_for("SHOP-7 is silent", "Resolved: SHOP-7 is no longer silent")
        rig.clock.advance(60)
        await looked(rig)
        assert len(rig.dispatch.messages) == 2


async def test_a_wait_that_is_hidden_within_its_grace_and_comes_back_is_told(rig):
    async with rig.notifying(grace=20):
        await rig.emit("prd.started")
        await rig.emit("agent.waiting", session_id="S1", **{"for": "human", "reason": "one"})
        await looked(rig)
        await rig.emit("control.paused")
        await looked(rig)
        await rig.emit("control.resumed")
        await looked(rig)
        assert rig.dispatch.messages == []
        rig.clock.advance(21)
        await rig.emit("note.made", "SHOP-8")
        await rig.wait_for("SHOP-7 waits for you: one")


async def test_the_end_of_a_wait_is_told_that_was_hidden_by_a_worse_state_for_a_while(rig):
    async with rig.notifying():
        await rig.emit("prd.started", owner=OWNER)
        await rig.emit("system.run_owned", pid=4242)
        await rig.emit("agent.waiting", session_id="S1", **{"for": "human", "reason": "one"})
        await rig.wait_for("SHOP-7 waits for you: one")
        await rig.emit("system.run_vanished", pid=4242)
        await rig.wait_for("SHOP-7 waits for you: one", "SHOP-7 vanished")
        await rig.emit("system.run_owned", pid=4242)
        await rig.emit("log.message", session_id="S2", message="x")
        told = ("SHOP-7 waits for you: one", "SHOP-7 vanished", "Resolved: SHOP-7 has moved on after it vanished")
        await rig.wait_for(*told)
        await rig.emit("agent.resumed", session_id="S1")
        await rig.wait_for(*told, "Resolved: SHOP-7 no longer waits")


async def test_an_end_that_two_events_report_is_told_once(rig):
    for outcome, words in ((False, "failed: it was reported as failed"), (True, "is done, claimed")):
        prd = f"SHOP-{outcome:d}"
        async with rig.notifying():
            await rig.emit("prd.started", prd, run_id=prd)
            await rig.emit("prd.completed", prd, run_id=prd, success=outcome)
            await eventually(lambda words=words: words in "".join(rig.dispatch.texts))
            rig.clock.advance(2)
            await rig.emit("run.completed", prd, run_id=prd, success=outcome, exit_code=1 - outcome)
            await looked(rig)
        async with rig.notifying():  # nor after a restart
            await looked(rig)
            assert len(rig.dispatch.messages) == 1 + outcome


async def test_an_end_that_two_events_report_before_it_is_told_says_all_that_is_known(rig, monkeypatch):
    monkeypatch.setattr(looking, "AFTER_END_MS", 600)
    async with rig.notifying():
        await rig.emit("prd.started", run_id="r1")
        await rig.emit("run.completed", run_id="r1", success=False, exit_code=3)
        await looked(rig)
        rig.clock.advance(0.3)
        await rig.emit("prd.completed", run_id="r1", success=False)
        await looked(rig)
        rig.clock.advance(0.4)
        await looked(rig)
        await rig.wait_for("SHOP-7 failed: it was reported as failed")
        assert len(rig.dispatch.messages) == 1


async def test_a_run_that_goes_on_after_its_end_has_another_end(rig):
    async with rig.notifying():
        await rig.emit("prd.started", run_id="r1")
        await rig.emit("run.completed", run_id="r1", success=True)
        await rig.wait_for("SHOP-7 is done")
        await rig.emit("story.started", run_id="r1", story_id="US-001")
        await looked(rig)
        rig.clock.advance(60)
        await rig.emit("run.completed", run_id="r1", success=True)
        await rig.wait_for("SHOP-7 is done", "SHOP-7 is done")
        rig.clock.advance(1)
        await rig.emit("run.completed", run_id="r1", success=False, exit_code=1)  # worse
        await rig.wait_for("SHOP-7 is done", "SHOP-7 is done", "SHOP-7 failed: the command ended with status 1")


async def test_without_a_grace_in_the_settings_it_is_short_and_longer_for_limits(rig):
    async with rig.notifying(grace=None):
        await rig.emit("prd.started")
        await rig.emit("agent.waiting", session_id="S1", **{"for": "rate_limit", "reason": "usage limit"})
        await rig.emit("agent.waiting", session_id="S2", **{"for": "human", "reason": "one"})
        await eventually(rig.has_looked)
        assert rig.dispatch.messages == []
        rig.clock.advance(0.5)
        await rig.emit("note.made", "SHOP-8")
        await rig.wait_for("SHOP-7 waits for you: one")
        rig.clock.advance(19.5)
        await rig.emit("note.made", "SHOP-8")
        await rig.wait_for("SHOP-7 waits for you: one", "SHOP-7 waits for the rate limit")


async def test_a_restart_repeats_nothing_and_misses_nothing(rig):
    await rig.emit("prd.started")
    async with rig.notifying():
        await rig.emit("agent.waiting", **{"for": "human", "reason": "one"})
        await rig.wait_for("SHOP-7 waits for you: one")
        await eventually(rig.alerts)
    # It does not run: this one ends, another run begins and ends.
    await rig.emit("agent.resumed")
    await rig.emit("prd.started", "SHOP-8")
    await rig.emit("prd.completed", "SHOP-8", success=False)
    async with rig.notifying():
        await eventually(lambda: len(rig.dispatch.messages) == 3)
        assert sorted(text.split(" (")[0] for text in rig.dispatch.texts) == [
            "Resolved: SHOP-7 no longer waits: one",
            "SHOP-7 waits for you: one",
            "SHOP-8 failed: it was reported as failed · 0 of 0 stories done, 0 verified",
        ]
        await rig.emit("prd.started", "SHOP-9")
    async with rig.notifying():
        await rig.emit("agent.waiting", "SHOP-9", **{"for": "human", "reason": "last"})
        await eventually(lambda: len(rig.dispatch.messages) == 4)
    assert rig.dispatch.texts[3] == "SHOP-9 waits for you: last"


async def test_states_of_before_the_first_start_are_not_sent_unless_they_are_recent(rig):
    await rig.emit("prd.started", "SHOP-1")
    await rig.emit("agent.waiting", "SHOP-1", **{"for": "human", "reason": "old"})
    rig.clock.advance(3600)
    await rig.emit("prd.started", "SHOP-2")
    await rig.emit("agent.waiting", "SHOP-2", **{"for": "human", "reason": "recent"})
    rig.clock.advance(60)
    async with rig.notifying():
        await rig.wait_for("SHOP-2 waits for you: recent (1 min)")
        await rig.emit("agent.resumed", "SHOP-1")
        await rig.emit("agent.resumed", "SHOP-2")
        await rig.wait_for("SHOP-2 waits", "Resolved: SHOP-2")


async def test_projects_and_kinds_are_chosen(rig):
    async with rig.notifying(projects=["sh?p*"], kinds=["failed"]):
        for project in ("blog", "shop", "shops"):
            await rig.emit("prd.started", project=project)
            await rig.emit("agent.waiting", project=project, **{"for": "human", "reason": "x"})
            await rig.emit("prd.completed", project=project, success=False)
        await eventually(lambda: len(rig.dispatch.messages) == 2)
    assert {message["project"] for message in rig.dispatch.messages} == {"shop", "shops"}


async def test_a_run_that_was_put_away_or_forgotten_says_no_more(rig):
    rig.dispatch.outcomes = [Outcome(sent=False, reason="down")]
    async with rig.notifying() as notifier:
        await rig.emit("prd.started")
        await rig.emit("agent.waiting", **{"for": "human", "reason": "hunter2"})
        await eventually(lambda: rig.dispatch.messages)
        await rig.emit("prd.forgotten")
        await eventually(lambda: _none_waiting(notifier))
    assert b"hunter2" not in b"".join(path.read_bytes() for path in rig.home.root.glob("notify.db"))


async def _one_waits(notifier):
    return (await notifier.report())["channels"][0]["waiting"] == 1


async def _none_waiting(notifier):
    return (await notifier.report())["channels"][0]["waiting"] == 0
