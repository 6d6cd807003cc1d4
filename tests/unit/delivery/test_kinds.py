"""Whatever kind may be asked for in the settings is found, and has its words."""

from __future__ import annotations

from typing import get_args

from claude_loop.delivery import words
from claude_loop.delivery.conditions import Kind
from claude_loop.settings import NotifyKind
from tests.support import ROOT


def test_every_kind_of_the_settings_is_found_told_and_described():
    kinds = set(get_args(NotifyKind))
    assert set(get_args(Kind)) == kinds
    assert set(words._SENTENCES) == kinds
    page = (ROOT / "docs" / "notifications.md").read_text()
    assert all(f"`{kind}`" in page for kind in kinds)
