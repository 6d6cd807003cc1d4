"""A setting that cannot be is answered in our words: where it stands, what it must be, what was perhaps meant."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from claude_loop.errors import SettingsRefused
from claude_loop.settings import config_file, load_settings


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("CLAUDE_LOOP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def refusal(text: str = "", **flags: object) -> SettingsRefused:
    if text:
        config_file().parent.mkdir()
        config_file().write_text(text)
    with pytest.raises(SettingsRefused) as refused:
        load_settings(**flags)
    assert "docs/settings.md" in refused.value.hint
    return refused.value


@pytest.mark.parametrize(
    ("text", "name", "meant"),
    [
        ("prot = 1", "prot", "port"),
        ("[retention]\ndyas = 1", "retention.dyas", "retention.days"),
        ("[retension]\ndays = 1", "retension", "retention"),
        ("days = 1", "days", "retention.days"),
        ("[limits]\nevents_per_sec = 1\nconnections = 'many'", "limits.events_per_sec", "limits.events_per_second"),
        ("[[notify]]\nname = 'a'\ncomand = ['x']", "[[notify]] 1: comand", "notify.0.command"),
        ("xyzzy = 1", "xyzzy", ""),
    ],
)
def test_a_name_that_no_setting_has(text: str, name: str, meant: str) -> None:
    refused = refusal(text)
    assert refused.message.startswith(f"{config_file()}: {name} is no setting.")
    assert refused.hint.startswith(f"Did you mean {meant}? " if meant else "docs/")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("port = 'x'", "port must be a whole number from 0 to 65535."),
        ("port = 70000", "port must be a whole number from 0 to 65535."),
        ("port = 1.5", "port must be a whole number from 0 to 65535."),
        ("stalled_after = 0", "stalled_after must be a number above 0."),
        ("durability = 'some'", "durability must be one of full, normal."),
        ("insecure_behind_proxy = 'perhaps'", "insecure_behind_proxy must be true or false."),
        ("tls_cert = 5", "tls_cert must be a path, as text."),
        ("host = 5", "host must be text."),
        ("allowed_hosts = 'a'", 'allowed_hosts must be a list of text, ["…"].'),
        ("allowed_hosts = [1]", "entry 1 of allowed_hosts must be text."),
        ("auth = 3", "auth must be a table, [auth]."),
        ("notify = 3", "notify must be a list of tables, [[notify]], at most 32."),
        ("[limits]\nconnections = 0", "limits.connections must be a whole number, at least 1."),
        ("[limits]\nconnections = 0\nbody_bytes = 0\ndata_depth = 0", "from 1 to 200. 2 more are wrong."),
        ("[[notify]]\ncommand = ['x']", "[[notify]] 1: name is missing: it must be text"),
        ("[[notify]]\nname = 'a'\ncommand = ['x']\nkinds = ['x']", "[[notify]] 1: entry 1 of kinds must be one of"),
        ("[[notify]]\nname = 'a'", "[[notify]] 1: the channel a needs either a command or urls."),
        ("[[notify]]\nname = 'a'\ncommand = ['x']\ngrace = -1", "grace must be a number from 0 to 86400."),
        ("[[notify]]\nname = 'a'\ncommand = ['x']\nkinds = 'done'", "kinds must be a list of some of waiting, failed,"),
    ],
)
def test_a_value_that_cannot_be(text: str, says: str) -> None:
    refused = refusal(text)
    assert refused.message.startswith(f"{config_file()}: ")
    assert says in refused.message


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("PORT", "many", "CLAUDE_LOOP_PORT must be a whole number from 0 to 65535."),
        ("RETENTION__DAYS", "x", "CLAUDE_LOOP_RETENTION__DAYS must be a number above 0."),
        ("RETENTION__DYAS", "3", "CLAUDE_LOOP_RETENTION__DYAS is no setting."),
        ("RETENTION", '{"days": "x"}', "CLAUDE_LOOP_RETENTION: retention.days must be a number above 0."),
        (
            "ALLOWED_HOSTS",
            "a, b",
            'CLAUDE_LOOP_ALLOWED_HOSTS must be a list of text, ["…"], written as JSON, like ["…"].',
        ),
        ("LIMITS", "{", "CLAUDE_LOOP_LIMITS must be a table, [limits], written as JSON"),
    ],
)
def test_a_variable_is_named_as_it_is_written(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
) -> None:
    monkeypatch.setenv(f"CLAUDE_LOOP_{variable}", value)
    assert refusal("port = 1").message.startswith(says)


def test_what_wins_is_named() -> None:
    assert refusal("port = 1", port=70_000).message == "The setting port must be a whole number from 0 to 65535."


def test_a_name_in_the_file_is_not_put_on_a_variable_that_may_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_LOOP_PROJECT", "shop")
    assert refusal("project = 'x'").message.startswith(f"{config_file()}: project is no setting.")


def test_a_variable_with_a_table_is_named_for_what_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_LOOP_RETENTION", '{"events": 0}')
    assert refusal().message.startswith("CLAUDE_LOOP_RETENTION: retention.events must be")
    monkeypatch.setenv("CLAUDE_LOOP_RETENTION", '{"events": 5}')
    assert refusal("[retention]\ndays = 0").message.startswith(f"{config_file()}: retention.days must be")


def test_a_file_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    config_file().parent.mkdir()
    config_file().write_bytes(b"host = '\xff'")
    assert refusal().message.startswith(f"{config_file()} is not TOML")

    def closed(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", closed)  # root may read anything
    assert refusal().message == f"{config_file()} cannot be read: Permission denied."
