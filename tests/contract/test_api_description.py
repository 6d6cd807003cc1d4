"""schemathesis finds no contradiction between `/api/openapi.json` and the daemon; `bin/prove --only api` looks longer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from claude_loop.catalogue import CATALOGUE
from tests.e2e.daemon import Daemon, shared_daemon
from tests.prove import described
from tests.prove.oracle import Violation


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with shared_daemon() as running:
        yield running


@pytest.mark.timeout(180)
def test_operations_take_what_is_described_refuse_the_rest_and_answer_as_is_said(daemon: Daemon) -> None:
    targets, token = described.targets(daemon.url), daemon.home.token.read_text().strip()
    publishing = [target for target in targets if target.label.startswith("POST /api/events ")]
    assert len(publishing) == len(CATALOGUE)
    chosen = [target for target in targets if target not in publishing] + publishing[::6]
    assert {"GET /api/events", "POST /api/prds/{id}/forget"} < {target.label for target in chosen}
    for target in chosen:
        assert described.attack(target, 1, 1, token) in (1, 2), target.label


def test_a_description_that_promises_more_than_is_taken_is_found_out(daemon: Daemon) -> None:
    target = next(one for one in described.targets(daemon.url) if one.label == "GET /api/series")
    target.operation.query[0].definition["schema"]["maximum"] = 10**6
    with pytest.raises(Violation, match="GET /api/series"):
        described.attack(target, 20, 1, "")
