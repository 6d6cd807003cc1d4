"""How long `archive` and `forget` wait; what they do is in tests/e2e/test_forget.py."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from claude_loop.cli import cli
from claude_loop.client import REQUEST_TIMEOUT, DaemonClient

HOUR = 3600.0
SHOP = {"project": "shop", "prd_id": "P", "title": None}


@pytest.mark.parametrize(("command", "least"), [("forget", HOUR), ("archive", REQUEST_TIMEOUT)])
def test_forgetting_waits_for_as_long_as_it_may_take(home, monkeypatch, command, least):
    waited = {}

    def exchange(_client, method, path, _body, timeout):
        waited[path.rpartition("/")[2]] = timeout
        return {"prd": SHOP} if method == "GET" else {"seq": 7}

    monkeypatch.setattr(DaemonClient, "_exchange", exchange)
    monkeypatch.setattr("claude_loop.cli.keeping.ensure_running", lambda *_: None)
    outcome = CliRunner().invoke(cli, [command, "P", "--yes"])
    assert outcome.exit_code == 0, outcome.output
    assert waited["P"] == REQUEST_TIMEOUT
    assert waited[command] >= least
    assert (waited[command] == REQUEST_TIMEOUT) == (command == "archive")


@pytest.mark.parametrize(("answer", "status", "told"), [("n\n", 1, "Nothing was done.\n"), (None, 130, "\n")])
def test_a_question_that_is_not_answered_with_yes(home, monkeypatch, answer, status, told):
    """None is Ctrl-C."""

    def confirm(*_arguments, **_options):
        if answer is None:
            raise click.Abort
        return False

    monkeypatch.setattr(DaemonClient, "_exchange", lambda *_: {"prd": SHOP})
    monkeypatch.setattr("claude_loop.cli.keeping.ensure_running", lambda *_: None)
    monkeypatch.setattr("claude_loop.cli.keeping._is_asked", lambda: True)
    monkeypatch.setattr(click, "confirm", confirm)
    outcome = CliRunner().invoke(cli, ["forget", "P"])
    assert (outcome.exit_code, outcome.stderr) == (status, told)
