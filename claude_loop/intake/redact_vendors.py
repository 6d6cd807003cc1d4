"""Secrets that are known by whose they are: tokens with a vendor's prefix, and passwords in arguments of programs.

The rules for gates and patterns are those of ``redact_patterns``.
"""

from __future__ import annotations

import re

from claude_loop.intake.redact_patterns import SecretPattern, assigned, token, with_digit

_W = r"[A-Za-z0-9_-]"
_HEX = r"[A-Fa-f0-9]"

# Long random parts behind a prefix that nothing else has.
_PREFIXED = (
    rf"clt_{_W}{{43}}",  # our own tokens
    r"whsec_[A-Za-z0-9+/]{24}",
    r"dp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9._-]{32}",
    rf"do[opr]_v1_{_HEX}{{40}}",
    r"lin_(?:api|oauth)_[A-Za-z0-9]{32}",
    r"ntn_[A-Za-z0-9]{40}",
    rf"shp(?:at|ca|pa|ss)_{_HEX}{{32}}",
    rf"hv[sbr]\.{_W}{{24}}",
    rf"dckr_(?:pat|oat)_{_W}{{20}}",
    rf"sbp_{_HEX}{{40}}",
    r"gsk_[A-Za-z0-9]{40}",
    r"xai-[A-Za-z0-9]{40}",
    r"pplx-[A-Za-z0-9]{32}",
    r"r8_[A-Za-z0-9]{32}",
    r"fm[12][ar]?_[A-Za-z0-9+/=_-]{40}",
    r"AGE-SECRET-KEY-1[A-Z0-9]{50}",
    r"nfp_[A-Za-z0-9]{32}",
    rf"figd_{_W}{{32}}",
    r"gl(?:sa|c)_[A-Za-z0-9_+/=]{32}",
    r"ATATT3x[A-Za-z0-9_=-]{40}",
    rf"rubygems_{_HEX}{{40}}",
    rf"pscale_(?:tkn|pw|oauth)_{_W}{{32}}",
    r"NRAK-[A-Z0-9]{24}",
    rf"sq0(?:atp|csp|idp)-{_W}{{20}}",
    rf"SG\.{_W}{{16,32}}\.{_W}{{16}}",
    rf"GOCSPX-{_W}{{20}}",
    r"sntry[su]_[A-Za-z0-9_+/=-]{32}",
    rf"sb_secret_{_W}{{20}}",
    rf"pul-{_HEX}{{40}}",
    rf"tskey-[a-z]{{2,8}}-{_W}{{16}}",
    r"HRKU-[A-Za-z0-9_-]{32}",
    rf"CFPAT-{_W}{{40}}",
    rf"CCIP(?:AT|RJ)_{_W}{{20}}",
    rf"v1\.0-{_HEX}{{24}}-{_HEX}{{100}}",
    rf"ops_eyJ{_W}{{40}}",
    rf"phx_{_W}{{32}}",
    r"dt0c01\.[A-Z0-9]{24}\.[A-Z0-9]{32}",
)
# Prefixes that words end with: nothing may stand before them.
_SHORT_PREFIXED = (
    r"SK[a-f0-9]{32}",
    r"key-[a-f0-9]{32}",
    r"dapi[a-f0-9]{32}",
    r"secret_[A-Za-z0-9]{40,48}",
    r"LTAI[A-Za-z0-9]{16,24}",
    r"AKID[A-Za-z0-9]{32}",
    r"SCW[A-Z0-9]{17}",
    rf"EAAA{_W}{{60}}",
    rf"AQVN{_W}{{35,38}}",
    r"ATBB[A-Za-z0-9]{32}",
    r"pat[A-Za-z0-9]{14}\.[a-f0-9]{64}",
    rf"1//0{_W}{{40,120}}",
    # What Azure gives applications: three characters, a version, `Q~`, and 31 to 34 more.
    r"[A-Za-z0-9_~.-]{3}[78]Q~[A-Za-z0-9_~.-]{31,34}",
    rf"[A-Za-z0-9]{{14}}\.atlasv1\.{_W}{{60,80}}",
)


def _prefixed() -> SecretPattern:
    prefixed, short = "|".join(_PREFIXED), "|".join(_SHORT_PREFIXED)
    find = rf"(?:(?:{prefixed})[A-Za-z0-9_+/=.-]*|(?<![A-Za-z0-9+/_-])(?:{short})(?![A-Za-z0-9+/_-]))"
    return token("api-key", f"{prefixed}|{short}", find)


VENDORS: tuple[SecretPattern, ...] = (
    _prefixed(),
    token("bot-token", rf"[0-9]:AA{_W}{{32}}", rf"(?<![0-9A-Za-z])[0-9]{{8,10}}:AA{_W}{{32,}}"),
    # `head -5 key.pem | tail -3` and the like: an end whose begin was not shown.
    token(
        "private-key",
        r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY",
        r"(?<![A-Za-z0-9+/=])(?:[A-Za-z0-9+/=]{16,80}+\r?\n){1,100}+"
        r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----",
    ),
    SecretPattern(
        r"://[A-Za-z0-9_-]{20,256}@",
        re.compile(r"(?P<head>://)(?P<value>[A-Za-z0-9_-]{20,256})(?=@)", re.ASCII),
        with_digit("secret"),
    ),
    SecretPattern(
        r"[?&](?i:[a-z0-9_-]{0,24}(?:key|sig|signature|auth|code))=[A-Za-z0-9%+/_.~-]{16}",
        re.compile(
            r"(?P<head>[?&][a-z0-9_-]{0,24}(?:key|sig|signature|auth|code)=)(?P<value>[A-Za-z0-9%+/_.~-]{16,})",
            re.ASCII | re.IGNORECASE,
        ),
        with_digit("secret"),
    ),
    # `"auth": "…"` of Docker's settings, `:_auth=…` of npm's.
    SecretPattern(
        r"auth(?:[\\]{0,3}\x22 {0,4}: {0,4}[\\]{0,3}\x22| ?= ?)[A-Za-z0-9+/]{16}",
        re.compile(
            r"""(?P<head>(?:\\?"auth\\?" {0,4}: {0,4}\\?"|:_auth ?= ?))(?P<value>[A-Za-z0-9+/]{16,}={0,2})""", re.ASCII
        ),
        with_digit("secret"),
    ),
    # Capitals only: a `key` or a `pass` in code is anything.
    SecretPattern(
        r"_KEY(?:_BASE)?(?: ?= ?|: ?)[\\\x22']{0,4}[A-Za-z0-9+/_.~-]{16}",
        re.compile(
            r"""(?P<head>_KEY(?:_BASE)?(?: ?= ?|: ?)\\?["']?)(?P<value>[A-Za-z0-9+/_.~-]{16,}={0,2})""", re.ASCII
        ),
        with_digit("secret"),
    ),
    SecretPattern(
        r"_(?:PASS|PW)=",
        re.compile(
            r"""(?P<head>(?P<name>_PASS|_PW)=\\?["']?)(?P<value>(?![0-9]{1,5}(?![^\s"',;&\\]))[^\s"',;&\\]{3,})""",
            re.ASCII,
        ),
        assigned("password"),
    ),
    SecretPattern(
        r"set -[A-Za-z]{1,4} [A-Z0-9_]{0,40}(?:TOKEN|KEY|SECRET|PASSWORD)",
        re.compile(
            r"""(?P<head>set -[A-Za-z]{1,4} [A-Z0-9_]{0,40}(?:TOKEN|KEY|SECRET|PASSWORD) ["']?)"""
            r"""(?P<value>[^\s"',;&\\]{8,})""",
            re.ASCII,
        ),
        assigned("password"),
    ),
    SecretPattern(
        r"(?:curl|wget) ",
        re.compile(
            r"""(?P<head>(?:curl|wget) (?:[^\n]{0,200}? )?(?:-u ?|--user[ =])["']?[^\s:"'/]{1,64}:)"""
            r"""(?P<value>[^\s"'\\]{3,})""",
            re.ASCII,
        ),
        assigned("password"),
    ),
    SecretPattern(
        r"(?:mysql(?:dump|admin)?|sshpass|docker login|redis-cli) ",
        re.compile(
            r"""(?P<head>(?:mysql(?:dump|admin)? (?:[^\n]{0,200}? )?-p|sshpass -p ?|"""
            r"""docker login (?:[^\n]{0,200}? )?-p |redis-cli (?:[^\n]{0,200}? )?-a )["']?)(?P<value>[^\s"'\\]{3,})""",
            re.ASCII,
        ),
        assigned("password"),
    ),
    SecretPattern(
        r"login(?: |\\[nrt]){1,4}[^ \\]{1,128}(?: |\\[nrt]){1,4}password(?: |\\[nrt])",
        re.compile(
            r"(?P<head>login[ \t\r\n]{1,4}[^\s\\]{1,128}[ \t\r\n]{1,4}password[ \t\r\n]{1,4})(?P<value>[^\s\"'\\]{3,})",
            re.ASCII,
        ),
        assigned("password"),
    ),
    SecretPattern(
        r":5432:[^: ]{1,64}:[^: ]{1,64}:",
        re.compile(r"(?P<head>:5432:[^:\s]{1,64}:[^:\s]{1,64}:)(?P<value>[^\s\"'\\]{3,})", re.ASCII),
        assigned("password"),
    ),
)
