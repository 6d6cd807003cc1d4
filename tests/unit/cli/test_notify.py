"""`notify`: what it says to somebody who has set up nothing yet."""

from __future__ import annotations

import tomllib
from textwrap import dedent

from click.testing import CliRunner

from claude_loop.cli.notify import notify
from claude_loop.settings import load_settings


def test_who_has_no_channel_is_told_what_to_write_and_where(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    answer = CliRunner().invoke(notify, ["test"])
    assert answer.exit_code == 2
    file = tmp_path / "claude-loop" / "config.toml"
    assert str(file) in answer.stderr
    written = dedent("\n".join(line for line in answer.stderr.splitlines() if line.startswith("    ")))
    assert tomllib.loads(written)["notify"]
    file.parent.mkdir()
    file.write_text(written)
    assert [channel.name for channel in load_settings().notify] == ["desk"]
