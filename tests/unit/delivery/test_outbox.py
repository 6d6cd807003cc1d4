"""What the outbox keeps: each message once, ends for those who heard of the beginning."""

import pytest

from claude_loop.delivery.messages import Plan
from claude_loop.delivery.outbox import GIVE_UP_MS, KEEP_MS, Outbox
from tests.unit.delivery.rig import PRD, looked, waiting


@pytest.fixture
def outbox(tmp_path):
    one = Outbox(tmp_path / "notify.db")
    one.begin_channels(["phone", "desk"], 0)
    yield one
    one.close()


def send(outbox, channel="phone", now=2000, repeat_ms=0, repeat_times=0):
    message = outbox.due(channel, now)
    assert message is not None
    assert outbox.sending(message, now)
    outbox.sent(message, now, repeat_ms, repeat_times)
    return message


def test_looking_again_and_after_a_restart_adds_nothing(outbox, tmp_path):
    for _ in range(3):
        looked(outbox, (waiting(), [Plan("phone", 1000), Plan("desk", 1000)]))
    first = send(outbox)
    looked(outbox, (waiting(), [Plan("phone", 1000)]))
    outbox.close()
    again = Outbox(tmp_path / "notify.db")
    looked(again, (waiting(), [Plan("phone", 1000)]))
    assert again.due("phone", 9999) is None
    assert again.due("desk", 9999).message_id != first.message_id
    assert (tmp_path / "notify.db").stat().st_mode & 0o777 == 0o600
    assert again.cursor() == "cursor"


def test_what_ends_before_it_was_sent_is_dropped_without_a_word(outbox):
    looked(outbox, (waiting(), [Plan("phone", 5000)]))
    looked(outbox)
    assert outbox.due("phone", 9999) is None
    assert outbox.lasting() == []


def test_what_was_sent_and_ends_is_followed_by_its_end_where_that_is_wanted(outbox):
    looked(outbox, (waiting(), [Plan("phone", 1000), Plan("desk", 1000)]))
    send(outbox)
    send(outbox, "desk")
    looked(outbox, resolving=frozenset({"phone"}))
    looked(outbox, resolving=frozenset({"phone"}))
    assert outbox.due("phone", 9999).phase == "resolved"
    assert outbox.due("desk", 9999) is None


def test_nobody_hears_of_an_end_whose_beginning_failed(outbox):
    looked(outbox, (waiting(), [Plan("phone", 1000)]))
    message = outbox.due("phone", 1000)
    outbox.sending(message, 1000)
    looked(outbox)  # it ends while it is under way
    outbox.failed(message, "refused", 1500, 6500)
    assert outbox.due("phone", 99_999) is None


def test_repetitions_follow_while_it_lasts_and_no_more_than_asked_for(outbox):
    looked(outbox, (waiting(), [Plan("phone", 1000)]))
    steps = [send(outbox, now=10_000 * n, repeat_ms=5000, repeat_times=2).step for n in (1, 2, 3)]
    assert steps == [0, 1, 2]
    assert outbox.due("phone", 1 << 40) is None
    looked(outbox)
    assert send(outbox, now=1 << 40).phase == "resolved"


def test_after_hours_of_failures_it_is_a_dead_letter_and_stays_visible(outbox):
    looked(outbox, (waiting(), [Plan("phone", 1000)]))
    message = outbox.due("phone", 1000)
    assert outbox.sending(message, 1000)
    assert not outbox.failed(message, "refused", 1000, 2000)
    message = outbox.due("phone", 1000 + GIVE_UP_MS)
    assert outbox.sending(message, 1000 + GIVE_UP_MS)
    assert outbox.failed(message, "refused", 1000 + GIVE_UP_MS, 1 << 40)
    assert [(one.state, one.reason, one.attempts) for one in outbox.dead_letters(5)] == [("dead", "refused", 2)]
    assert [one.state for one in outbox.unlogged()] == ["dead"]
    outbox.logged(outbox.unlogged())
    assert outbox.unlogged() == []


def test_a_forgotten_prd_leaves_nothing(outbox, tmp_path):
    looked(outbox, (waiting(reason="hunter2"), [Plan("phone", 1000)]))
    outbox.settle_look([], [], [PRD], frozenset(), "later", 2000)
    assert outbox.due("phone", 9999) is None
    assert outbox.counts() == {}


def test_messages_of_a_channel_that_is_gone_are_dropped_and_a_new_one_begins_now(outbox):
    looked(outbox, (waiting(), [Plan("desk", 1000)]))
    assert outbox.begin_channels(["phone", "other"], 7000) == {"phone": 0, "other": 7000}
    assert outbox.due("desk", 9999) is None
    assert outbox.begin_channels(["phone", "desk"], 8000)["desk"] == 8000


def test_old_rows_go_but_not_while_they_last(outbox):
    looked(outbox, (waiting(), [Plan("phone", 1000), Plan("desk", 1000)]))
    send(outbox)
    outbox.prune(2001 + KEEP_MS)
    assert outbox.counts()["phone"] == {"sent": 1}
    looked(outbox, resolving=frozenset())
    outbox.prune(2001 + KEEP_MS)
    assert outbox.counts() == {}


def test_that_a_run_is_done_is_neither_followed_nor_repeated_and_goes_in_time(outbox):
    looked(outbox, (waiting(kind="done"), [Plan("phone", 1000)]))
    assert (outbox.lasting(), outbox.lasting_runs(PRD)) == ([], [])
    send(outbox, repeat_ms=5000, repeat_times=2)
    assert outbox.due("phone", 1 << 40) is None
    looked(outbox)  # it goes on, or another run has begun
    assert outbox.due("phone", 1 << 40) is None
    looked(outbox, (waiting(kind="done"), [Plan("phone", 1000)]))
    outbox.prune(2001 + KEEP_MS)
    assert outbox.counts() == {}


def test_that_a_run_is_done_is_told_also_where_it_has_gone_on_meanwhile(outbox):
    looked(outbox, (waiting(kind="done"), [Plan("phone", 1600)]))
    looked(outbox)
    assert outbox.due("phone", 1600).condition.kind == "done"
