"""docs/reliability.md says what the results say: what failed and what is missing first of all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.prove import record
from tests.prove.catalogue import SCENARIOS
from tests.prove.mutants import MUTANTS
from tests.prove.outcome import Outcome
from tests.prove.record import Result, Results, document, read

MADE = {"build": "0.1.0+aa", "machine": "2 × CPU", "at": "2026-11-28T10:00Z"}


def passed(scenario: str, seed: int = 1, size: str = "long", **counts: int) -> Result:
    return Result(scenario, seed, size, "PASS", 3600.0, counts, **MADE)


def all_passed() -> list[Result]:
    found = [passed(one.name, seed, size) for one in SCENARIOS for seed in (1, 2, 3) for size in ("short", "long")]
    found += [
        passed("kill", 4, kills=2_000),
        passed("fuzz", 4, inputs=1_000_000),
        passed("crowd", 4, readers=1_000),
        passed("resume", 4, resumptions=10_000),
    ]
    for one in MUTANTS:
        found.append(
            Result(one.caught_by, 1, "short", "FAIL", 1.0, {}, "violated: a gap: x", True, one.name, **MADE),
        )
    return found


def section(page: str, title: str) -> str:
    return page.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_what_is_appended_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    for size in ("short", "long"):
        Results(file, size).add(Outcome("kill", 7, "PASS", 1.5, {"kills": 5}, details="not kept"))
    Results(file, "short").add(Outcome("slow", 7, "FAIL", 1.5, {}, "violated: x", violated=True), "unbounded-queue")
    one, other, mutated = read([file])
    assert (one.scenario, one.seed, one.size, one.counts, one.mutant) == ("kill", 7, "short", {"kills": 5}, "")
    assert (other.size, mutated.mutant, mutated.violated) == ("long", "unbounded-queue", True)
    assert one.build.count("+") == 1
    assert "Python" in one.machine
    assert one.load is not None


def test_without_a_file_nothing_is_written() -> None:
    Results(None, "short").add(Outcome("kill", 7, "PASS", 1.5, {}))


def test_a_failure_is_told_without_the_folders_of_a_traceback() -> None:
    said = 'violated: 6 failures in the log, event="broken off" exception="Traceback: File /home/me/claude_loop/x.py"'
    page = document([*all_passed(), Result("fuzz", 9, "long", "FAIL", 1.0, {}, said, True, **MADE)])
    assert 'event="broken off"\n' in section(page, "What failed")
    assert "/home" not in page


def test_a_record_without_a_gap() -> None:
    page = document(all_passed())
    assert "missed" not in section(page, "In short")
    assert section(page, "In short").count("reached") == 7
    assert section(page, "What failed").startswith("\nNothing")
    assert "**nothing**" not in section(page, "Mutants")
    assert "| `kill` | long | 4 | 4 | 1–4 | 2,000 |" in section(page, "Scenarios")
    assert "power loss" in section(page, "What is not proved")
    assert "2026-11-28, 2 × CPU." in page
    assert "Load" not in page
    assert "Load of the machine: 1.5 to 1.5." in document(
        [*all_passed(), Result("kill", 5, "long", "PASS", 1.0, {}, **MADE, load=1.5)]
    )


@pytest.mark.parametrize(
    ("without", "row"),
    [
        (
            "kill",
            "| daemons killed by SIGKILL, nothing lost, doubled or left out in silence | 0 | 2,000 | **missed** |",
        ),
        ("fuzz", "| hostile inputs sent to the daemon, no 5xx, no growth | 0 | 1,000,000 | **missed** |"),
        ("torn", "| seeds with which every scenario of the short set passed | 0 | 3 | **missed** |"),
        ("torn", "| – of the long set | 0 | 3 | **missed** |"),
    ],
)
def test_what_is_missing_is_said(without: str, row: str) -> None:
    page = document([one for one in all_passed() if one.scenario != without])
    assert row in section(page, "In short")
    assert f"- `{without}` has no run that passed." in section(page, "What is not proved")


def test_a_failure_is_shown_and_what_it_counted_is_no_evidence() -> None:
    failed = Result("kill", 9, "long", "FAIL", 1.0, {"kills": 500}, "violated: 2 acknowledged events are lost", **MADE)
    page = document([*all_passed(), failed])
    assert "- `kill`, long, seed 9, build `0.1.0+aa`: violated: 2 ack" in section(page, "What failed")
    assert "| `kill` | long | 5 | 4 | 1–4, 9 | 2,000 |" in section(page, "Scenarios")


def test_a_scenario_that_fails_in_the_long_set_alone_is_not_covered_by_the_short_one() -> None:
    failed = Result("api", 3, "long", "FAIL", 1.0, {}, "violated: x", True, **MADE)
    page = section(document([*all_passed(), failed]), "In short")
    assert "| seeds with which every scenario of the short set passed | 3 | 3 | reached |" in page
    assert "| – of the long set | 2 | 3 | **missed** |" in page


def test_seeds_with_which_one_scenario_passed_and_another_did_not_run_do_not_count() -> None:
    found = [one for one in all_passed() if (one.scenario, one.size, one.seed) != ("crowd", "long", 3)]
    page = section(document([*found, passed("crowd", 7)]), "In short")
    assert "| – of the long set | 2 | 3 | **missed** |" in page


def test_a_run_that_was_left_out_takes_nothing_from_one_that_passed() -> None:
    page = section(document([*all_passed(), Result("crowd", 3, "long", "SKIP", 0.0, {}, **MADE)]), "In short")
    assert "| – of the long set | 3 | 3 | reached |" in page


def test_a_mutant_that_was_not_caught_each_time() -> None:
    missed = Result("slow", 2, "short", "PASS", 1.0, {}, "", False, "unbounded-queue", **MADE)
    page = document([one for one in all_passed() if one.mutant != "unbounded-queue"] + [missed])
    assert "| mutants caught | 6 | 7 | **missed** |" in section(page, "In short")
    assert "| `unbounded-queue` | `slow` | 1 | 0 | 2 | **nothing** |" in section(page, "Mutants")


def test_short_runs_and_skips_are_no_long_ones() -> None:
    kept = [one for one in all_passed() if one.scenario not in ("clock", "power")]
    skipped = Result("power", 1, "long", "SKIP", 0.0, {}, "no strace", **MADE)
    told = section(document([*kept, passed("clock", size="short"), skipped]), "What is not proved")
    assert "- In their short form only ran `clock`." in told
    assert "- `power` was skipped: no strace." in told


def test_the_document_that_is_there_has_the_parts_of_a_generated_one() -> None:
    kept = record.DOCUMENT.read_text()
    made = document(all_passed())
    titles = [line for line in made.splitlines() if line.startswith("#")]
    assert [line for line in kept.splitlines() if line.startswith("#")] == titles
