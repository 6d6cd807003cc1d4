"""A PRD by the names that a person reads off `prds` and `tail`."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import click
import pytest

from claude_loop.cli.named import detail_of, filter_of
from claude_loop.client import DaemonClient, ServerError

STORED = {("shop", "SHOP-7"), ("blog", "B-1"), ("blog", "a/b"), (None, "shop/raw"), ("x", "both"), ("y", "both")}


class Answers(DaemonClient):
    """A daemon's answers about what is ``STORED``."""

    def __init__(self) -> None:
        self.asked = 0

    def get(self, path: str, query: Any = None) -> Any:
        self.asked += 1
        prd_id, project = unquote(path.removeprefix("/api/prds/")), (query or {}).get("project")
        found = [(of, name) for of, name in STORED if name == prd_id and project in (None, of)]
        if len(found) != 1:
            raise ServerError(404, {"code": "ambiguous_prd" if found else "not_found", "message": prd_id})
        return {"prd": {"project": found[0][0], "prd_id": found[0][1]}}


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("SHOP-7", ("shop", "SHOP-7")),
        ("shop/SHOP-7", ("shop", "SHOP-7")),
        ("blog/a/b", ("blog", "a/b")),
        ("a/b", ("blog", "a/b")),
        ("shop/raw", (None, "shop/raw")),
        ("y/both", ("y", "both")),
    ],
)
def test_a_prd_is_found_as_it_is_shown(said: str, meant: tuple[str | None, str]) -> None:
    prd = detail_of(Answers(), said, None)["prd"]
    assert (prd["project"], prd["prd_id"]) == meant


@pytest.mark.parametrize(
    ("said", "project"), [("NOPE", None), ("shop/NOPE", None), ("shop/SHOP-7", "shop"), ("/", None)]
)
def test_what_nobody_named_is_refused_by_the_name_that_was_given(said: str, project: str | None) -> None:
    with pytest.raises(ServerError, match=said):
        detail_of(Answers(), said, project)
    with pytest.raises(ServerError) as refusal:
        detail_of(Answers(), "both", None)
    assert refusal.value.code == "ambiguous_prd"


def test_an_empty_name_is_told_as_such_and_nobody_is_asked() -> None:
    answers = Answers()
    with pytest.raises(click.UsageError, match="empty"):
        detail_of(answers, "", None)
    with pytest.raises(click.UsageError, match="empty"):
        filter_of(answers, ["SHOP-7", ""], "shop")
    assert answers.asked == 0


def test_a_filter_takes_such_names_of_one_project() -> None:
    assert filter_of(Answers(), ["shop/SHOP-7"], None) == {"prd_id": ("SHOP-7",), "project": "shop"}
    assert filter_of(Answers(), ["blog/B-1", "blog/a/b"], None) == {"prd_id": ("B-1", "a/b"), "project": "blog"}
    assert filter_of(Answers(), ["later/one"], None) == {"prd_id": ("later/one",), "project": None}
    with pytest.raises(click.UsageError, match="several projects"):
        filter_of(Answers(), ["shop/SHOP-7", "B-1"], None)
    plain = Answers()
    assert filter_of(plain, ["SHOP-7", "B-1"], None) == {"prd_id": ("SHOP-7", "B-1"), "project": None}
    assert filter_of(plain, ["a/b"], "blog") == {"prd_id": ("a/b",), "project": "blog"}
    assert plain.asked == 0, "nothing to be asked about"
