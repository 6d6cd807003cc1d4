"""The bash emitter: what a record holds, where it goes, and what happens to arguments that are not as expected."""

from __future__ import annotations

import re
import stat
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from claude_loop.catalogue import CATALOGUE
from claude_loop.context import project_name
from claude_loop.errors import InvalidEvent
from claude_loop.intake.spool_names import author
from claude_loop.paths import Home
from claude_loop.progress.owners import Process, ProcessTable
from tests.support import ROOT
from tests.unit.bin.bash_scripts import (
    ALL_CALLS,
    ALL_TYPES,
    EMITTER,
    MODES,
    bash,
    emitted,
    environment,
    records,
)

BOTH = pytest.mark.parametrize("mode", ["bash-5", "bash-3.2"])


@pytest.mark.parametrize(
    ("call", "type_", "ids", "data"),
    [
        ("emit_prd_completed P", "prd.completed", "P", {"success": True, "status": "completed"}),
        ("emit_prd_completed P true", "prd.completed", "P", {"success": True, "status": "completed"}),
        ("emit_prd_completed P false", "prd.completed", "P", {"success": False, "status": "failed"}),
        ("emit_story_started P S", "story.started", "P S", {"status": "in_progress"}),
        ("emit_story_completed P S", "story.completed", "P S", {"success": True, "status": "completed"}),
        ("emit_story_completed P S false", "story.completed", "P S", {"success": False, "status": "failed"}),
        ("emit_test_run P S 12 0", "test.run", "P S", {"passed": 12, "failed": 0}),
        (
            "emit_test_run P S 10 2 test_a 'test b'",
            "test.run",
            "P S",
            {"passed": 10, "failed": 2, "failures": [{"name": "test_a"}, {"name": "test b"}]},
        ),
        ("emit_commit_created P S abc123", "commit.created", "P S", {"commit_hash": "abc123"}),
        (
            "emit_commit_created P S abc123 'Cart totals'",
            "commit.created",
            "P S",
            {"commit_hash": "abc123", "subject": "Cart totals"},
        ),
        ("emit_error P S 'it broke'", "error.occurred", "P S", {"error": "it broke"}),
        ("emit_error P '' 'it broke'", "error.occurred", "P", {"error": "it broke"}),
        ("emit_log_message P S warning hm", "log.message", "P S", {"level": "warning", "message": "hm"}),
        ("emit_progress P S 3 8", "progress.updated", "P S", {"current": 3, "total": 8}),
        ("emit_progress P S 0.5 1 half", "progress.updated", "P S", {"current": 0.5, "total": 1, "message": "half"}),
        ("emit_iteration P 3", "iteration.started", "P", {"iteration": 3}),
        ("emit_iteration P 3 20", "iteration.started", "P", {"iteration": 3, "max_iterations": 20}),
        ("emit_waiting P human why", "agent.waiting", "P", {"for": "human", "reason": "why"}),
        (
            "emit_waiting P rate_limit limit 2026-01-26T12:00:00Z",
            "agent.waiting",
            "P",
            {"for": "rate_limit", "reason": "limit", "until": "2026-01-26T12:00:00Z"},
        ),
        (
            "emit_waiting P other pause 1769428800.5",
            "agent.waiting",
            "P",
            {"for": "other", "reason": "pause", "until": 1769428800.5},
        ),
        ("emit_resumed P", "agent.resumed", "P", {}),
    ],
)
def test_what_each_function_emits_passes_the_catalogue(call, type_, ids, data):
    (record,) = emitted(call)
    prd, _, story = ids.partition(" ")
    assert (record["type"], record["prd_id"], record.get("story_id", "")) == (type_, prd, story)
    assert record["data"] == data
    assert record["source"] == "bash"
    assert CATALOGUE[type_].complete(data, story or "S")


@pytest.mark.parametrize("mode", MODES)
def test_every_function_in_every_mode(mode):
    assert [record["type"] for record in emitted(ALL_CALLS, mode=mode)] == ALL_TYPES


def test_prd_started_names_the_process_that_runs_the_loop():
    ran = bash('source "$1"; emit_prd_started P 5; (emit_prd_started P); echo $$; read -r wait')
    assert ran.status == 1
    first, second = (record["data"] for record in records())
    assert first["total_stories"] == 5
    assert first["owner"] == second["owner"]
    assert first["owner"]["pid"] == int(ran.out)


@BOTH
def test_the_daemon_recognises_the_owner_while_it_lives(mode):
    script = 'source "$1"; emit_prd_started P; echo; read -r wait'
    with subprocess.Popen(
        ["bash", "-c", script, "script", str(EMITTER)],
        env=environment(mode),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        process.stdout.readline()
        (record,) = records()
        owner = Process.parse(record["data"]["owner"])
        assert owner is not None
        assert owner.pid == process.pid
        assert ProcessTable().lives(owner)
        process.stdin.close()
        process.wait(30)
        assert not ProcessTable().lives(owner)


def test_without_proc_no_owner_is_named():
    (record,) = emitted("emit_prd_started P", mode="no-proc")
    assert record["data"] == {"status": "running"}


def test_run_as_a_command_it_emits_once_and_names_no_owner():
    command = [str(EMITTER), "emit_prd_started", "P", "5"]
    done = subprocess.run(command, env=environment(), capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert records()[0]["data"] == {"status": "running", "total_stories": 5}


@pytest.mark.parametrize("arguments", [[], ["emit_nothing"], ["rm", "-r"]])
def test_run_as_a_command_without_a_function_it_says_how(arguments):
    done = subprocess.run([str(EMITTER), *arguments], env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: source emit_progress.sh")


def test_another_shell_is_told():
    done = subprocess.run(["sh", "-c", f". {EMITTER}"], env=environment(), capture_output=True, text=True, check=False)
    if done.returncode == 0:
        pytest.skip("sh is bash here")
    assert "needs bash" in done.stderr


@BOTH
def test_time_is_utc_with_microseconds_and_rises(mode):
    before = datetime.now(UTC)
    found = emitted("for i in 1 2 3 4 5; do emit_resumed P; done", mode=mode)
    after = datetime.now(UTC)
    stamps = [record["timestamp"] for record in found]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", stamp) for stamp in stamps)
    times = [datetime.fromisoformat(stamp) for stamp in stamps]
    assert [before, *times, after] == sorted([before, *times, after])


def test_the_calendar_is_right_on_every_kind_of_day():
    days = [0, 58, 59, 60, 365, 789, 790, 11_015, 11_016, 11_017, 20_513, 47_540, 47_541, 47_542]
    seconds = [day * 86_400 + second for day in days for second in (0, 1, 43_199, 86_399)]
    ran = bash(
        'source "$1"; shift; for second do __cl_now=$second.000000; __claude_loop_make_date; echo "$__cl_now"; done',
        *[f"{second:010d}" for second in seconds],
    )
    assert ran.out.splitlines() == [
        f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.000000" for second in seconds
    ]


def test_the_file_is_named_after_time_and_process_and_is_private(home):
    ran = bash('umask 022; source "$1"; emit_resumed P; echo $$; umask; : >after')
    pid, umask = ran.out.split()
    (file,) = (home / "spool").iterdir()
    written_by = author(file.stem)
    assert written_by is not None
    assert written_by.pid == int(pid)
    assert abs(written_by.since_us / 1e6 - time.time()) < 60
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((home / "spool").stat().st_mode) == 0o700
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert umask == "0022"
    assert stat.S_IMODE((home.parent / "after").stat().st_mode) == 0o644


@pytest.mark.parametrize("mode", MODES)
def test_modes_are_private_in_every_mode_and_for_the_flush_marker(home, mode):
    bash('umask 000; source "$1"; emit_resumed P; emit_flush 0; emit_flush 0.01 & kill -9 $!', mode=mode)
    found = [home, *home.rglob("*")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in found if path.is_dir()} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in found if path.is_file()} == {0o600}


@BOTH
def test_a_file_that_was_moved_away_is_made_anew_and_the_numbers_go_on(home, mode):
    script = 'source "$1"; emit_resumed P; emit_resumed P; mv "$2"/spool/*.jsonl "$2/gone"; emit_resumed P'
    assert bash(script, str(home), mode=mode).err == ""
    (record,) = records()
    assert record["id"].endswith(".3")
    (file,) = (home / "spool").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_empty_ids_come_from_the_context():
    context = {
        "CLAUDE_LOOP_PROJECT": "shop",
        "CLAUDE_LOOP_PRD": "PRD-7",
        "CLAUDE_LOOP_STORY": "US-3",
        "CLAUDE_LOOP_RUN": "run-1",
        "CLAUDE_LOOP_SESSION": "s-1",
    }
    found = emitted('emit_error "" "" x; emit_error PRD-8 US-4 x; emit_event a.b run=run-2 session=', env=context)
    assert [[record[key] for key in ("project", "prd_id", "story_id", "run_id", "session_id")] for record in found] == [
        ["shop", "PRD-7", "US-3", "run-1", "s-1"],
        ["shop", "PRD-8", "US-4", "run-1", "s-1"],
        ["shop", "PRD-7", "US-3", "run-2", "s-1"],
    ]


def test_ids_that_are_not_known_are_left_out():
    (record,) = emitted("emit_event a.b")
    assert record.keys() == {"id", "type", "project", "source", "timestamp", "data"}


def test_ids_follow_a_change_between_two_calls(tmp_path):
    (tmp_path / "one" / ".git").mkdir(parents=True)
    (tmp_path / "two").mkdir()
    found = emitted(
        "emit_story_started P AB; emit_story_started PA B; CLAUDE_LOOP_RUN=r; emit_story_started PA B;"
        "cd ../two; emit_story_started PA B; CLAUDE_LOOP_PROJECT=x; emit_story_started PA B",
        cwd=tmp_path / "one",
    )
    assert [(r["project"], r["prd_id"], r["story_id"], r.get("run_id")) for r in found] == [
        ("one", "P", "AB", None),
        ("one", "PA", "B", None),
        ("one", "PA", "B", "r"),
        ("two", "PA", "B", "r"),
        ("x", "PA", "B", "r"),
    ]


@pytest.mark.parametrize("place", ["clone", "clone/a/b", "worktree/a", "plain/a", 'q"uo\\te'])
def test_the_project_is_the_one_python_finds(tmp_path, place):
    (tmp_path / "clone" / ".git").mkdir(parents=True)
    (tmp_path / "worktree").mkdir()
    (tmp_path / "worktree" / ".git").write_text("gitdir: elsewhere\n")
    directory = tmp_path / place
    directory.mkdir(parents=True, exist_ok=True)
    (record,) = emitted("emit_event a.b", cwd=directory)
    assert record["project"] == project_name(directory)


def test_in_the_root_directory_there_is_no_project():
    if Path("/.git").exists():
        pytest.skip("/ is a git repository")
    (record,) = emitted("emit_event a.b", cwd=Path("/"))
    assert "project" not in record


@pytest.mark.parametrize(
    "variables",
    [
        {"CLAUDE_LOOP_HOME": "$TMP/state dir"},
        {"CLAUDE_LOOP_HOME": "relative"},
        {"CLAUDE_LOOP_HOME": "", "XDG_STATE_HOME": "$TMP/xdg"},
        {"CLAUDE_LOOP_HOME": "", "XDG_STATE_HOME": "not/absolute"},
        {"CLAUDE_LOOP_HOME": "", "XDG_STATE_HOME": ""},
        {"CLAUDE_LOOP_HOME": ""},
    ],
)
def test_the_state_directory_is_the_one_python_finds(tmp_path, monkeypatch, variables):
    filled = {name: value.replace("$TMP", str(tmp_path)) for name, value in variables.items()} | {"HOME": str(tmp_path)}
    ran = bash('source "$1"; emit_resumed P', env=filled, cwd=tmp_path)
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(records(Home.from_environment(filled).root)) == 1


def test_without_home_the_user_database_tells(tmp_path):
    ran = bash(
        'source "$1"; unset HOME CLAUDE_LOOP_HOME; __cl_home=x; __claude_loop_relative_home; echo "$__cl_home"; echo ~'
    )
    found, home = ran.out.split()
    assert found == f"{home}/.local/state/claude-loop"


@pytest.mark.parametrize(("value", "silent"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_one_variable_silences_everything(home, value, silent):
    ran = bash(f'source "$1"; {ALL_CALLS} emit_flush 0', env={"CLAUDE_LOOP_DISABLE": value})
    assert (ran.status, ran.out, ran.err) == (0 if silent else 1, "", "")
    assert home.exists() is not silent


@pytest.mark.parametrize(
    ("call", "data"),
    [
        ("emit_test_run P S abc 08", {"passed": "abc", "failed": 8}),
        ("emit_test_run P S '      12' ' 0 '", {"passed": 12, "failed": 0}),
        ("emit_test_run P S", {"passed": "", "failed": ""}),
        ("emit_test_run P S 1.5 +1", {"passed": "1.5", "failed": "+1"}),
        ("emit_test_run P S -1 000", {"passed": -1, "failed": 0}),
        (
            "emit_test_run P S 'a[$(touch /tmp/claude-loop-ran)]' 1e3",
            {"passed": "a[$(touch /tmp/claude-loop-ran)]", "failed": "1e3"},
        ),
        ("emit_test_run P S 99999999999999999999 9", {"passed": "99999999999999999999", "failed": 9}),
        ("emit_iteration P '' -", {"iteration": "", "max_iterations": "-"}),
        ("emit_progress P S 0,5 1e2", {"current": "0,5", "total": 100.0}),
        ("emit_progress P S .5 1.", {"current": ".5", "total": "1."}),
        ("emit_progress P S 1e999 --1", {"current": "1e999", "total": "--1"}),
        ("emit_story_completed P S ''", {"success": ""}),
        ("emit_story_completed P S yes", {"success": "yes"}),
        ("emit_story_completed P S TRUE", {"success": "TRUE"}),
        ("emit_commit_created P S", {"commit_hash": ""}),
        ("emit_waiting P nobody why soon", {"for": "nobody", "reason": "why", "until": "soon"}),
    ],
)
def test_arguments_of_the_wrong_kind_are_kept_as_they_are(call, data):
    (record,) = emitted(call)
    assert record["data"] == data
    assert not Path("/tmp/claude-loop-ran").exists()


def test_a_success_that_nobody_claimed_is_not_made_up():
    (record,) = emitted('unset passed; emit_story_completed P S "${passed-}"')
    with pytest.raises(InvalidEvent):
        CATALOGUE["story.completed"].complete(record["data"], "S")


def test_calls_without_any_argument_are_harmless():
    names = [name for name in public_functions() if name != "emit_flush"]
    found = emitted("set -eu\n" + "\n".join(names))
    assert len(found) == len(names)


def test_failures_beyond_fifty_are_left_out():
    (record,) = emitted("emit_test_run P S 0 60 test_{1..60}")
    assert [each["name"] for each in record["data"]["failures"]] == [f"test_{n}" for n in range(1, 51)]
    assert CATALOGUE["test.run"].complete(record["data"], "S")


def test_emit_event_takes_ids_strings_json_and_words():
    (record,) = emitted(
        "emit_event deploy.done project=web prd=P-1 story=S-1 run=r-1 session=s-1 "
        "n=1 'url=http://x/?a=b' empty= 'count:=3' 'ok:=true' 'list:=[1, \"two\", null]' 'bad:={1}' 'k\"ey=v' "
        "word =value ':=1' 'a:b=c'"
    )
    ids = {"project": "web", "prd_id": "P-1", "story_id": "S-1", "run_id": "r-1", "session_id": "s-1"}
    assert {key: record[key] for key in ids} == ids
    assert record["type"] == "deploy.done"
    assert record["data"] == {
        "n": "1",
        "url": "http://x/?a=b",
        "empty": "",
        "count": 3,
        "ok": True,
        "list": [1, "two", None],
        "bad": "{1}",
        'k"ey': "v",
        "a:b": "c",
        "_arguments": ["word", "=value", ":=1"],
    }


def test_a_type_may_be_anything():
    (record,) = emitted("""emit_event 'no "type"'""")
    assert record["type"] == 'no "type"'


def public_functions() -> list[str]:
    return re.findall(r"^(emit_\w+)\(\)", EMITTER.read_text(), re.MULTILINE)


# Bash itself changes these from command to command, or lists them only once they have been used.
VOLATILE = r"declare \S+ (_|BASH_LINENO|BASH_COMMAND|PIPESTATUS|FUNCNAME|BASH_ARG[CV]|SECONDS|EPOCH\w+|S?RANDOM|LINENO|BASHPID|BASH_SUBSHELL)\b"


@BOTH
def test_only_its_functions_and_prefixed_variables_reach_the_script(mode):
    script = """
    REPLY=r MAPFILE=(m) OPTIND=3 BASH_XTRACEFD=  IFS=,; [[ ab =~ a ]]; set -fu; shopt -s nocasematch; trap ': x' USR1
    snapshot() { builtin declare -p; builtin declare -F; shopt -p; shopt -op; trap -p; umask; }
    echo before; snapshot; echo after; source "$1"; {calls}
    emit_flush 0.01; snapshot
    """.replace("{calls}", ALL_CALLS)
    before, _, after = bash(script, mode=mode).out.partition("after\n")
    news = set(after.splitlines()) - set(before.splitlines())
    ours = {line for line in news if re.match(r"declare \S+ (__claude_loop_|emit_)", line)}
    assert {line for line in news - ours if not re.match(VOLATILE, line)} == set()
    assert {line.split()[2] for line in ours if line.startswith("declare -f emit_")} == set(public_functions())
    gone = set(before.splitlines()) - set(after.splitlines()) - {"before"}
    assert {line for line in gone if not re.match(VOLATILE, line)} == set()


@BOTH
def test_a_seeded_sequence_of_random_numbers_stays_as_it_is(mode):
    draw = "RANDOM=42; for i in 1 2 3; do {} echo $RANDOM; done"
    plain = bash(draw.format("")).out
    assert bash('source "$1"; ' + draw.format("emit_resumed P; ( emit_resumed P );"), mode=mode).out == plain


def test_the_page_names_every_function():
    page = (ROOT / "docs" / "bash.md").read_text()
    documented = set(re.findall(r"^(emit_\w+)", page, re.MULTILINE))
    assert documented == set(public_functions())


@pytest.mark.requires("shellcheck")
def test_shellcheck_finds_nothing():
    done = subprocess.run(["shellcheck", "-x", str(EMITTER)], capture_output=True, text=True, check=False)
    assert done.stdout == ""


def test_the_record_of_the_page():
    """The keys stand in the order that the documentation shows."""
    ran = bash(
        'source "$1"; emit_story_started PRD-001 US-001', env={"CLAUDE_LOOP_RUN": "r", "CLAUDE_LOOP_SESSION": "s"}
    )
    assert ran.err == ""
    (record,) = records()
    order = ["id", "type", "project", "prd_id", "story_id", "run_id", "session_id", "source", "timestamp", "data"]
    assert list(record) == order
