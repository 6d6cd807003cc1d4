from __future__ import annotations

from collections.abc import Iterator

from claude_loop.doctor import agents, commands, daemon, events, home, machine, notifications, spool, units
from claude_loop.doctor.examination import CHECKS, examine
from claude_loop.doctor.finding import Finding, ok
from claude_loop.doctor.scene import Scene
from tests.unit.doctor.scenes import scene


def test_no_two_checks_have_one_name():
    modules = (agents, commands, daemon, events, home, machine, notifications, spool, units)
    assert len(CHECKS) == sum(len(module.CHECKS) for module in modules)


def test_what_cannot_be_looked_at_is_a_finding_and_stops_nothing():
    def refused(where: Scene) -> Iterator[Finding]:
        yield ok("So far.")
        raise PermissionError(13, "Permission denied", "/secret")

    def after(where: Scene) -> Iterator[Finding]:
        yield ok("And on.")

    found = list(examine(scene(), {"one": refused, "two": after}))
    assert [(name, finding.level) for name, finding in found] == [("one", "ok"), ("one", "problem"), ("two", "ok")]
    assert "/secret: Permission denied" in found[1][1].sentence


def test_every_finding_but_a_good_one_names_a_fix():
    for name, finding in examine(scene()):
        assert bool(finding.fix) == (finding.level != "ok"), name
        assert finding.sentence.endswith("."), name
