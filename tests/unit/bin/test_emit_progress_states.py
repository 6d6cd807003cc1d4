"""The bash emitter inside scripts in every state a shell can be in: never a failure, never a word, never a lost record."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.support import until
from tests.unit.bin.bash_scripts import ALL_CALLS, ALL_TYPES, EMITTER, MODES, bash, environment, records

SHOPTS = [
    "nocasematch",
    "nullglob",
    "extglob",
    "failglob",
    "dotglob",
    "xpg_echo",
    "globstar",
    "execfail",
    "extdebug",
    "lastpipe",
    "inherit_errexit",
    "localvar_inherit",
    "localvar_unset",
    "assoc_expand_once",
    "compat31",
    "compat32",
    "compat40",
    "compat41",
    "compat42",
    "compat43",
    "compat44",
]
BUILTINS = "printf local shift umask command read mapfile set break exec shopt mkdir date test echo"

# What a script may do before it calls us. `$1` is the emitter.
STATES = {
    "plain": 'source "$1"',
    "strict": 'set -euo pipefail; source "$1"',
    "errtrace": "set -eEuo pipefail; trap 'echo ERR' ERR; source \"$1\"",
    "functrace": "set -T; source \"$1\"; trap ': debug' DEBUG; trap ': return' RETURN",
    "no IFS": 'IFS=; source "$1"',
    "IFS that splits everything": 'IFS="0123456789.-abcdefjklmnos{}_"; source "$1"',
    "no globbing": 'set -f; source "$1"',
    "noclobber": 'set -C; source "$1"',
    "allexport": 'set -a; source "$1"',
    "keyword": 'set -k; source "$1"',
    "posix": 'set -o posix; source "$1"',
    "posix strict": 'set -o posix; set -euo pipefail; source "$1"',
    "BASH_COMPAT": 'BASH_COMPAT=3.2; source "$1"',
    "options of old": 'shopt -u patsub_replacement globasciiranges 2>/dev/null; source "$1"',
    "sourced twice": 'set -eu; source "$1"; source "$1"',
    "sourced in a function": 'load() { local x=1; source "$1"; }; load "$1"',
    "readonly names": "readonly i n s x key value data file json type now pid home IFS TZ REPLY MAPFILE LANG LC_ALL "
    'PWD HOME TMPDIR PATH; source "$1"',
    "readonly in posix": 'set -o posix; readonly LC_ALL IFS TZ PWD; source "$1"',
    "unset specials": 'source "$1"; unset BASHPID EPOCHREALTIME SRANDOM RANDOM SECONDS HOME BASH_REMATCH',
    "no PATH": 'source "$1"; PATH=',
    "stdout closed": 'source "$1"; exec >&-',
    "all closed": 'source "$1"; exec <&- >&- 2>&-',
    "stdout full": 'source "$1"; exec >/dev/full 2>/dev/full',
    "umask": 'source "$1"; umask 777',
    "LC_ALL that is not installed": 'source "$1"; { LC_ALL=xx_XX.UTF-8; } 2>/dev/null',
    "LC_CTYPE that is not installed": 'source "$1"; unset LC_ALL; { LC_CTYPE=xx_XX.UTF-8; } 2>/dev/null',
    "C locale": 'LC_ALL=C; source "$1"',
    "no locale": 'unset LC_ALL LANG; source "$1"',
    "functions named like builtins": 'for name in %s; do eval "$name() { echo $name; }"; done; source "$1"' % BUILTINS,
    "aliases named like builtins": "shopt -s expand_aliases; for name in %s builtin return; do alias $name='echo no'; done\n"
    '\\source "$1"' % BUILTINS,
} | {f"shopt {name}": f'shopt -s {name}; source "$1"' for name in SHOPTS}

# Ways to run the calls in a script.
PLACES = {
    "group": "{\n%s\n}",
    "subshell": "(\n%s\n)",
    "background": "{\n%s\n} & wait",
    "pipeline": "{\n%s\n} | cat",
    "command substitution": "x=$(\n%s\n); [[ -z $x ]]",
    "function": "f() {\n%s\n}; f a b c",
    "condition": "if\n%s\nthen :; fi",
    "exit trap": "trap '\nset +e\n' ERR; calls() {\n%s\n}; trap calls EXIT",
    "signal trap": "calls() {\n%s\n}; trap calls USR1; kill -USR1 $$; :",
    "process substitution": "read -r -d '' x < <(\n%s\n) || true; [[ -z $x ]]",
}


@pytest.fixture(scope="session")
def german(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which a decimal point is a comma."""
    folder = tmp_path_factory.mktemp("locales")
    if shutil.which("localedef"):
        command = ["localedef", "--no-archive", "-i", "de_DE", "-f", "UTF-8", str(folder / "de_DE.UTF-8")]
        subprocess.run(command, capture_output=True, check=False, timeout=50)
    variables = {"LOCPATH": str(folder), "LC_ALL": "de_DE.UTF-8"}
    told = subprocess.run(["bash", "-c", "printf %.1f 1"], env=os.environ | variables, capture_output=True, check=False)
    if told.stdout != b"1,0":
        pytest.skip("no locale with a decimal comma (Debian: apt-get install locales)")
    return variables


def check(script: str, *, mode: str = "bash-5", env: dict[str, str] | None = None) -> None:
    ran = bash(script, mode=mode, env=env)
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    found = records()
    assert [record["type"] for record in found] == ALL_TYPES
    by_type = {record["type"]: record["data"] for record in found}
    assert by_type["error.occurred"]["error"] == 'm "q" \\ \n\t\033\001 é'
    assert by_type["test.run"] == {"passed": 1, "failed": 2, "failures": [{"name": "a"}, {"name": 'b "c"'}]}
    assert by_type["a.b"] == {"k": "v", "j": [1, {"a": None}], "_arguments": ["w"]}


@pytest.mark.parametrize("mode", ["bash-5", "bash-3.2"])
@pytest.mark.parametrize("state", STATES)
def test_in_every_state_of_a_shell(state, mode):
    check(f"{STATES[state]}\n{ALL_CALLS}", mode=mode)


@pytest.mark.parametrize("state", ["plain", "strict", "no IFS", "readonly names", "unset specials", "allexport"])
def test_in_states_where_the_comma_is_decimal(state, german):
    check(f"{STATES[state]}\n{ALL_CALLS}", env=german)


@pytest.mark.parametrize("mode", ["bash-3.2", "no-proc"])
def test_older_ways_where_the_comma_is_decimal(german, mode):
    check(f"{STATES['strict']}\n{ALL_CALLS}", mode=mode, env=german)


@pytest.mark.parametrize("mode", ["bash-5", "bash-3.2"])
@pytest.mark.parametrize("place", PLACES)
def test_in_every_place_of_a_script(place, mode):
    check('set -euo pipefail\nsource "$1"\n' + PLACES[place] % ALL_CALLS, mode=mode)


def test_the_effective_locale_is_what_it_was(german):
    script = 'source "$1"; a=é; for l in C.UTF-8 C xx_XX.UTF-8 de_DE.UTF-8 ""; do LC_ALL=$l; emit_error P S "$a"; echo ${#a}; done'
    ran = bash(script + " 2>/dev/null", env=german | {"LANG": "C.UTF-8"})
    without = bash(script.replace("emit_error", ": emit_error") + " 2>/dev/null", env=german | {"LANG": "C.UTF-8"})
    assert ran.out == without.out
    assert set(ran.out.split()) == {"1", "2"}
    assert len(records()) == 5


def test_a_status_is_always_zero_and_errexit_stays_on():
    ran = bash('set -e; source "$1"; emit_error P S x; [[ $? == 0 ]]; emit_event; false; echo not reached')
    assert (ran.status, ran.out) == (1, "")


def test_tracing_shows_calls_and_not_what_is_in_them():
    ran = bash('source "$1"; set -x; emit_story_started P S; emit_error P S secret; emit_flush 0.05')
    assert ran.out == ""
    assert len(ran.err.splitlines()) < 20
    assert "emit_story_started P S" in ran.err


@pytest.mark.parametrize("mode", MODES)
def test_a_debug_trap_that_emits_does_not_start_itself(mode):
    """In a subshell of ours the trap would run again, and start a subshell, and so on."""
    script = """source "$1"; set -T; n=0; trap 'emit_resumed P; n=$((n + 1)); ((n < 5)) || trap - DEBUG' DEBUG
    : one
    : two
    emit_resumed Q
    trap - DEBUG; echo done"""
    assert bash(script, mode=mode).out == "done\n"
    assert len(records()) >= 5


@pytest.mark.parametrize(("where", "at_least"), [("*", 20), ("*printf*__claude_loop_head*", 2)])
def test_a_trap_between_any_two_of_our_commands_leaves_ids_and_project_alone(where, at_least):
    """Everywhere, and only where all is compared and about to be written."""
    script = """source "$1"; emit_story_started P S; set -T
    trap '[[ $BASH_COMMAND != $2 ]] || CLAUDE_LOOP_PROJECT=trap CLAUDE_LOOP_RUN=t emit_story_started T "$((t++))"' DEBUG
    emit_story_started P S; emit_error P S 'a "b"'; emit_event a.b prd=P story=S 'k=v "w"'; emit_story_started P S
    trap - DEBUG"""
    ran = bash(script.replace("$2", where), env={"CLAUDE_LOOP_PROJECT": "main"})
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    found: dict[bool, list[tuple[str, str | None, str]]] = {True: [], False: []}
    for record in records():
        found[record["prd_id"] == "P"].append((record["project"], record.get("run_id"), record["prd_id"]))
    assert found[True] == [("main", None, "P")] * 5
    assert len(found[False]) >= at_least
    assert set(found[False]) == {("trap", "t", "T")}


def test_an_error_trap_that_emits():
    script = """set -E; source "$1"; trap 'emit_error P S "status $?: $BASH_COMMAND"' ERR
    false; f() { return 3; }; f || :; f"""
    assert bash(script).err == ""
    assert [record["data"]["error"] for record in records()] == ["status 1: false", "status 3: return 3"]


def test_traps_that_emit_between_our_commands_number_no_two_records_alike(tmp_path):
    """Signals at random moments, the next one when the trap of the last is done: sooner, bash would nest them.

    Only the ways of bash 5: bash 5.2 itself ends a script, any script, whose trap fires within its `$(…)`.
    """
    script = """set -euo pipefail; source "$1"; done=$2 t=0
    trap 't=$((t + 1)); emit_log_message P "T$t" info "trap $t"; : >"$done/$t"' USR1; : >"$done/0"
    i=0; until ((t >= 12 && i >= 250)); do i=$((i + 1)); emit_error P "S$i" "main $i"; done
    trap '' USR1; echo "$t $i" """
    command = ["bash", "-c", script, "script", str(EMITTER), str(tmp_path)]
    chance = random.Random(1)
    sent = 0
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        until((tmp_path / "0").exists)
        while process.poll() is None and sent < 60:
            time.sleep(chance.uniform(0, 0.004))
            process.send_signal(signal.SIGUSR1)
            sent += 1
            until(lambda: (tmp_path / str(sent)).exists() or process.poll() is not None)  # noqa: B023 - called here
        out, err = process.communicate(timeout=50)
    assert (err, process.returncode) == (b"", 0)
    found = records()
    texts = [record["data"].get("error") or record["data"]["message"] for record in found]
    traps, calls = map(int, out.split())
    expected = [f"main {i}" for i in range(1, calls + 1)] + [f"trap {i}" for i in range(1, traps + 1)]
    assert sorted(texts) == sorted(expected)
    assert all(record["story_id"][1:] == text.split()[1] for record, text in zip(found, texts, strict=True))


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: RLIMIT_NOFILE of a child")
def test_without_a_free_file_descriptor_the_script_goes_on():
    ran = bash('source "$1"; ulimit -n 3; emit_error P S x; emit_flush 0.01; echo on')
    assert (ran.status, ran.out) == (0, "on\n")


def test_exported_functions_work_in_a_child_that_has_sourced_nothing():
    script = 'set -a; source "$1"; set +a; emit_resumed P; exec bash -euc "emit_resumed Q; emit_resumed Q"'
    ran = bash(script)
    assert (ran.status, ran.err) == (0, "")
    assert [record["prd_id"] for record in records()] == ["P", "Q", "Q"]
