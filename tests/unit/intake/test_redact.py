"""Redaction: what must go, what must stay, the gate's promise, and linear time on hostile text."""

from __future__ import annotations

import json
import time

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_loop.intake.redact import Redactor
from claude_loop.settings import RedactSettings

REDACTOR = Redactor(RedactSettings())
EVERYTHING = Redactor(RedactSettings(emails=True, cards=True))

A = "aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zA1bC2dE3f"  # 40 characters that look like a key
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA7bq\nx+/=\n-----END RSA PRIVATE KEY-----"

HEX = "8843d7f92416211de9ebb963ff4ce281"
# Of each vendor one, composed so that nobody's scanner takes this file for a leak.
VENDOR_TOKENS = [
    "clt" + f"_{A}aB3", "whsec" + f"_{A[:32]}", "dp.pt" + f".{A}", "dop_v1" + f"_{HEX}{HEX}", "lin_api" + f"_{A}", "ntn" + f"_{A}aB3dE5",
    "shpat" + f"_{HEX}", "hvs" + f".{A}", "dckr_pat" + f"_{A[:27]}", "sbp" + f"_{HEX}{HEX[:8]}", "gsk" + f"_{A}{A[:12]}",
    "xai" + f"-{A}{A}", "pplx" + f"-{A}", "r8" + f"_{A[:37]}", "fm2" + f"_{A}{A}", "AGE-SECRET-KEY" + f"-1{A.upper()}{A[:18].upper()}",
    "nfp" + f"_{A}", "figd" + f"_{A}", "glsa" + f"_{A[:32]}", "ATATT3x" + f"FfGF0{A}", "rubygems" + f"_{HEX}{HEX[:16]}",
    "pscale_tkn" + f"_{A}", "NRAK" + f"-{A[:27].upper()}", "sq0atp" + f"-{A[:22]}", "SG" + f".{A[:22]}.{A}",
    "SK" + HEX, "key" + f"-{HEX}", "dapi" + HEX, "secret" + f"_{A}aB3",
    "EAAA" + f"l{A}{A[:19]}", "GOCSPX" + f"-{A[:28]}", "1//0" + f"e{A}{A}", f"x~1{8}" + f"Q~{A[:34]}", "LTAI" + f"5t{A[:18]}",
    "AKID" + A[:32], "SCW" + A[:17].upper(), "AQVN" + A[:36], "ATBB" + A[:32], "pat" + f"{A[:14]}.{HEX}{HEX}",
    f"{A[:14]}." + f"atlasv1.{A}{A[:27]}", "sntryu" + f"_{HEX}{HEX}", "sb_secret" + f"_{A[:31]}", "pul" + f"-{HEX}{HEX[:8]}",
    "tskey-auth" + f"-{A[:16]}-{A[:32]}", "HRKU" + f"-{A}", "CFPAT" + f"-{A}{A[:3]}", "CCIPAT" + f"_{A[:22]}_{HEX}",
    "v1.0" + f"-{HEX[:24]}-{HEX}{HEX}{HEX}{HEX}{HEX[:18]}", "ops" + f"_eyJ{A}{A}", "dt0c01" + f".{A[:24].upper()}.{HEX.upper()}{HEX.upper()}",
]  # fmt: skip

SECRETS = [
    (f"sk-ant-api03-{A}", "[redacted:anthropic-key]"),
    (f"sk-proj-{A}", "[redacted:api-key]"),
    (f"sk-{A}", "[redacted:api-key]"),
    (f"ghp_{A[:36]}", "[redacted:github-token]"),
    (f"gho_{A[:36]}", "[redacted:github-token]"),
    (f"github_pat_11ABCDEFG0{A}_{A}", "[redacted:github-token]"),
    (f"glpat-{A[:20]}", "[redacted:gitlab-token]"),
    ("AKIAIOSFODNN7EXAMPLE", "[redacted:aws-key]"),
    ("ASIAIOSFODNN7EXAMPLE", "[redacted:aws-key]"),
    ("xoxb-123456789012-abcdefGHIJ", "[redacted:slack-token]"),
    (f"AIza{A[:35]}", "[redacted:google-key]"),
    (f"npm_{A[:36]}", "[redacted:npm-token]"),
    (f"hf_{A[:34]}", "[redacted:huggingface-token]"),
    ("sk_" + f"live_{A[:24]}", "[redacted:stripe-key]"),
    (f"Bearer {A}", "Bearer [redacted:bearer-token]"),
    (JWT, "[redacted:jwt]"),
    (PEM, "[redacted:private-key]"),
    (PEM[:60], "[redacted:private-key]"),
    ("password=hunter2", "password=[redacted:password]"),
    ("Password: correcthorse", "Password: [redacted:password]"),
    ("DB_PASSWD=x9!y", "DB_PASSWD=[redacted:password]"),
    ("password: $tr0ngX!y", "password: [redacted:password]"),
    ("PASSWORD=$Ecret!9", "PASSWORD=[redacted:password]"),
    ("password=%9x!kk", "password=[redacted:password]"),
    ("password: $2y$10$N9qo8uLOickgx2ZMRZoMye", "password: [redacted:password]"),
    ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "aws_secret_access_key = [redacted:secret]"),
    (f'{{"SecretAccessKey": "{A}"}}', '{"SecretAccessKey": "[redacted:secret]"}'),
    (
        f"AccountName=x;AccountKey={A}+/==;EndpointSuffix=y",
        "AccountName=x;AccountKey=[redacted:secret];EndpointSuffix=y",
    ),
    (f"client_secret: {A}", "client_secret: [redacted:secret]"),
    (f"CLOUDFLARE_API_TOKEN={A}", "CLOUDFLARE_API_TOKEN=[redacted:secret]"),
    (
        f"https://x.blob.core.windows.net/c?sv=2024&sig={A}%3D",
        "https://x.blob.core.windows.net/c?sv=2024&sig=[redacted:secret]",
    ),
    ("token: 8d7f6a5b4c3d", "token: [redacted:secret]"),
    ("GITHUB_TOKEN=v1.0a9b8c7d6e", "GITHUB_TOKEN=[redacted:secret]"),
    ('{"api_key": "q1w2e3r4t5"}', '{"api_key": "[redacted:secret]"}'),
    ("?token=abc123def456&page=2", "?token=[redacted:secret]&page=2"),
    ("run --password hunter2 --verbose", "run --password [redacted:password] --verbose"),
    ("tool --github-api-key 'q1w2e3r4t5'", "tool --github-api-key '[redacted:secret]'"),
    ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic [redacted:credentials]"),
    ("git clone https://me:s3cret@host/x", "git clone https://me:[redacted:password]@host/x"),
    ("postgres://app:p@ss@db:5432/x", "postgres://app:[redacted:password]@db:5432/x"),
    ("redis://:hunter2@127.0.0.1/0", "redis://:[redacted:password]@127.0.0.1/0"),
    ("Server=db;Uid=sa;Pwd=hunter2;", "Server=db;Uid=sa;Pwd=[redacted:password];"),
    (f"https://hooks.slack.com/services/T0/B0/{A[:24]}", "https://[redacted:webhook-url]"),
    (f"1234567890:AA{A[:33]}", "[redacted:bot-token]"),
    (f"{A}\n{A}\n-----END EC PRIVATE KEY-----", "[redacted:private-key]"),
    (f"https://{HEX}@git.example/a", "https://[redacted:secret]@git.example/a"),
    (f"https://b.example/o?X-Amz-Signature={HEX}&x=1", "https://b.example/o?X-Amz-Signature=[redacted:secret]&x=1"),
    (f'{{"auth": "{A}=="}}', '{"auth": "[redacted:secret]"}'),
    (f"//registry/:_auth={A}", "//registry/:_auth=[redacted:secret]"),
    (f"RAILS_MASTER_KEY={HEX}", "RAILS_MASTER_KEY=[redacted:secret]"),
    (f"SECRET_KEY_BASE: '{HEX}'", "SECRET_KEY_BASE: '[redacted:secret]'"),
    ("SMTP_PASS=hunter2", "SMTP_PASS=[redacted:password]"),
    (f"set -gx API_TOKEN {A}", "set -gx API_TOKEN [redacted:password]"),
    ("DB_PASSWORD='two words'", "DB_PASSWORD='[redacted:password]'"),
    ("curl -s -u admin:hunter2 https://x", "curl -s -u admin:[redacted:password] https://x"),
    ("mysql -u root -phunter2 shop", "mysql -u root -p[redacted:password] shop"),
    ("sshpass -p hunter2 ssh x", "sshpass -p [redacted:password] ssh x"),
    ("docker login -u me -p hunter2 reg", "docker login -u me -p [redacted:password] reg"),
    ("redis-cli -a hunter2 ping", "redis-cli -a [redacted:password] ping"),
    ("machine h login me password hunter2", "machine h login me password [redacted:password]"),
    ("db.example:5432:shop:app:hunter2", "db.example:5432:shop:app:[redacted:password]"),
    *((f"{vendor}", "[redacted:api-key]") for vendor in VENDOR_TOKENS),
]

KEPT = [
    "8843d7f92416211de9ebb963ff4ce28125932878",  # a commit hash
    "commit 8843d7f92416211de9ebb963ff4ce28125932878 passed 12 failed 0",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "SyntaxError: Unexpected token: }",
    "Unexpected token: identifier",
    "input_tokens: 123456789, max_tokens=16384000",
    "task-management-is-a-very-long-name-2",
    "sk-learn-is-a-library-of-many-words",
    "PWD=/home/me/project OLDPWD=/home/me",
    "export PASSWORD=$PASSWORD TOKEN=${TOKEN} --password <password>",
    "see https://example.com/a:b and mail me@example.com",
    "ssh://git@github.com/a/b.git",
    "the bearer of bad news about authentication",
    "story-1 by 2026-01-26T12:00:00.123Z id 01KAB0000000000000000000",
    "550e8400-e29b-41d4-a716-446655440000",
    "token = get_token()",
    "password=$db_pass2 password: $this->password password=%s password=%PASSWORD% --password $1 password: ****",
    "data:font/woff;base64,AAAAEAAAAAEAAAAA+" + "EAAA" + "A" * 60,
    "docker run -u 1000:1000 image; chown -R me:staff x; mysql --port 3306 -P 3306",
    "TESTS_PASS=12 CACHE_KEY=users PRIMARY_KEY: id",
    "https://example.com/?key=name&code=403",
    f"{HEX} and npm key-{HEX[:8]} and dapi.example.com",
    "src/app.py:5432:12: error: expected token",
]


@pytest.mark.parametrize(("secret", "expected"), SECRETS)
@pytest.mark.parametrize("around", ["{}", "before {} after", 'said "{}" loudly', "a\n{}\nb"])
def test_secrets_go_from_values(secret: str, expected: str, around: str) -> None:
    text = around.format(secret) if secret != PEM[:60] else secret
    wanted = around.format(expected) if secret != PEM[:60] else expected
    # What only a quote or the end of a line ends takes what follows with it.
    if expected.endswith("[redacted:credentials]") and "after" in around:
        wanted = wanted.removesuffix(" after")
    assert REDACTOR.text(text) == wanted


@pytest.mark.parametrize("text", KEPT)
def test_other_text_stays(text: str) -> None:
    assert REDACTOR.text(text) == text


def test_secrets_go_from_keys_and_from_below_keys_named_like_one() -> None:
    data = {
        f"ghp_{A}": 1,
        f"gho_{A}": 2,
        "env": [{"DB_PASSWORD": "a b", "accessToken": "q1w2e3r4t5", "API-Key": "q1w2e3r4t5"}],
        "password": {"old": "one", "pin": 1234, "set": True, "next": "[x y", "from": "${PW}"},
        "token": 512,
        "secret": "",
        "input_tokens": 17,
        "commit_hash": "8843d7f92416211de9ebb963ff4ce28125932878",
    }
    assert REDACTOR.data(data) == {
        "[redacted:github-token]": 1,
        "[redacted:github-token]′": 2,
        "env": [
            {
                "DB_PASSWORD": "[redacted:password]",
                "accessToken": "[redacted:secret]",
                "API-Key": "[redacted:secret]",
            }
        ],
        "password": {
            "old": "[redacted:password]",
            "pin": "[redacted:password]",
            "set": True,
            "next": "[redacted:password]",
            "from": "${PW}",
        },
        "token": 512,
        "secret": "",
        "input_tokens": 17,
        "commit_hash": "8843d7f92416211de9ebb963ff4ce28125932878",
    }


def test_a_private_key_goes_that_is_told_line_by_line() -> None:
    lines = ["+before", *(f"+{line}" for line in PEM.split("\n")), "+after"]
    hidden = "[redacted:private-key]"
    assert REDACTOR.data({"lines": lines}) == {"lines": ["+before", f"+{hidden}", hidden, hidden, hidden, "+after"]}
    assert REDACTOR.suspects(orjson.dumps(lines).decode())


def test_emails_and_cards_go_by_setting_only() -> None:
    text = "mail jo.do+x@mail.example.co.uk, card 4111 1111 1111 1111 or 4111-1111-1111-1112"
    assert REDACTOR.text(text) == text
    assert EVERYTHING.text(text) == "mail [redacted:e-mail], card [redacted:card] or 4111-1111-1111-1112"
    assert EVERYTHING.data({"n": 4111111111111111, "id": "1769428800123456-12345-abcd"}) == {
        "n": "[redacted:card]",
        "id": "1769428800123456-12345-abcd",
    }


def test_nothing_goes_when_it_is_turned_off() -> None:
    off = Redactor(RedactSettings(secrets=False))
    text = f"password=hunter2 sk-ant-{A}"
    assert not off.suspects(text)
    assert off.data({"password": "x", "t": text}) == {"password": "x", "t": text}


_pieces = st.one_of(
    st.sampled_from([secret for secret, _ in SECRETS] + KEPT),
    st.sampled_from(
        ["password", "token", "=", ":", " ", '"', "'", "\\", "\n", "://", "@", "eyJ", ".", "--", "[redacted:"]
    ),
    st.text(max_size=8),
)
texts = st.lists(_pieces, max_size=8).map("".join)
values = st.recursive(
    st.one_of(texts, st.integers(-(2**53), 2**53), st.booleans(), st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(texts, st.sampled_from(["password", "API_KEY", "token"])), inner, max_size=3),
    ),
    max_leaves=8,
)


@given(values)
def test_twice_is_as_once(value: object) -> None:
    once = EVERYTHING.data(value)
    assert EVERYTHING.data(once) == once


@given(values)
def test_the_gate_lets_everything_through_that_would_change(value: object) -> None:
    encodable = json.loads(json.dumps(value).encode("utf-8", "replace").decode())
    try:
        text = orjson.dumps({"data": encodable}).decode()
    except TypeError:
        return  # lone surrogates never get this far
    if EVERYTHING.data(encodable) != encodable:
        assert EVERYTHING.suspects(text)


HOSTILE = [
    "eyJ", "eyJaaaaaaaa.", "sk-", "sk-ant-", "a", "A", "9", "9 ", "=", "://", "://a:", "://a:a@", "password", "password=", "token=",
    "token: ", "pass", "-----BEGIN PRIVATE KEY-----", "-----BEGIN ", "-", "--a-", "--token ", "bearer ", "bearer+", "authorization:",
    "cookie: ", "ghp_", "AKIA", "a@", "a@a.", "@", "xoxb-", "hooks.slack.com/services/", ";pwd=", "; ", "curl ", "curl -u a:", "mysql ", "mysql -p", "_KEY=", "_PASS=", "?key=", "login a password ",
    ":5432:a:b:", "set -x TOKEN ", "SG.", f"{A}\n", "1234567890:AA", "password='", "key-", "ATATT3x", '"auth": "', "\\", '"', "' ", "0-",
]  # fmt: skip


@pytest.mark.parametrize("unit", HOSTILE)
def test_hostile_text_takes_linear_time(unit: str) -> None:
    def seconds(size: int) -> float:
        text = (unit * (size // len(unit) + 1))[:size]
        started = time.process_time()
        EVERYTHING.text(text + "\x00")
        return time.process_time() - started

    seconds(1024)
    small, large = min(seconds(65_536) for _ in range(2)), min(seconds(262_144) for _ in range(2))
    assert small < 0.25
    # Four times the text: quadratic would be sixteen times the time. The constant is for timer noise.
    assert large < 8 * small + 0.05


@given(st.lists(values, max_size=4))
def test_what_is_suspected_alone_is_suspected_among_others(several: list[object]) -> None:
    encodable = json.loads(json.dumps(several).encode("utf-8", "replace").decode())
    try:
        lines = [orjson.dumps({"data": value}).decode() for value in encodable]
    except TypeError:
        return  # lone surrogates never get this far
    if any(EVERYTHING.suspects(line) for line in lines):
        assert EVERYTHING.suspects("\n".join(lines))
