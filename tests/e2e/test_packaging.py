"""What is shipped: lock files, the sdist and the wheel, and an installation that works with nothing else around."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support import ROOT, free_port

LOCKS = ["requirements.lock", "requirements-dev.lock", "requirements-node.lock"]
PIN = re.compile(r"^([a-z0-9-]+)==([0-9][0-9a-z.]*)( ; [^\\]+)? \\$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$")

# Split, so that this file does not hold what it forbids.
ADDRESSES = [
    "pypi" + ".org",
    "python" + "hosted",
    "registry." + "npmjs",
    "registry." + "yarnpkg",
]
PAGE = Path("claude_loop/web/dist")
MOST_BYTES = 120_000
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins(lock: str) -> dict[str, tuple[str, frozenset[str]]]:
    """name -> (version, hashes)"""
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for entry in (ROOT / lock).read_text().replace("\\\n", "").splitlines():
        pinned, *hashes = entry.split("--hash=")
        name, _, version = pinned.split(";")[0].strip().partition("==")
        found[name] = (version, frozenset(each.strip() for each in hashes))
    return found


def project_files(folder: Path) -> None:
    """Copy what the project consists of, as git sees it, into ``folder``: no caches, no .venv."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    # The page as bin/test built it: its digest says that there is nothing to build. How it is built, a test of its own says.
    if (ROOT / PAGE / "built-from").is_file():
        shutil.copytree(ROOT / PAGE, folder / PAGE, dirs_exist_ok=True)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_file_holds_versions_and_hashes_and_nothing_else(lock):
    lines = (ROOT / lock).read_text().splitlines()
    strange = [line for line in lines if not PIN.match(line) and not HASH.match(line)]
    assert not strange
    assert all(hashes for _, hashes in pins(lock).values())


def test_tests_run_with_the_versions_that_users_get():
    runtime, development = pins("requirements.lock"), pins("requirements-dev.lock")
    assert {name: development.get(name) for name in runtime} == runtime


@pytest.mark.parametrize(
    ("lock", "declared"),
    [
        ("requirements.lock", PROJECT["dependencies"]),
        ("requirements-dev.lock", PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]),
    ],
)
def test_each_declared_dependency_is_pinned_within_its_bounds(lock, declared):
    pinned = pins(lock)
    for requirement in map(Requirement, declared):
        version, _ = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), requirement


@pytest.mark.parametrize("folder", ["tests/e2e/node", "web"])
def test_node_s_lock_files_hold_no_address(folder):
    lock = json.loads((ROOT / folder / "package-lock.json").read_text())
    packages = {path: entry for path, entry in lock["packages"].items() if path}
    assert packages
    assert not [path for path, entry in packages.items() if "resolved" in entry or "integrity" not in entry]


def test_no_file_names_a_registry(tmp_path):
    project_files(tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 50
    text = {path.relative_to(tmp_path): path.read_bytes().decode(errors="replace") for path in files}
    assert not [(str(path), address) for path, content in text.items() for address in ADDRESSES if address in content]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project that a build may write to."""
    folder = tmp_path_factory.mktemp("sources")
    project_files(folder)
    return folder


def environment(folder: Path, requirements: list[str]) -> Path:
    """A virtual environment with what ``requirements`` ask for, as installed here, and nothing else; its Python."""
    venv.create(folder)
    (packages,) = folder.glob("lib/python3.*/site-packages")
    for found in closure(requirements):
        for name in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            (packages / name).symlink_to(str(found.locate_file(name)))
    return folder / "bin" / "python"


def closure(requirements: list[str]) -> list[metadata.Distribution]:
    """The distributions that ``requirements`` ask for here, and those that these ask for in turn."""
    found: dict[str, metadata.Distribution] = {}
    waiting = [Requirement(each) for each in requirements]
    while waiting:
        wanted = waiting.pop()
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        assert not wanted.extras, f"{wanted}: extras are not followed here"
        name = canonicalize_name(wanted.name)
        if name not in found:
            found[name] = metadata.distribution(name)
            waiting += [Requirement(each) for each in found[name].requires or ()]
    return list(found.values())


def build(kind: str, sources: Path, into: Path, python: str | Path = sys.executable) -> Path:
    line = [python, "-m", "hatchling", "build", "--target", kind, "--directory", str(into)]
    subprocess.run(line, cwd=sources, check=True, capture_output=True, timeout=60)
    (built,) = into.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


@pytest.fixture(scope="module")
def sdist(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", sources, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one built from the clone."""
    return build("wheel", sources, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def shipped(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel built from the sdist, where there is nothing but what the build declares to need."""
    folder = tmp_path_factory.mktemp("shipped")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked")
    (unpacked,) = (folder / "unpacked").iterdir()
    needed = tomllib.loads((unpacked / "pyproject.toml").read_text())["build-system"]["requires"]
    return build("wheel", unpacked, folder / "built", environment(folder / "builder", needed))


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_has_what_an_installation_needs_and_nothing_of_the_tests(sources, wheel):
    names = contents(wheel)
    version = PROJECT["version"]
    modules = {str(path.relative_to(sources)) for path in (sources / "claude_loop").rglob("*.py")}
    assert modules <= set(names)
    assert {
        "claude_loop/py.typed",
        "claude_loop/examples/prd_loop.sh",
        "claude_loop/systemd/claude-loop.service",
        "claude_loop/web/dist/index.html",
        "claude_loop/web/dist/export.html",
        f"claude_loop-{version}.data/scripts/claude-loop-hook",
        f"claude_loop-{version}.data/scripts/emit_progress.sh",
        f"claude_loop-{version}.dist-info/licenses/LICENSE",
    } <= set(names)
    assert {name.split("/")[0] for name in names} == {
        "claude_loop",
        f"claude_loop-{version}.data",
        f"claude_loop-{version}.dist-info",
    }
    assert not [name for name in names if "__pycache__" in name or "node_modules" in name]


@pytest.mark.requires("page")
def test_all_that_a_browser_can_load_of_the_page_is_small():
    """The exported file is none of it: it holds the same code once more, and no browser gets it from the daemon."""
    page = ROOT / PAGE
    files = [page / "index.html", page.parent / "static" / "icon.svg", *(page / "assets").iterdir()]
    sizes = {path.name: len(gzip.compress(path.read_bytes())) for path in files}
    total = sum(sizes.values())
    assert 50_000 < total <= MOST_BYTES, f"{total:,} bytes with gzip, and {MOST_BYTES:,} is the limit: {sizes}"


def test_the_wheel_built_from_the_sdist_is_the_one_built_from_the_clone(wheel, shipped):
    assert contents(shipped) == contents(wheel)


class Installation:
    """``pip install`` into an environment that has the declared dependencies alone, used with a bare environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "venv" / "bin"
        self.environment = {
            "HOME": str(folder / "home"),
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "CLAUDE_LOOP_PORT": str(free_port()),
        }

    def run(self, *line: str) -> str:
        done = subprocess.run(
            line,
            env=self.environment,
            cwd=self.folder / "home",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installation(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    made = Installation(tmp_path_factory.mktemp("i"))
    (made.folder / "home").mkdir()
    python = environment(made.folder / "venv", PROJECT["dependencies"])
    # Without an index pip refuses what needs more, or other versions, than is there.
    line = [sys.executable, "-I", "-m", "pip", "--python", python, "install", "--quiet", "--no-index", shipped]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return made


# One test: where the tests of a file are shared out, each process would make its own installation.
def test_an_installed_copy_has_its_commands_on_the_path_and_shows_what_bash_emits(installation):
    assert PROJECT["version"] in installation.run("claude-loop", "--version")
    _assert_all_it_imports_is_declared(installation)
    assert os.access(installation.bin / "emit_progress.sh", os.X_OK)
    assert os.access(installation.bin / "claude-loop-hook", os.X_OK)
    installation.run("claude-loop", "install")
    assert not (installation.folder / "home" / ".local" / "bin").exists(), "there is nothing to link"
    script = """set -euo pipefail
        source emit_progress.sh
        emit_prd_started SHOP-7 1
        emit_log_message SHOP-7 US-001 info 'emitted by an installed copy'
        """
    installation.run("bash", "-c", script)
    try:
        installation.run("claude-loop", "up")
        shown = installation.run("claude-loop", "tail", "--no-follow")
    finally:
        installation.run("claude-loop", "down")
    assert "started, 1 story" in shown
    assert "emitted by an installed copy" in shown


def _assert_all_it_imports_is_declared(installation: Installation) -> None:
    everything = (
        "import importlib, pkgutil, claude_loop\n"
        "for module in pkgutil.walk_packages(claude_loop.__path__, 'claude_loop.'):\n"
        "    if not module.name.endswith('__main__') and '.examples' not in module.name:\n"
        "        importlib.import_module(module.name)\n"
    )
    installation.run(str(installation.bin / "python"), "-I", "-c", everything)
