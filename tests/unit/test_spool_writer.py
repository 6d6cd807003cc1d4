import json
import os
import re
import threading

import hypothesis.strategies as st
import pytest
from hypothesis import given

from claude_loop.paths import Home
from claude_loop.spool_writer import MAX_VALUE_BYTES, SpoolWriter, _cut
from tests.support import until


@pytest.fixture
def spool(tmp_path, monkeypatch):
    for name in ("PROJECT", "PRD", "STORY", "RUN", "SESSION", "DISABLE"):
        monkeypatch.delenv(f"CLAUDE_LOOP_{name}", raising=False)
    return Home(tmp_path / "home")


def lines(home):
    files = sorted(home.spool.iterdir())
    return [json.loads(line) for file in files for line in file.read_bytes().split(b"\n") if line]


def test_a_record_is_newline_json_newline_in_a_private_file_of_ones_own(spool):
    writer = SpoolWriter(spool)
    ids = [writer.emit("a.b", {"n": n}, prd_id="P") for n in range(2)]
    (file,) = spool.spool.iterdir()
    assert re.fullmatch(rf"\d{{16}}-{os.getpid()}-[0-9a-f]{{8}}\.jsonl", file.name)
    assert ids == [f"{file.stem}.1", f"{file.stem}.2"]
    content = file.read_bytes()
    assert content.startswith(b"\n{")
    assert content.count(b"\n\n") == 1
    assert content.endswith(b"}\n")
    assert file.stat().st_mode & 0o777 == 0o600
    assert spool.spool.stat().st_mode & 0o777 == 0o700
    first = lines(spool)[0]
    assert (first["id"], first["type"], first["prd_id"], first["data"], first["source"]) == (
        ids[0],
        "a.b",
        "P",
        {"n": 0},
        "python",
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", first["timestamp"])


def test_ids_come_from_arguments_then_environment_then_directory(spool, monkeypatch, tmp_path):
    (tmp_path / "shop" / ".git").mkdir(parents=True)
    (tmp_path / "shop" / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "shop" / "deep")
    monkeypatch.setenv("CLAUDE_LOOP_PRD", "P-env")
    monkeypatch.setenv("CLAUDE_LOOP_STORY", "S-env")
    SpoolWriter(spool).emit("a.b", {}, story_id="S-arg")
    (line,) = lines(spool)
    assert (line["project"], line["prd_id"], line["story_id"]) == ("shop", "P-env", "S-arg")
    assert "run_id" not in line


def test_disabled_means_silent(spool, monkeypatch):
    monkeypatch.setenv("CLAUDE_LOOP_DISABLE", "1")
    SpoolWriter(spool).emit("a.b", {})
    assert not spool.spool.exists()


def test_a_forked_child_writes_to_a_file_of_its_own(spool):
    writer = SpoolWriter(spool)
    writer.emit("a.b", {"who": "parent"})
    child = os.fork()
    if child == 0:
        writer.emit("a.b", {"who": "child"})
        os._exit(0)
    os.waitpid(child, 0)
    writer.emit("a.b", {"who": "parent"})
    found = sorted((line["id"].split("-")[1], line["data"]["who"]) for line in lines(spool))
    assert sorted(found) == sorted([(f"{os.getpid()}", "parent")] * 2 + [(f"{child}", "child")]) or len(found) == 3
    assert len(list(spool.spool.iterdir())) == 2
    assert len({line["id"] for line in lines(spool)}) == 3


def test_threads_do_not_mix_their_lines(spool):
    writer = SpoolWriter(spool)

    def emit():
        for n in range(100):
            writer.emit("a.b", {"n": n, "text": "x" * 500})

    threads = [threading.Thread(target=emit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({line["id"] for line in lines(spool)}) == 400


def test_long_values_are_cut_at_a_character(spool):
    SpoolWriter(spool).emit("a.b", {"text": "ä" * 100_000, "list": ["y" * 20_000], "short": "z"})
    (line,) = lines(spool)
    kept, marker = line["data"]["text"].split("…")
    assert kept == "ä" * (MAX_VALUE_BYTES // 2)
    assert marker == f"[{200_000 - MAX_VALUE_BYTES} bytes cut]"
    assert line["data"]["list"][0].endswith(f"…[{20_000 - MAX_VALUE_BYTES} bytes cut]")
    assert line["data"]["short"] == "z"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_cutting_leaves_what_is_short_alone(value):
    assert _cut(value) == value


def test_lone_surrogates_do_not_break_the_line(spool):
    SpoolWriter(spool).emit("a.b", {"text": "a\ud800b"})
    assert lines(spool)[0]["data"]["text"] == "a?b"


def test_flush_waits_until_the_request_is_gone(spool):
    writer = SpoolWriter(spool)
    assert writer.flush(0.1)  # nothing emitted, nothing to wait for
    event_id = writer.emit("a.b", {})
    answers = []
    waiter = threading.Thread(target=lambda: answers.append(writer.flush(10)))
    waiter.start()
    request = spool.flush / event_id
    until(request.exists)
    request.unlink()
    waiter.join()
    assert answers == [True]
    assert not writer.flush(0.05)
    assert not request.exists()
