"""What a person types, as an expression of FTS5.

Every word must be there, each as the beginning of one; what stands in double quotes must be there as it is. Nothing
else is special: the operators of FTS5 are words like any other.
"""

from __future__ import annotations

import re
import unicodedata

from claude_loop.errors import InvalidRequest

MAX_WORDS = 16
_QUOTED_OR_WORD = re.compile(r'"([^"]*)"|([^\s"]+)')
# What the index takes for part of a word: letters, digits, marks on letters, and private characters.
_OF_WORDS = ("L", "N", "M", "Co")


def as_expression(text: str) -> str:
    """Raises ``InvalidRequest`` for ``q`` when there is no word in it."""
    terms = []
    for quoted, word in _QUOTED_OR_WORD.findall(text):
        words = _words_of(quoted or word)
        if words:
            whole = quoted or (words.isascii() and len(words) == 1)  # a lone letter begins half of all words
            terms.append(f'"{words}"' + ("" if whole else "*"))
    if not terms:
        raise InvalidRequest("`q` has no word to look for.", field="q", hint="Letters and digits are searched for.")
    if len(terms) > MAX_WORDS:
        raise InvalidRequest(f"`q` has {len(terms)} words; at most {MAX_WORDS} are taken.", field="q")
    return " AND ".join(terms)


def _words_of(text: str) -> str:
    """The words in ``text`` with a blank between them: the index has cut what it holds in the same places."""
    kept = [char if unicodedata.category(char).startswith(_OF_WORDS) else " " for char in text]
    return " ".join("".join(kept).split())
