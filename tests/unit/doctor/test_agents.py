from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from claude_loop import hook_settings
from claude_loop.agents import AgentName
from claude_loop.doctor import agents as checks
from claude_loop.paths import Home
from claude_loop.settings_files import SettingsFile
from tests.support import BIN
from tests.unit.doctor.scenes import only, scene

CLAUDE, CODEX = checks.CHECKS["hooks.claude"], checks.CHECKS["hooks.codex"]


@pytest.fixture
def environ(tmp_path, monkeypatch) -> dict[str, str]:
    """A person who has no agent, and stands in no repository."""
    monkeypatch.chdir(tmp_path)
    return {"HOME": str(tmp_path), "PATH": "/nowhere"}


def installed(agent: AgentName, environ: dict[str, str]) -> Path:
    file = SettingsFile(hook_settings.location(agent, "user", Path(), environ), Home.from_environment())
    change = hook_settings.install(file, agent, hook_settings.command(BIN / "claude-loop-hook", agent))
    hook_settings.apply_install(file, change)
    return file.path


def trust(path: Path, skip: int = 0) -> None:
    """As Codex writes it after a review."""
    hooks = json.loads(path.read_text())["hooks"]
    names = [re.sub(r"(?<!^)([A-Z])", r"_\1", event).lower() for event in hooks]
    tables = [f'[hooks.state."{path}:{name}:0:0"]\ntrusted_hash = "sha256:00"\n' for name in names[skip:]]
    path.with_name("config.toml").write_text('model = "x"\n' + "".join(tables))


def test_an_agent_that_is_not_here_needs_no_hooks(environ):
    assert only(CLAUDE, scene(environ=environ)).level == "ok"
    assert only(CODEX, scene(environ=environ)).level == "ok"


@pytest.mark.parametrize(("check", "agent", "folder"), [(CLAUDE, "claude", ".claude"), (CODEX, "codex", ".codex")])
def test_an_agent_without_hooks(environ, tmp_path, check, agent, folder):
    (tmp_path / folder).mkdir()
    found = only(check, scene(environ=environ))
    assert (found.level, found.fix) == ("warning", f"claude-loop hooks install --agent {agent}")


def test_hooks_of_claude_code(environ):
    path = installed("claude", environ)
    assert only(CLAUDE, scene(environ=environ)).level == "ok"

    whole = path.read_text()
    body = json.loads(whole)
    path.write_text(json.dumps(body | {"disableAllHooks": True}))
    assert "switched off" in only(CLAUDE, scene(environ=environ)).sentence
    del body["hooks"]["Stop"]
    path.write_text(json.dumps(body))
    assert only(CLAUDE, scene(environ=environ)).fix == "claude-loop hooks install --agent claude --user"
    path.write_text(whole.replace(str(BIN), "/moved/away"))
    found = only(CLAUDE, scene(environ=environ))
    assert found.level == "problem"
    assert "/moved/away" in found.sentence
    path.write_text("{")
    assert "cannot be read" in only(CLAUDE, scene(environ=environ)).sentence


def test_hooks_that_codex_has_not_been_told_to_trust(environ):
    path = installed("codex", environ)
    found = only(CODEX, scene(environ=environ))
    assert (found.level, found.fix) == ("problem", "codex")
    assert f"skips {len(hook_settings.EVENTS['codex'])} of the hooks" in found.sentence
    trust(path, skip=1)
    assert "skips 1 of the hooks" in only(CODEX, scene(environ=environ)).sentence
    trust(path)
    assert only(CODEX, scene(environ=environ)).level == "ok"


def test_hooks_that_codex_has_switched_off(environ):
    path = installed("codex", environ)
    path.with_name("config.toml").write_text("[features]\nhooks = false\n")
    assert "switched off" in only(CODEX, scene(environ=environ)).sentence
