"""Where a file cannot be written, its directory is named, not what would have lain beside it meanwhile."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from claude_loop.cli import cli


@pytest.mark.parametrize("arguments", [["backup"], ["export", "--output"]])
def test_a_directory_that_there_is_not_is_named(tmp_path, arguments):
    outcome = CliRunner().invoke(cli, [*arguments, str(tmp_path / "none" / "file")])
    assert outcome.exit_code == 2
    assert f"There is no directory {tmp_path / 'none'}." in outcome.output
    assert ".part" not in outcome.output
