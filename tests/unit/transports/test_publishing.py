"""Limits of one publisher."""

from __future__ import annotations

import pytest

from claude_loop.clock import ManualClock
from claude_loop.errors import Busy, RateLimited
from claude_loop.settings import LimitSettings
from claude_loop.transports.publishing import Account, RateLimit


def test_rate_limit_refills() -> None:
    clock = ManualClock()
    rate = RateLimit(10, clock)
    for _ in range(10):
        rate.take()
    with pytest.raises(RateLimited):
        rate.take()
    clock.advance(0.35)
    for _ in range(3):
        rate.take()
    with pytest.raises(RateLimited):
        rate.take()
    clock.advance(3600)
    for _ in range(10):
        rate.take()
    with pytest.raises(RateLimited):
        rate.take()


def test_more_than_a_second_at_once_is_paid_back() -> None:
    clock = ManualClock()
    rate = RateLimit(10, clock)
    rate.take(25)
    clock.advance(1.5)
    with pytest.raises(RateLimited):
        rate.take()
    clock.advance(0.2)
    rate.take()


def test_zero_is_unlimited() -> None:
    rate = RateLimit(0, ManualClock())
    for _ in range(10_000):
        rate.take()


def test_in_flight() -> None:
    account = Account(LimitSettings(in_flight=2), ManualClock())
    account.enter()
    account.enter()
    with pytest.raises(Busy):
        account.enter()
    account.leave()
    account.enter()
    assert account.in_flight == 2
