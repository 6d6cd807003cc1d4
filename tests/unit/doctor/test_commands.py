from __future__ import annotations

import pytest

from claude_loop.doctor import commands as checks
from tests.support import BIN
from tests.unit.doctor.scenes import findings, only, scene


@pytest.mark.parametrize(
    ("check", "name"),
    [
        (checks.claude_loop, "claude-loop"),
        (checks.emitter, "emit_progress.sh"),
        (checks.hook, "claude-loop-hook"),
    ],
)
def test_found_not_found_or_another_version(tmp_path, check, name):
    environ = {"PATH": f"/nowhere:{tmp_path}"}
    missing = only(check, scene(environ=environ))
    assert (missing.level, missing.sentence) == ("warning", f"{name} is not on PATH.")
    assert f"{BIN}/claude-loop install" in missing.fix

    (tmp_path / name).write_text("# an older one\n")
    other = only(check, scene(environ=environ))
    assert other.level == "warning"
    assert str(tmp_path / name) in other.sentence

    (tmp_path / name).write_bytes((BIN / name).read_bytes())
    assert only(check, scene(environ=environ)).level == "ok"
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to(BIN / name)
    assert only(check, scene(environ=environ)).level == "ok"


def test_bash_is_needed(tmp_path):
    assert findings(checks.bash, scene()) == []
    assert only(checks.bash, scene(environ={"PATH": str(tmp_path)})).level == "problem"
