import os
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from claude_loop.errors import SettingsRefused
from claude_loop.settings import Settings, load_settings
from tests.support import ROOT


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith("CLAUDE_LOOP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def write_config(tmp_path, text):
    file = tmp_path / "claude-loop" / "config.toml"
    file.parent.mkdir()
    file.write_text(text)


def test_defaults():
    settings = load_settings()
    assert (settings.host, settings.port, settings.durability) == ("127.0.0.1", 18790, "full")
    assert (settings.retention.days, settings.retention.events) == (90, 10_000_000)


def test_flags_before_environment_before_file_before_defaults(tmp_path, monkeypatch):
    write_config(
        tmp_path,
        'port = 1\nhost = "::1"\nstalled_after = 60\n[retention]\ndays = 7\nevents = 5\n[auth]\nloopback = "token"\n',
    )
    monkeypatch.setenv("CLAUDE_LOOP_PORT", "2")
    monkeypatch.setenv("CLAUDE_LOOP_RETENTION__DAYS", "3")
    settings = load_settings(port=None, host="127.0.0.1")
    assert (settings.host, settings.port, settings.stalled_after) == ("127.0.0.1", 2, 60)
    assert (settings.retention.days, settings.retention.events, settings.auth.loopback) == (3, 5, "token")
    assert load_settings(port=4).port == 4


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"port": 70_000}, "port"),
        ({"durability": "some"}, "durability"),
        ({"stalled_after": 0}, "stalled_after"),
        ({"retention": {"dyas": 3}}, "retention.dyas"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(wrong, name):
    with pytest.raises(SettingsRefused) as refusal:
        load_settings(**wrong)
    assert refusal.value.field == name
    assert name in refusal.value.message
    assert refusal.value.hint


def test_a_file_that_is_not_toml_and_a_variable_that_is_no_list_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("CLAUDE_LOOP_ALLOWED_HOSTS", "a, b")
    with pytest.raises(SettingsRefused, match="allowed_hosts"):
        load_settings()
    monkeypatch.delenv("CLAUDE_LOOP_ALLOWED_HOSTS")
    write_config(tmp_path, "port = = 1")
    with pytest.raises(SettingsRefused, match=r"config\.toml is not TOML"):
        load_settings()


def test_settings_do_not_change():
    with pytest.raises(ValidationError):
        load_settings().port = 3


def rows(model: type[BaseModel], prefix: str = "") -> list[tuple[str, str]]:
    """Name and default of every setting, nested ones with a dot."""
    found = []
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel):
            found += rows(type(field.default), f"{prefix}{name}.")
        else:
            found.append((prefix + name, field.description or ""))
    return found


def test_the_reference_lists_every_setting_with_its_description():
    page = (ROOT / "docs" / "settings.md").read_text()
    table = page.partition("## Other")[0]
    listed = [line.split("|")[1].strip().strip("`") for line in table.splitlines() if line.startswith("| `")]
    assert listed == [name for name, _ in rows(Settings)]
    for name, description in rows(Settings):
        assert description, f"{name} has no description"
        assert description in page, name


def test_the_variables_that_are_no_settings_are_documented_too():
    page = (ROOT / "docs" / "settings.md").read_text()
    sources = "".join(path.read_text() for path in Path(ROOT / "claude_loop").rglob("*.py"))
    for name in (
        "HOME",
        "PROJECT",
        "PRD",
        "STORY",
        "RUN",
        "SESSION",
        "DISABLE",
        "URL",
        "TOKEN",
        "AUTOSTART",
        "LOCKS_DIR",
    ):
        assert f"CLAUDE_LOOP_{name}" in sources, name
        assert f"CLAUDE_LOOP_{name}" in page, name
