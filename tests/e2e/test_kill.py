"""The daemon is killed again and again under load from every way in, with readers on every transport.

Afterwards: every acknowledged event and every spooled line is in the log exactly once (invariants 2, 3 and 4), numbers
have no gap (1), every reader saw every event exactly once and in order (5), what happened after something came after
it, and the read model equals a rebuild (9). ``bin/prove`` has more ways to die.
"""

from __future__ import annotations

import random

import pytest

from tests.nursery import Nurse
from tests.prove.catalogue import BY_NAME
from tests.prove.runner import play

KILLS = 50


@pytest.mark.slow
@pytest.mark.timeout(420)
async def test_nothing_is_lost_doubled_or_misplaced_however_often_the_daemon_is_killed():
    seed = random.randrange(1_000_000)
    with Nurse() as nurse:
        outcome = await play(BY_NAME["kill"], seed, "long", nurse)
    print(outcome)
    assert outcome.verdict == "PASS", outcome.details
    assert outcome.counts["kills"] == KILLS
    assert outcome.counts["spooled"] >= 100
