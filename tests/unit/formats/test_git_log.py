"""What a real git answers, read back."""

from __future__ import annotations

import subprocess

import pytest

from claude_loop.formats.git_log import LOG_ARGUMENTS, mentions, parse_answers, parse_log


@pytest.fixture
def git(tmp_path):
    def run(*arguments):
        identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "commit.gpgsign=false")
        done = subprocess.run(["git", *identity, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout

    run("init", "-q", "-b", "main")
    return run


def test_commits_are_read_with_subject_files_and_lines(git, tmp_path):
    (tmp_path / "cart.py").write_text("a\nb\nc\n")
    git("add", ".")
    root = git("commit", "-m", "feat: [US-001] - Add the cart")
    git("mv", "cart.py", "basket.py")
    (tmp_path / "tab\tand\nnewline \x1e").write_text("x\n")
    (tmp_path / "logo").write_bytes(b"\0\1")
    git("add", ".")
    second = git("commit", "-m", "US-2: rename — “so”\n\nwith a body\n[main 1234567] not an answer")
    git("checkout", "-q", "--detach")
    third = git("commit", "--allow-empty", "-m", "nothing")

    newest, renamed, first = parse_log(git("log", *LOG_ARGUMENTS))
    hashes = git("log", "--format=%H").split()
    assert [newest.commit_hash, renamed.commit_hash, first.commit_hash] == hashes
    assert (first.subject, first.files, first.insertions, first.deletions) == (
        "feat: [US-001] - Add the cart", ["cart.py"], 3, 0,
    )  # fmt: skip
    assert first.committed_at == int(git("log", "-1", "--format=%ct", hashes[2]))
    assert renamed.subject == "US-2: rename — “so”"
    assert sorted(renamed.files) == ["basket.py", "logo", "tab\tand\nnewline \x1e"]
    assert (renamed.insertions, renamed.deletions) == (1, 0)
    assert (newest.files, newest.insertions) == ([], 0)

    (answer,) = parse_answers(root)
    assert (answer.branch, answer.subject, answer.insertions) == ("main", first.subject, 3)
    assert first.commit_hash.startswith(answer.commit_hash)
    (answer,) = parse_answers("some output before\n" + second)
    assert (answer.insertions, answer.deletions) == (1, 0)
    (answer,) = parse_answers(third)
    assert (answer.branch, answer.subject, answer.insertions) == (None, "nothing", None)


def test_data_has_what_is_known_and_the_ids_named():
    (commit,) = parse_answers("[ralph/cart 3bb0a67] feat: [US-001] - Like US-002\n 2 files changed, 1 deletion(-)\n")
    assert commit.data() == {
        "commit_hash": "3bb0a67",
        "subject": "feat: [US-001] - Like US-002",
        "branch": "ralph/cart",
        "insertions": 0,
        "deletions": 1,
        "mentions": ["US-001", "US-002"],
    }


@pytest.mark.parametrize(
    ("subject", "named"),
    [
        ("feat: [US-001] - Title", ["US-001"]),
        ("feat(STORY_12): x, T3 and us-4a", ["STORY_12", "T3", "us-4a"]),
        ("Fix PROJ-12.1.", ["PROJ-12.1"]),
        ("Nothing named here at 17:00", []),
        ("src/v2/x.py and 1.2.3", []),
        ("US-1 US-1", ["US-1"]),
    ],
)
def test_what_may_be_a_story_is_named(subject, named):
    assert mentions(subject) == named


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\x1e",
        "\x1eabc\x1f1\x1fs\x1f",
        "fatal: not a git repository",
        "\x1e" + "a" * 40 + "\x1fx\x1fs\x1f",
        "\x1e" * 9,
    ],
)
def test_what_is_no_log_gives_no_commits(text):
    assert parse_log(text) == []


@pytest.mark.parametrize(
    "line", ["[x] done", "[1/4] abcdef1] x", "[main abc] short", " [main 3bb0a67] indented", "[12:00 3bb0a67]"]
)
def test_what_is_no_answer_gives_no_commits(line):
    assert parse_answers(line) == []
