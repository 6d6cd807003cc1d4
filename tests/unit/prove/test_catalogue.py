"""The scenarios and mutants there are, and what docs/proof.md says of them."""

from __future__ import annotations

import re

from tests.prove.catalogue import BY_NAME, SCENARIOS
from tests.prove.labels import LABELS
from tests.prove.mutants import MUTANTS
from tests.support import ROOT

PAGE = (ROOT / "docs" / "proof.md").read_text()


def test_names_are_distinct_and_every_scenario_says_what_it_does() -> None:
    assert len(BY_NAME) == len(SCENARIOS)
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert len(set(LABELS)) == len(LABELS)
    assert all(scenario.says.endswith(".") for scenario in SCENARIOS)


def test_every_scenario_is_described_and_no_other() -> None:
    table = PAGE.partition("## Scenarios")[2].partition("##")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [scenario.name for scenario in SCENARIOS]


def test_every_mutant_is_caught_by_a_scenario_of_the_short_set_that_the_page_names() -> None:
    table = PAGE.partition("## Mutants")[2].partition("##")[0]
    assert re.findall(r"\| `(\w+)` \|$", table, re.MULTILINE) == [mutant.caught_by for mutant in MUTANTS]
    assert all(BY_NAME[mutant.caught_by].short for mutant in MUTANTS)
