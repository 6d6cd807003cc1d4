import os
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from claude_loop.errors import SettingsRefused
from claude_loop.settings import NotifySettings, Settings, load_settings
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
    with pytest.raises(SettingsRefused, match="CLAUDE_LOOP_ALLOWED_HOSTS"):
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
    table, _, channels = page.partition("## Other")[0].partition("## Channels")
    for part, model in ((table, Settings), (channels, NotifySettings)):
        listed = [line.split("|")[1].strip().strip("`") for line in part.splitlines() if line.startswith("| `")]
        assert listed == [name for name, _ in rows(model)]
        for name, description in rows(model):
            assert description, f"{name} has no description"
            assert description in part, name


def test_channels_come_from_the_file_and_their_addresses_stay_secret(tmp_path):
    write_config(
        tmp_path,
        '[[notify]]\nname = "phone"\nurls = ["ntfy://user:hunter2@host/topic"]\nquiet_hours = "22:00-07:00"\n'
        '[[notify]]\nname = "desk"\ncommand = ["notify-send", "hello"]\nkinds = ["failed"]\n'
        '[heartbeat]\nurl = "https://example.org/hunter2"\n',
    )
    settings = load_settings()
    assert [channel.name for channel in settings.notify] == ["phone", "desk"]
    assert settings.notify[0].urls[0].get_secret_value() == "ntfy://user:hunter2@host/topic"
    assert settings.heartbeat.every == 60
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in settings.model_dump_json()


@pytest.mark.parametrize(
    ("channel", "field"),
    [
        ({"name": "a"}, "notify.0"),
        ({"name": "a", "command": ["x"], "urls": ["ntfy://hunter2"]}, "notify.0"),
        ({"name": "a", "urls": ["hunter2"]}, "notify.0.urls"),
        ({"name": "a", "command": ["hunter2"], "kinds": ["hunter2"]}, "notify.0.kinds.0"),
        ({"name": "A B", "command": ["x"]}, "notify.0.name"),
        ({"name": "a", "command": ["x"], "quiet_hours": "hunter2"}, "notify.0.quiet_hours"),
        ({"name": "a", "command": ["x"], "quiet_hours": "07:00-07:00"}, "notify.0.quiet_hours"),
        ({"name": "a", "command": ["x"], "mail": "hunter2"}, "notify.0.mail"),
    ],
)
def test_a_channel_that_cannot_be_is_refused_without_its_secrets(channel, field):
    with pytest.raises(SettingsRefused) as refusal:
        load_settings(notify=[channel])
    assert refusal.value.field == field
    assert "hunter2" not in str(refusal.value.as_dict())
    with pytest.raises(SettingsRefused, match="same name"):
        load_settings(notify=[{"name": "a", "command": ["x"]}, {"name": "a", "command": ["y"]}])


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
