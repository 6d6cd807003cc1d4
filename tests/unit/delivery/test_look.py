"""Which channels hear of a condition, and when."""

from __future__ import annotations

import pytest

from claude_loop.delivery.look import AFTER_END_MS, Policy
from tests.unit.delivery.rig import target, waiting

HOUR_MS = 3_600_000
BEGUN = 1_000 * HOUR_MS


def test_what_is_old_when_a_channel_is_set_up_is_no_news():
    policy = Policy([target()], {"phone": BEGUN})
    assert policy.plans(waiting(since=BEGUN - HOUR_MS), BEGUN) == []
    assert len(policy.plans(waiting(since=BEGUN), BEGUN)) == 1


def test_a_clock_that_was_ahead_when_a_channel_was_set_up_silences_nothing():
    policy = Policy([target()], {"phone": BEGUN})
    now = BEGUN - 5 * HOUR_MS
    assert len(policy.plans(waiting(since=now - 1000), now)) == 1
    assert policy.plans(waiting(since=now - HOUR_MS), now) == []


@pytest.mark.parametrize(("kind", "soon"), [("waiting", 20_000), ("failed", AFTER_END_MS)])
def test_what_began_by_a_clock_that_was_ahead_is_told_no_later(kind, soon):
    policy = Policy([target(grace=20)], {"phone": BEGUN})
    (plan,) = policy.plans(waiting(since=BEGUN + HOUR_MS, kind=kind), BEGUN)
    assert plan.due_at == BEGUN + soon
