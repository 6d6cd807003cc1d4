"""`bin/claude-loop` in small clones: its set-up is real (venv, pip, locks, kills), what it starts is a stand-in."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import BIN, until

# Stands in for the package: says how it was started.
PROGRAM = """
import json, sys
print(json.dumps({"arguments": sys.argv[1:], "source": __file__, "isolated": sys.flags.isolated}))
sys.exit(7)
"""
SETTING_UP = "claude-loop: making .venv"

# Seconds for one set-up on a busy machine; it takes three on an idle one.
PATIENCE = 120

pytestmark = [pytest.mark.timeout(4 * PATIENCE), pytest.mark.slow]


class Clone:
    def __init__(self, root: Path, home: Path) -> None:
        self.root = root
        self.command = root / "bin" / "claude-loop"
        self.stamp = root / ".venv" / "installed.lock"
        self.environment = {"HOME": str(home), "PATH": os.environ["PATH"]}

    @classmethod
    def make(cls, root: Path, home: Path) -> Clone:
        (root / "bin").mkdir(parents=True)
        for name in ("claude-loop", "find_python.sh", "make_venv.py"):
            shutil.copy(BIN / name, root / "bin")
        (root / "claude_loop").mkdir()
        (root / "claude_loop" / "__init__.py").touch()
        (root / "claude_loop" / "__main__.py").write_text(PROGRAM)
        clone = cls(root, home)
        clone.pin("first")
        return clone

    def pin(self, version: str) -> None:
        """Other pinned versions. They are comments, which pip reads quickly."""
        (self.root / "requirements.lock").write_text(f"# {version}\n")

    def start(self, *arguments: str, command: str | Path | None = None, **options: object) -> subprocess.Popen[str]:
        given = {"env": self.environment, "cwd": self.root.parent, **options}
        line = [str(command or self.command), *arguments]
        return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **given)  # type: ignore[call-overload]

    def run(self, *arguments: str, **options: object) -> tuple[dict[str, object], str]:
        """What the program said of itself, and what stood on stderr."""
        process = self.start(*arguments, **options)
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 7, err
        return json.loads(out), err


# A set-up takes ten seconds of a processor: the first runs that are looked at are also those that everything else needs.
FIRST_ARGUMENTS = [["one", "two words", "--three", ""], ["2"], ["3"], ["4"]]


@pytest.fixture(scope="module")
def first_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, list[tuple[str, str]]]:
    """A clone after its first runs, all at once, and what each of them said."""
    folder = tmp_path_factory.mktemp("original")
    (folder / "home").mkdir()
    clone = Clone.make(folder / "a clone", folder / "home")
    processes = [clone.start(*arguments) for arguments in FIRST_ARGUMENTS]
    return clone, [process.communicate(timeout=PATIENCE) for process in processes]


@pytest.fixture(scope="module")
def original(first_runs: tuple[Clone, list[tuple[str, str]]]) -> Clone:
    """A clone that is set up; tests work on copies."""
    return first_runs[0]


def copy_or_link(source: str, target: str) -> None:
    """pip's hundreds of files are never written to, only taken away: a copy may share them."""
    (os.link if "/site-packages/pip/" in source else shutil.copy2)(source, target)


@pytest.fixture
def copy(original: Clone, tmp_path: Path) -> Callable[[], Clone]:
    def make() -> Clone:
        root = tmp_path / "moved"
        shutil.copytree(original.root, root, symlinks=True, copy_function=copy_or_link)
        return Clone(root, tmp_path)

    return make


@pytest.fixture
def clone(copy: Callable[[], Clone]) -> Clone:
    return copy()


@pytest.fixture
def bare(tmp_path: Path) -> Clone:
    """A clone nobody has run yet."""
    return Clone.make(tmp_path / "bare", tmp_path)


def test_first_runs_at_once_set_up_once(first_runs):
    _, answers = first_runs
    assert [json.loads(out)["arguments"] for out, _ in answers] == FIRST_ARGUMENTS
    (words,) = [err for _, err in answers if err]
    assert words.startswith(SETTING_UP)
    assert words.count("\n") == 1


def test_the_second_run_sets_nothing_up(original):
    assert original.run()[1] == ""


def test_a_moved_clone_runs_its_own_code_without_another_set_up(clone):
    said, words = clone.run()
    assert words == ""
    assert said["source"] == str(clone.root / "claude_loop" / "__main__.py")


def test_it_runs_through_links_from_anywhere(clone, tmp_path):
    local = tmp_path / "local bin"
    local.mkdir()
    (local / "absolute").symlink_to(clone.command)
    (local / "relative").symlink_to("../moved/bin/claude-loop")
    (local / "twice").symlink_to("relative")
    (tmp_path / "linked-folder").symlink_to(clone.root / "bin")
    (tmp_path / "linked-clone").symlink_to(clone.root)
    ways: list[tuple[str | Path, Path]] = [
        (local / "absolute", Path("/")),
        (local / "relative", Path("/")),
        (local / "twice", local),
        ("./twice", local),
        ("bin/claude-loop", clone.root),
        ("./claude-loop", clone.root / "bin"),
        ("../bin/claude-loop", clone.root / "claude_loop"),
        (tmp_path / "linked-folder" / "claude-loop", Path("/")),
        ("linked-clone/bin/claude-loop", tmp_path),
        ("../moved/bin/../bin/claude-loop", local),
    ]
    for command, directory in ways:
        said, words = clone.run("x", command=command, cwd=directory)
        assert (said["arguments"], words) == (["x"], ""), (command, directory)
    clone.environment["PATH"] = f"{clone.root / 'bin'}:{clone.environment['PATH']}"
    found = subprocess.run(["bash", "-c", "claude-loop"], env=clone.environment, capture_output=True, check=False)
    assert found.returncode == 7


def test_neither_the_directory_nor_python_s_variables_put_other_code_before_ours(clone, tmp_path):
    trap = tmp_path / "trap"
    (trap / "claude_loop").mkdir(parents=True)
    for name in ("claude_loop/__init__.py", "claude_loop/__main__.py", "json.py", "sitecustomize.py"):
        (trap / name).write_text("raise SystemExit('trapped')")
    clone.environment |= {"PYTHONPATH": str(trap), "PYTHONHOME": str(trap), "PYTHONSTARTUP": str(trap / "json.py")}
    said, words = clone.run(cwd=trap)
    assert words == ""
    assert said["isolated"] == 1


# Stands in for bin/build_page.py: says that it was called, and leaves the stamp of a page that was built.
BUILD_PAGE = """
import pathlib, sys
stamp = pathlib.Path(sys.argv[0]).parent.parent / "claude_loop" / "web" / "dist" / "built-from"
stamp.parent.mkdir(parents=True, exist_ok=True)
stamp.write_text("digest")
print("built", file=sys.stderr)
sys.exit(1)
"""


def test_the_page_is_built_when_one_of_its_sources_is_younger_and_else_costs_nothing(clone):
    assert clone.run()[1] == "", "a clone without the page's sources has nothing to build"
    (clone.root / "bin" / "build_page.py").write_text(BUILD_PAGE)
    deep = clone.root / "web" / "src" / "lib" / "words.ts"
    deep.parent.mkdir(parents=True)
    for path in (deep, clone.root / "web" / "package.json"):
        path.touch()
    assert clone.run()[1] == "built\n", "and the command runs, although the build failed"
    assert clone.run()[1] == ""
    later = time.time() + 5
    os.utime(deep, (later, later))
    assert clone.run()[1] == "built\n"
    (clone.root / "web" / ".build-failed").touch()
    os.utime(clone.root / "web" / ".build-failed", (later + 1, later + 1))
    assert clone.run()[1] == "", "what failed with these sources is not tried at every command"


@pytest.mark.requires("strace")
def test_the_usual_run_starts_no_process_but_python_itself(clone, tmp_path):
    trace = tmp_path / "trace"
    line = ["strace", "-f", "-o", str(trace), "-e", "trace=execve,clone,clone3,fork,vfork", str(clone.command)]
    subprocess.run(line, env=clone.environment, stdout=subprocess.DEVNULL, timeout=30, check=False)
    calls = [line.split(None, 1)[1] for line in trace.read_text().splitlines() if " = 0" in line or " = -" not in line]
    started = [call for call in calls if call.startswith("execve(")]
    assert [Path(call.split('"')[1]).name for call in started] == ["claude-loop", "bash", "python"][-len(started) :]
    assert not [call for call in calls if call.startswith(("clone", "fork", "vfork"))]


def assert_it_sets_up(clone: Clone) -> None:
    """Begins to; how it goes on, another test sees."""
    with clone.start(start_new_session=True) as process:
        assert process.stderr.readline().startswith(SETTING_UP)
        os.killpg(process.pid, signal.SIGKILL)


def test_other_pinned_versions_are_noticed_even_when_their_file_looks_older(clone):
    clone.pin("other")
    os.utime(clone.root / "requirements.lock", (1_000_000_000, 1_000_000_000))
    assert_it_sets_up(clone)


def test_a_lock_file_that_was_only_touched_costs_no_set_up(clone):
    os.utime(clone.root / "requirements.lock")
    assert clone.run()[1] == ""
    assert clone.stamp.stat().st_mtime == (clone.root / "requirements.lock").stat().st_mtime


def test_an_environment_that_holds_more_is_kept(clone):
    """The tests' tools live in the same .venv: running the command must not take them away."""
    clone.stamp.write_text("# first\n# and the tools\n")
    assert clone.run()[1] == ""
    assert clone.stamp.read_text() == "# first\n# and the tools\n"


def test_an_interpreter_that_went_away_is_noticed(clone):
    python = clone.root / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3.11")
    assert_it_sets_up(clone)


@pytest.mark.requires("linux")
def test_a_set_up_that_failed_or_was_killed_is_never_taken_for_finished(bare):
    lock = bare.root / "requirements.lock"
    lock.write_text("nothing @ file:///nowhere/nothing-1.0-py3-none-any.whl \\\n    --hash=sha256:" + "0" * 64 + "\n")
    process = bare.start()
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert out == ""
    assert err.startswith(SETTING_UP)
    assert "nowhere/nothing-1.0" in err, "pip's own reason"
    assert err.splitlines()[-1].startswith("claude-loop: set-up failed:")
    assert not bare.stamp.exists()
    bare.pin("mended")
    _kill_a_set_up(bare, 1.0, whole_group=True)
    # Killed alone, as the OOM killer would, it leaves its running step behind: the next set-up waits for that.
    _kill_a_set_up(bare, 0.3, whole_group=False)
    said, words = bare.run("again")
    assert said["arguments"] == ["again"]
    assert words.startswith(SETTING_UP)
    assert bare.stamp.read_text() == "# mended\n"
    assert bare.run()[1] == ""
    pip = [bare.root / ".venv" / "bin" / "python", "-I", "-m", "pip", "--version"]
    subprocess.run(pip, check=True, capture_output=True)


def _kill_a_set_up(clone: Clone, delay: float, *, whole_group: bool) -> None:
    process = clone.start(start_new_session=True)
    worker = until(lambda: _child(process.pid), PATIENCE)
    time.sleep(delay)  # any moment will do: what is killed is a set-up somewhere in its first seconds
    if whole_group:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        os.kill(worker, signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    assert not clone.stamp.exists()


def _child(pid: int) -> int | None:
    """The Python that `bin/claude-loop` runs the set-up with."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError):  # one of the Pythons that were only asked for their version
            if b"make_venv.py" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
    return None


def test_a_clone_that_may_not_be_written_to_is_said_to_be_so(bare):
    (bare.root / ".venv.guard").mkdir()  # fails for root as well, which no permission does
    process = bare.start()
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert err.startswith("claude-loop: set-up failed:")
    assert "Traceback" not in err


class Machine:
    """A PATH that has what every machine has, and the Pythons a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for program in ("bash", "env", "readlink"):
            found = shutil.which(program)
            assert found is not None
            (folder / program).symlink_to(found)

    def add(self, name: str, script: str) -> None:
        (self.folder / name).write_text(f"#!/bin/bash\n{script}\n")
        (self.folder / name).chmod(0o755)


@pytest.fixture
def machine(bare: Clone, tmp_path: Path) -> Machine:
    made = Machine(tmp_path / "machine")
    bare.environment["PATH"] = str(made.folder)
    return made


def test_without_python_it_says_what_to_install(bare, machine):
    process = bare.start()
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "needs Python 3.11" in err
    assert "There is no Python here" in err
    assert "apt-get install python3 python3-venv" in err


def test_an_old_python_is_named(bare, machine):
    machine.add("python3", "case $* in *print*) echo 3.9 ;; *) exit 1 ;; esac")
    process = bare.start()
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert f"{machine.folder}/python3 is Python 3.9" in err


def test_a_python_without_venv_is_named_with_its_package(bare, machine):
    machine.add("python3", f'case $* in *ensurepip*) exit 1 ;; *) exec {sys.executable} "$@" ;; esac')
    process = bare.start()
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"apt-get install python{version}-venv" in err


def test_the_first_python_that_will_do_is_taken(bare, machine):
    machine.add("python3", "exit 1")
    machine.add("python", f'exec {sys.executable} "$@"')
    line = [machine.folder / "bash", bare.root / "bin" / "find_python.sh"]
    found = subprocess.run(line, env=bare.environment, capture_output=True, text=True, check=True)
    assert found.stdout == f"{machine.folder}/python\n"
