"""`run`: a command under the wrapper. This process prepares everything, then becomes the wrapper itself."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import click

from claude_loop.cli.terminal import note
from claude_loop.context import inherited, silenced
from claude_loop.errors import ClaudeLoopError
from claude_loop.formats.prd_json import Plan, name_of, parse_plan, read_document
from claude_loop.id_rules import ID_PATTERN, MAX_ID_LENGTH
from claude_loop.instance import is_running
from claude_loop.paths import Home, open_private
from claude_loop.plan_places import first_file, plan_files, script_of
from claude_loop.run_files import END_JSON, RUN_JSON, is_directory_name, own_process
from claude_loop.spool_writer import SpoolWriter
from claude_loop.wrapper.child import NOT_EXECUTABLE, NOT_FOUND, execute

# Of a plan that is larger the daemon takes no notice either.
_LARGEST_PLAN = 4 * 1024 * 1024
_WRAPPER = Path(__file__).resolve().parent.parent / "wrapper"


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--prd", "prd_id", metavar="ID", help="[default: $CLAUDE_LOOP_PRD, prd.json's, or the command's name]")
@click.option("--title", metavar="T", help="What to call it. [default: what prd.json says]")
@click.option(
    "--prd-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Its plan. [default: prd.json here, beside the script or in scripts/ralph]",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="[--] COMMAND...")
def run(prd_id: str | None, title: str | None, prd_file: Path | None, command: tuple[str, ...]) -> NoReturn:
    """Run COMMAND, such as ./ralph.sh 20, unedited, and show it live: its output, plan, commits, tests and end.

    The command notices nothing of it; `claude-loop open` shows it. Exit status: the command's.
    """
    if prd_file is not None and not prd_file.is_file():
        raise click.UsageError(f"{prd_file} is not a file.")
    program = _found(command[0])
    if prd_id is not None and not re.match(ID_PATTERN, prd_id):
        raise click.UsageError("--prd is to have 1 to 128 printable characters.")
    home = Home.from_environment()
    if silenced() or _is_within_a_run(home, prd_id):
        _become(program, command)
    try:
        plan, planned = _plan(prd_id, title, prd_file, command)
        home.prepare()
        directory = _open_run(home, plan, shlex.join(command), planned)
    except (OSError, ClaudeLoopError) as failure:
        note(f"claude-loop: this run is not shown: {failure}")
        _become(program, command)
    _start_daemon(home)
    os.environ.update({"CLAUDE_LOOP_PRD": plan["prd_id"], "CLAUDE_LOOP_RUN": plan["run_id"]})
    if plan["project"]:
        os.environ["CLAUDE_LOOP_PROJECT"] = plan["project"]
    # Without the packages of the environment, which the wrapper does not need: a third of the memory and of the start.
    _become(sys.executable, (sys.executable, "-I", "-S", str(_WRAPPER), str(directory), *command))


def _found(name: str) -> str:
    """The file that ``name`` stands for. Ends as a shell does when there is none: a slip of the pen is no run."""
    folders = [""] if "/" in name else [folder or "." for folder in os.get_exec_path()]
    places = [os.path.join(folder, name) for folder in folders]
    files = [place for place in places if os.path.isfile(place)]
    found = next((file for file in files if os.access(file, os.X_OK)), None)
    if found is None and name.startswith("-") and not files:
        raise click.UsageError(f"No such option: {name}")
    if found is None:
        note(f"claude-loop: {name}: {'permission denied' if files else 'command not found'}")
        sys.exit(NOT_EXECUTABLE if files else NOT_FOUND)
    return found


def _is_within_a_run(home: Home, prd_id: str | None) -> bool:
    """Whether an outer `claude-loop run` of the same PRD already shows everything that this one would."""
    run_id, prd = os.environ.get("CLAUDE_LOOP_RUN", ""), os.environ.get("CLAUDE_LOOP_PRD")
    if not is_directory_name(run_id) or prd_id not in {None, prd}:
        return False
    directory = home.runs / run_id
    return (directory / RUN_JSON).exists() and not (directory / END_JSON).exists()


def _plan(
    prd_id: str | None, title: str | None, prd_file: Path | None, command: tuple[str, ...]
) -> tuple[dict[str, Any], Plan | None]:
    """What `run.json` says, and what the `prd.json` that was found plans."""
    context = inherited()
    script = script_of(Path.cwd(), command)
    file = prd_file or first_file(plan_files(Path.cwd(), script))
    name, planned = _planned(file)
    return {
        "run_id": _run_id(prd_id, context),
        "project": _as_id(context["project"]),
        "prd_id": prd_id or _as_id(context["prd_id"]) or name or _as_id(Path(command[0]).name),
        "title": title,
        # Not the command: it may hold secrets, and this file stays until the run is over.
        "script": None if script is None else str(script),
        "cwd": os.getcwd(),
        "prd_file": None if file is None else str(file.absolute()),
        "passing": None if planned is None else [story.story_id for story in planned.stories if story.passes],
        "started_at": time.time_ns() // 1000,
        "owner": own_process(),
        "tty": os.isatty(0) and os.isatty(1),
    }, planned


def _as_id(name: str | None) -> str | None:
    """What a script or a file is called is no mistake of who starts the run: made to fit where it does not."""
    if name is None or re.match(ID_PATTERN, name):
        return name
    return "".join(c if re.match(ID_PATTERN, c) else "\N{REPLACEMENT CHARACTER}" for c in name[:MAX_ID_LENGTH])


def _run_id(prd_id: str | None, context: dict[str, str | None]) -> str:
    """The one a script has set for what it does, unless that is another PRD's; else a new one."""
    given = context["run_id"]
    if given and is_directory_name(given) and prd_id in {None, context["prd_id"]}:
        return given
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(4).hex()}"


def _planned(file: Path | None) -> tuple[str | None, Plan | None]:
    """The name that a prd.json gives its PRD, and its plan before anything is done."""
    try:
        document = None if file is None else read_document(_beginning(file))
    except OSError:  # the daemon looks again
        document = None
    if file is None or document is None:
        return None, None
    return name_of(document, file.absolute()), parse_plan(document)


def _beginning(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(_LARGEST_PLAN)


def _open_run(home: Home, plan: dict[str, Any], command: str, planned: Plan | None) -> Path:
    """The run's directory, and its first events. Raises ``OSError``."""
    directory: Path = home.runs / plan["run_id"]
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:  # a script that sets the id runs two commands one after the other
        plan["run_id"] = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(4).hex()}"
        directory = home.runs / plan["run_id"]
        directory.mkdir(mode=0o700)
    descriptor = open_private(directory / f".{RUN_JSON}", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
        json.dump(plan, file)
    (directory / f".{RUN_JSON}").rename(directory / RUN_JSON)
    data = {"command": command, "cwd": plan["cwd"]}
    data |= {key: plan[key] for key in ("title", "owner") if plan[key]}
    ids = {key: plan[key] for key in ("project", "prd_id", "run_id")}
    SpoolWriter(home, "run").emit("run.started", data, **ids)
    if planned is not None:
        # Not left to the daemon, which may come when all is over: what hooks tell meanwhile is to find its story.
        stories = planned.data()
        if plan["title"]:  # a person named the run
            del stories["title"]
        SpoolWriter(home, "prd.json").emit("plan.updated", stories, **ids)
    return directory


def _start_daemon(home: Home) -> None:
    """See to it that one comes up, and wait for nothing. Its start is another process's business, which nobody owns."""
    if os.environ.get("CLAUDE_LOOP_AUTOSTART") == "0" or os.environ.get("CLAUDE_LOOP_URL") or is_running(home):
        return
    if os.fork() != 0:
        os.wait()
        return
    if os.fork() == 0:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(null, number)
        os.closerange(3, 2**20)
        isolation = ["-I"] if sys.flags.isolated else []
        os.execv(sys.executable, [sys.executable, *isolation, "-m", "claude_loop", "up"])  # noqa: S606 - ourselves
    os._exit(0)


def _become(program: str, arguments: tuple[str, ...]) -> NoReturn:
    try:
        execute(program, list(arguments))
    except OSError as failure:
        note(f"claude-loop: {program}: {failure.strerror}")
        sys.exit(NOT_EXECUTABLE)
