import re

import pytest

from claude_loop.id_rules import ID_PATTERN, TYPE_PATTERN


@pytest.mark.parametrize("good", ["story.started", "a", "a-b_c.d1", "x.0"])
def test_types_that_may_be(good):
    assert re.match(TYPE_PATTERN, good)


@pytest.mark.parametrize("bad", ["", ".a", "a.", "A.b", "a b", "1a", "a..b", "a\n", "ä.b", "a:b"])
def test_types_that_may_not_be(bad):
    assert not re.match(TYPE_PATTERN, bad)


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("PRD 1/ä", True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("", False),
        ("a\tb", False),
        ("a\x7f", False),
        ("a\n", False),
        ("\u2028", False),
    ],
)
def test_ids_are_printable_and_of_bounded_length(text, fits):
    assert bool(re.match(ID_PATTERN, text)) is fits
