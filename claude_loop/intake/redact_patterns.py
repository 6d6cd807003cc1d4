"""What a secret looks like: for each kind a gate that is cheap to ask, and the exact pattern.

A gate is a regular expression for pydantic's Rust engine, which looks for all of them in one linear pass over the
*serialized* event, so it allows for JSON's escapes. Whatever a pattern finds, its gate must let through; the reverse
costs time only. Patterns are for Python's backtracking engine and must stay linear on hostile text: a pattern starts
with a literal, every run that something must follow is bounded, and every unbounded run ends its pattern.

Plain hex is never a secret by its looks: commit hashes are plain hex.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

Replace = Callable[[re.Match[str]], str]

# What an earlier redaction left, or a placeholder that says where the secret is without being it.
# A variable's name has no digit between small letters and no `!` behind it: `$PASSWORD`, `$db_pass2`; not `$tr0ngX!y`.
_VARIABLE = r"(?:[A-Z0-9_]+|[A-Za-z_]+[0-9]*|[0-9])(?![\w!#%&*+?@^~])"
_HARMLESS = re.compile(
    rf"\$(?:{_VARIABLE}|[({{*@$])|%(?:[a-z](?!\w)|[A-Za-z_]+%|[({{])|\*\*|[<{{(\[]|"
    r"(?i:true|false|null|none|yes|no|required|missing)\b",
    re.ASCII,
)
_PLACEHOLDER = re.compile(
    r"|\$\w+|\$?\{[^}]*\}|<[^>]*>|\*+|\[redacted:[a-z-]{1,24}\]|true|false|null|none", re.IGNORECASE
)
_MARKER = re.compile(r"\[redacted:[a-z-]{1,24}\]\Z")
_HAS_DIGIT = re.compile(r"[0-9]")
_BLANK = re.compile(r"\s")
_CODE = re.compile(r"[./()]")
_TEXT = re.ASCII | re.IGNORECASE


def marker(kind: str) -> str:
    """What stands in the place of a secret."""
    return f"[redacted:{kind}]"


@dataclass(frozen=True, slots=True)
class SecretPattern:
    """One kind of secret. ``gate`` is in Rust's syntax, ``find`` in Python's."""

    gate: str
    find: re.Pattern[str]
    replace: Replace | str


def token(kind: str, gate: str, find: str) -> SecretPattern:
    """Something that is a secret by its looks alone."""
    return SecretPattern(gate, re.compile(find, re.ASCII), marker(kind))


def with_digit(kind: str) -> Replace:
    """Words may be as long as keys, but words have no digits."""

    def replace(match: re.Match[str]) -> str:
        return match["head"] + marker(kind) if _HAS_DIGIT.search(match["value"]) else match[0]

    return replace


def is_secret_value(kind: str, value: str) -> bool:
    """Whether what a name like ``token`` is set to can be the thing itself.

    A password may be any word. A token must not be one: compilers speak of tokens all day.
    """
    if kind == "password":
        return not _HARMLESS.match(value)
    if len(value) < 8 or _HARMLESS.match(value) or _BLANK.search(value):
        return False
    return bool(_HAS_DIGIT.search(value)) or (len(value) >= 24 and not _CODE.search(value))


def is_secret_under_key(kind: str, value: str) -> bool:
    """As ``is_secret_value``, for all that stands under a key: there a password may look like anything."""
    return not _PLACEHOLDER.fullmatch(value) if kind == "password" else is_secret_value(kind, value)


def name_kind(name: str) -> str:
    """``password`` for what people choose, ``secret`` for what machines make."""
    return "password" if "pass" in name.lower() or "pwd" in name.lower() else "secret"


def assigned(kind: str) -> Replace:
    """What stands where a program expects a secret, unless it only says where the secret is."""

    def replace(match: re.Match[str]) -> str:
        return match["head"] + marker(kind) if is_secret_value(kind, match["value"]) else match[0]

    return replace


def _assigned(match: re.Match[str]) -> str:
    kind = name_kind(match["name"])
    return match["head"] + marker(kind) if is_secret_value(kind, match["value"]) else match[0]


def _url_password(match: re.Match[str]) -> str:
    return match[0] if _MARKER.match(match["value"]) else match["head"] + marker("password") + "@"


# A header's value is hidden whole, whatever it looks like.
def _header(match: re.Match[str]) -> str:
    return match[0] if _MARKER.match(match["value"]) else match["head"] + marker("credentials")


_NAME = (
    r"passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key|secret[_-]?key|"
    r"private[_-]?key|signing[_-]?key|encryption[_-]?key|account[_-]?key|credentials?"
)
_W = r"[A-Za-z0-9_-]"
# Between a name and its value: quotes, blanks, and how JSON writes them.
_GAP = r"[\\\x22' \t\r\nnrt]{0,20}"

SECRETS: tuple[SecretPattern, ...] = (
    # A block without its end, cut off by somebody's length limit, is a secret up to the end of the text.
    token(
        "private-key",
        r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY",
        r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----[\s\S]*?"
        r"(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)",
    ),
    token("anthropic-key", r"sk-ant-[A-Za-z0-9_-]{12}", rf"sk-ant-{_W}{{12,}}"),
    SecretPattern(
        r"sk-[A-Za-z0-9_-]{16}",
        re.compile(rf"(?<![A-Za-z0-9])(?P<head>)(?P<value>sk-{_W}{{16,}})"),
        with_digit("api-key"),
    ),
    token("github-token", r"gh[opusr]_[A-Za-z0-9]{20}", r"gh[opusr]_[A-Za-z0-9]{20,}"),
    token("github-token", r"github_pat_[A-Za-z0-9_]{20}", r"github_pat_[A-Za-z0-9_]{20,}"),
    token("gitlab-token", r"gl(?:pat|rt|dt|cbt|ptt)-[A-Za-z0-9_-]{16}", rf"gl(?:pat|rt|dt|cbt|ptt)-{_W}{{16,}}"),
    token("aws-key", r"A[KS]IA[A-Z0-9]{16}", r"(?<![A-Za-z0-9])A[KS]IA[A-Z0-9]{16}(?![A-Za-z0-9])"),
    token("slack-token", r"xox[a-z](?:\.xox[a-z])?-[A-Za-z0-9-]{8}", r"xox[a-z](?:\.xox[a-z])?-[A-Za-z0-9-]{8,}"),
    token("slack-token", r"xapp-[A-Za-z0-9-]{8}", r"xapp-[A-Za-z0-9-]{8,}"),
    token("google-key", r"AIza[A-Za-z0-9_-]{30}", rf"AIza{_W}{{30,}}"),
    token("google-token", r"ya29\.[A-Za-z0-9_-]{16}", rf"ya29\.{_W}{{16,}}"),
    token("npm-token", r"npm_[A-Za-z0-9]{30}", r"npm_[A-Za-z0-9]{30,}"),
    token("pypi-token", r"pypi-[A-Za-z0-9_-]{30}", rf"pypi-{_W}{{30,}}"),
    token("huggingface-token", r"hf_[A-Za-z0-9]{20}", r"hf_[A-Za-z0-9]{20,}"),
    token("stripe-key", r"[rs]k_(?:live|test)_[A-Za-z0-9]{12}", r"[rs]k_(?:live|test)_[A-Za-z0-9]{12,}"),
    token("webhook-url", r"hooks\.slack\.com/services/", r"hooks\.slack\.com/services/[A-Za-z0-9/]{8,}"),
    token(
        "webhook-url",
        r"discord(?:app)?\.com/api/webhooks/",
        rf"discord(?:app)?\.com/api/webhooks/[0-9]{{1,24}}/{_W}{{8,}}",
    ),
    # One start a run of word characters, or `eyJeyJeyJ…` would be read from each of its starts to its end.
    token(
        "jwt",
        r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8}",
        rf"(?<![A-Za-z0-9_-])eyJ{_W}{{8,}}+\.{_W}{{8,}}+(?:\.{_W}*+)?",
    ),
    SecretPattern(
        r"(?i:bearer)(?:[ +]|\\[nrt]){1,8}[A-Za-z0-9._~+/=-]{12}",
        re.compile(r"(?P<head>bearer[ \t\r\n+]{1,8})(?P<value>[A-Za-z0-9._~+/=-]{12,})", _TEXT),
        with_digit("bearer-token"),
    ),
    # The last @ before a slash ends the password: passwords hold @ more often than host names do.
    SecretPattern(
        r"://[^@/ \x22]*:[^/ \x22]*@",
        re.compile(r"""(?P<head>://[^\s/:@"'<>\[]{0,256}:)(?P<value>[^\s/"'<>]{1,256})@"""),
        _url_password,
    ),
    # Before the assignments, which would hide the scheme and leave the credentials.
    SecretPattern(
        rf"(?i:authorization|cookie){_GAP}[:=]",
        re.compile(
            r"""(?P<head>(?:authorization|cookie)\\?["']?[ \t]{0,4}[:=][ \t]{0,4}\\?["']?"""
            r"""(?:(?:basic|bearer|token|digest)[ \t]{1,4})?)(?P<value>[^\r\n"'\\]{6,})""",
            _TEXT,
        ),
        _header,
    ),
    # A quoted password may hold blanks.
    SecretPattern(
        r"(?i:passw(?:or)?d|passphrase)[\\\x22']{0,4}(?: ?= ?| ?: ?)[\\]{0,3}[\x22']",
        re.compile(
            r"""(?P<head>(?:passw(?:or)?d|passphrase)["']?(?: ?= ?| ?: ?)(?P<quote>["']))"""
            r"""(?P<value>[^"'\r\n\\]{1,200})(?=(?P=quote))""",
            re.ASCII | re.IGNORECASE,
        ),
        assigned("password"),
    ),
    SecretPattern(
        rf"(?i:{_NAME}){_GAP}[:=]",
        re.compile(
            rf"""(?P<head>(?P<name>{_NAME})\\?["']?[ \t\r\n]{{0,4}}(?::=|=>|==?|:)[ \t\r\n]{{0,4}}\\?["']?)"""
            r"""(?P<value>[^\s"',;&\\]{3,})""",
            _TEXT,
        ),
        _assigned,
    ),
    # PWD is a directory in every shell, and a password only in connection strings.
    SecretPattern(
        r"(?i:; ?pwd=)",
        re.compile(r"""(?P<head>; ?(?P<name>pwd)=)(?P<value>[^\s"',;&\\]{1,})""", _TEXT),
        _assigned,
    ),
    SecretPattern(
        rf"(?i:-(?:{_NAME})(?: |\\[nrt]))",
        re.compile(
            rf"""(?P<head>--(?:[a-z0-9]{{1,24}}-){{0,3}}(?P<name>{_NAME})[ \t\r\n]{{1,4}}["']?)"""
            r"""(?P<value>(?!-)[^\s"',;&\\]{3,})""",
            _TEXT,
        ),
        _assigned,
    ),
)

EMAIL = SecretPattern(
    r"[^ @]@[A-Za-z0-9-]",
    re.compile(
        r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,128}+@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}", re.ASCII
    ),
    marker("e-mail"),
)


def passes_luhn(digits: str) -> bool:
    """Whether the check digit of a card number is right."""
    total = 0
    for position, digit in enumerate(map(int, reversed(digits))):
        doubled = digit * 2 if position % 2 else digit
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0


def _card(match: re.Match[str]) -> str:
    digits = match[0].replace(" ", "").replace("-", "")
    return marker("card") if digits[0] in "23456" and passes_luhn(digits) else match[0]


CARD = SecretPattern(
    r"[0-9](?:[ -]?[0-9]){12}",
    re.compile(r"(?<![0-9A-Za-z._-])[0-9](?:[ -]?[0-9]){12,18}(?![0-9A-Za-z_-])"),
    _card,
)

_KEY_NAME = (
    r"(?:passw(?:or)?ds?|passphrase|secrets?|token|api[_ -]?keys?|access[_ -]?keys?|secret[_ -]?key|private[_ -]?key|"
    r"signing[_ -]?key|encryption[_ -]?key|account[_ -]?key|credentials?|authorization|cookies?)"
)
KEY_GATE = rf"(?i:{_KEY_NAME})\x22\s*:"
_SECRET_KEY = re.compile(rf"{_KEY_NAME}\Z", _TEXT)


def key_kind(key: str) -> str | None:
    """The kind of secret that a key of this name holds, or None."""
    match = _SECRET_KEY.search(key)
    return None if match is None else name_kind(match[0])
