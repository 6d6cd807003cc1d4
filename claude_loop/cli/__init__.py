"""The command line. Each command's module is imported when the command runs, so that ``--help`` is quick."""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from claude_loop.cli.terminal import note, printable, write_anything
from claude_loop.errors import AlreadyRunning, ClaudeLoopError, DaemonUnreachable, InputError, RefusedError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

FAILED, USAGE, UNREACHABLE, REFUSED, INTERRUPTED = 1, 2, 3, 4, 130
REFUSALS = frozenset({"unauthorized", "forbidden", "host_refused", "origin_refused", "foreign_file"})

# name -> (where, one line for --help)
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("demo:demo", "Work through a small PRD for real, shown live."),
    "run": ("run:run", "Run any loop, unedited, and show it live."),
    "hooks": ("hooks:hooks", "Have a coding agent report what it does, by its hooks."),
    "open": ("open:open_", "Open the monitor in the browser."),
    "tail": ("tail:tail", "Show events as they happen."),
    "prds": ("prds:prds", "List PRDs and agents: what waits, what is stuck, what runs."),
    "show": ("prds:show", "Show one PRD with its stories."),
    "report": ("report:report", "Say what happened: overnight, or since a time."),
    "notify": ("notify:notify", "Test notifications, or show what was sent."),
    "export": ("export:export", "Write stored events, or a PRD's replay, to a file."),
    "archive": ("keeping:archive", "Put a PRD away."),
    "forget": ("keeping:forget", "Forget what a PRD's events said."),
    "emit": ("emit:emit", "Emit one event."),
    "up": ("daemon:up", "Start the daemon in the background."),
    "down": ("daemon:down", "Stop the daemon."),
    "status": ("daemon:status", "Show the daemon's state."),
    "serve": ("serve:serve", "Run the daemon in the foreground."),
    "doctor": ("doctor:doctor", "Say what does not work here, and how to mend it."),
    "completion": ("completion:completion", "Print what completes commands in your shell."),
    "service": ("service:service", "Run the daemon as a service of yours, under systemd."),
    "token": ("token:token", "Make, list and revoke tokens for other machines and programs."),
    "lock": ("lock:lock", "Run a command while holding a named lock."),
    "locks": ("lock:locks", "List or clean up locks."),
    "rebuild": ("rebuild:rebuild", "Make the read model anew from the log."),
    "backup": ("backup:backup", "Write the event log to a file, also while the daemon runs."),
    "restore": ("backup:restore", "Put such a file in the place of the event log."),
    "install": ("install:install", "Link the commands of this clone into ~/.local/bin."),
    "uninstall": ("install:uninstall", "Remove those links."),
}


# What other tools call it.
ELSEWHERE = {
    "help": ("--help",),
    "version": ("--version",),
    "start": ("up", "run"),
    "stop": ("down",),
    "restart": ("down", "up"),
    "logs": ("tail",),
    "log": ("tail",),
    "watch": ("tail", "open"),
    "list": ("prds",),
    "ls": ("prds",),
    "ps": ("prds",),
    "web": ("open",),
    "ui": ("open",),
    "dashboard": ("open",),
    "monitor": ("open",),
    "search": ("export", "open"),
    "delete": ("forget",),
    "rm": ("forget", "archive"),
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and loads the one that is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(f"claude_loop.cli.{module}"), attribute)
        gc.enable()
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """click's own knows no names to suggest: it looks where commands stand that are loaded already."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as failure:
            from difflib import get_close_matches

            near = ELSEWHERE.get(args[0]) or get_close_matches(args[0], COMMANDS, n=2, cutoff=0.75)
            if args[0].startswith("-") or not near:
                raise
            raise click.UsageError(f"{failure.message} Did you mean {' or '.join(near)}?", ctx) from None

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """click's own loads every command that fits, to see whether it is hidden: too slow for a key press."""
        from click.shell_completion import CompletionItem

        names = [CompletionItem(name, help=COMMANDS[name][1]) for name in COMMANDS if name.startswith(incomplete)]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Ends the process where click would print a traceback, or give a status of its own."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except click.Abort:  # Ctrl-C at a question, whose line is not ended
            click.echo(err=True)
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            # Whoever read our output has gone. Python would complain once more when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        except ClaudeLoopError as failure:
            note(f"claude-loop: {printable(failure.message, 1000)}")
            if failure.hint:
                note(f"  {printable(failure.hint, 1000)}")
            sys.exit(exit_status(failure))
        except OSError as failure:
            where = f"{failure.filename}: " if failure.filename else ""
            note(f"claude-loop: {printable(f'{where}{failure.strerror or failure}', 1000)}")
            sys.exit(FAILED)


def _show_version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - click's way
    if wanted and not ctx.resilient_parsing:
        from claude_loop.build import full_version

        click.echo(f"claude-loop, version {full_version()}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show it.")
def cli() -> None:
    """Shows, live and truthfully, what coding agents left working alone are doing.

    Any loop, unedited: claude-loop run -- ./ralph.sh 20. The agents in it: claude-loop hooks install.

    Exit status: 0 done, 1 the thing watched or run failed, 2 usage, 3 daemon unreachable, 4 refused.
    """


def exit_status(error: ClaudeLoopError) -> int:
    """The documented exit status of a deliberate error, ours or (by its code) the daemon's."""
    if isinstance(error, DaemonUnreachable):
        return UNREACHABLE
    if isinstance(error, RefusedError | AlreadyRunning) or error.code in REFUSALS:
        return REFUSED
    if isinstance(error, InputError) and error.status < 500:
        return USAGE
    from claude_loop.client import ServerError

    # What the daemon answers has no class of ours. That it is busy (429) is nobody's mistake.
    return USAGE if isinstance(error, ServerError) and 400 <= error.status < 429 else FAILED


def main() -> None:
    """Entry point of ``claude-loop``."""
    # The interpreter ends with three looks for garbage among everything it has loaded.
    atexit.register(gc.freeze)
    write_anything(sys.stdout, sys.stderr)
    cli.main(prog_name="claude-loop")
