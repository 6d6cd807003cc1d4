"""Where a command's prd.json is looked for."""

from __future__ import annotations

import pytest

from claude_loop.plan_places import first_file, plan_files, script_of


@pytest.mark.parametrize(
    "command",
    [["./loops/ralph.sh", "20"], ["bash", "loops/ralph.sh"], ["env", "-i", "A=b", "python3", "loops/ralph.sh"]],
)
def test_beside_the_script_also_behind_an_interpreter(tmp_path, command):
    (tmp_path / "loops").mkdir()
    for name in ("ralph.sh", "prd.json"):
        (tmp_path / "loops" / name).touch()
    assert first_file(plan_files(tmp_path, script_of(tmp_path, command))) == tmp_path / "loops/prd.json"


def test_of_several_active_plans_none_is_taken(tmp_path):
    for name in ("A", "B"):
        (tmp_path / "prds/active" / name).mkdir(parents=True)
        (tmp_path / "prds/active" / name / "prd.json").touch()
        expected = tmp_path / "prds/active/A/prd.json" if name == "A" else None
        assert first_file(plan_files(tmp_path, script_of(tmp_path, ["claude", "-p", "go"]))) == expected
