"""Summaries of `go test` and `cargo test`: both report piece by piece, and the pieces of one run add up."""

from __future__ import annotations

import re

from claude_loop.formats.test_counts import Counts, Found

_GO_PACKAGE = re.compile(
    r"^(?:ok[ \t]{2,}(?P<ok>\S+)[ \t]+(?:(?P<seconds>\d{1,9}\.\d{1,4})s|\(cached\))"
    r"|FAIL[ \t]+(?P<failed>\S+)[ \t]+(?:(?P<after>\d{1,9}\.\d{1,4})s|\[(?P<why>[a-z ]{1,30})\]))(?P<rest>.*)$"
)
_GO_TEST = re.compile(r"^( *)--- (PASS|FAIL|SKIP): (\S+) \(\d{1,9}\.\d{1,4}s\)$")

_CARGO_RESULT = re.compile(
    r"^test result: (?:ok|FAILED)\. (\d{1,9}) passed; (\d{1,9}) failed; (\d{1,9}) ignored; \d{1,9} measured; "
    r"\d{1,9} filtered out(?:; finished in (\d{1,9}\.\d{1,4})s)?$"
)
_CARGO_BUILT = re.compile(r"^ *Finished [`\w].{0,80} in [\d.ms ]{2,20}$")
_CARGO_BINARY = re.compile(r"^ +(?:Running|Doc-tests) (\S.{0,400})$")
_CARGO_FAILED = re.compile(r"^test (\S.{0,400}?) \.\.\. FAILED(?: <[\d.]+s>)?$")
_CARGO_STDOUT = re.compile(r"^---- (\S.{0,400}?) (?:stdout|stderr) ----$")
_CARGO_PANIC = re.compile(r"^thread '.{1,400}?'(?: \(\d+\))? panicked at ")


def find_go(lines: list[str]) -> Found | None:
    """Without -v a package says only that it passed: then packages are counted where tests have no count."""
    found: Found | None = None
    packages: set[str] = set()
    tests: dict[str, str] = {}
    messages: dict[str, str] = {}
    last_failed = ""
    for at, line in enumerate(lines):
        if "--- " in line and (test := _GO_TEST.match(line)):
            tests[test[3]] = test[2]
            last_failed = test[3] if test[2] == "FAIL" else ""
            continue
        package = _GO_PACKAGE.match(line) if line.startswith(("ok", "FAIL")) else None
        if package is None:
            if last_failed and line.startswith("    ") and line.strip():
                messages.setdefault(last_failed, line)
            elif not line.startswith(" "):
                last_failed = ""
            continue
        name = package["ok"] or package["failed"]
        if found is None or name in packages:
            packages.clear()
            found = Found(at, Counts("go test", duration_ms=0))
        packages.add(name)
        found = Found(at, found.counts)
        _go_package(found.counts, package, tests, messages)
        tests, messages, last_failed = {}, {}, ""
    return found


def _go_package(counts: Counts, package: re.Match[str], tests: dict[str, str], messages: dict[str, str]) -> None:
    counts.duration_ms = (counts.duration_ms or 0) + round(float(package["seconds"] or package["after"] or 0) * 1000)
    parents = {name.rpartition("/")[0] for name in tests}
    leaves = {name: verdict for name, verdict in tests.items() if name not in parents}
    verdicts = list(leaves.values())
    counts.passed += verdicts.count("PASS")
    counts.skipped += verdicts.count("SKIP")
    counts.failed += verdicts.count("FAIL")
    for name, verdict in leaves.items():
        if verdict == "FAIL":
            counts.fail(name, messages.get(name, ""))
    if package["ok"] and not tests and "[no tests to run]" not in package["rest"]:
        counts.passed += 1
    if package["failed"] and "FAIL" not in verdicts:
        counts.failed += 1
        counts.fail(package["failed"], package["why"] or "")


def find_cargo(lines: list[str]) -> Found | None:
    run = _CargoRun()
    for at, line in enumerate(lines):
        run.read(at, line)
    return run.found


class _CargoRun:
    """Reads on, one line at a time: names and messages of a binary stand before its result."""

    def __init__(self) -> None:
        self.found: Found | None = None
        self._over = True
        self._binaries: set[str] = set()
        self._forget()

    def _forget(self) -> None:
        self._names: list[str] = []
        self._messages: dict[str, str] = {}
        self._speaking = ""
        self._panicked = False

    def read(self, at: int, line: str) -> None:
        if result := _CARGO_RESULT.match(line):
            self._end_binary(at, result)
        elif line.startswith(("test ", "---- ", "thread ")) or self._panicked:
            self._read_failure(line)
        else:
            self._read_heading(line)

    def _read_failure(self, line: str) -> None:
        if self._panicked and line.strip():
            self._messages.setdefault(self._speaking, line)
            self._panicked = False
        elif failed := _CARGO_FAILED.match(line):
            self._names.append(failed[1])
        elif stdout := _CARGO_STDOUT.match(line):
            self._speaking = stdout[1]
        elif self._speaking and _CARGO_PANIC.match(line):
            self._panicked = True

    def _read_heading(self, line: str) -> None:
        """Without "Finished" (-q, a cut-off beginning) a binary's second turn begins another run."""
        binary = _CARGO_BINARY.match(line)
        if _CARGO_BUILT.match(line) or (binary and binary[0] in self._binaries):
            self._over = True
            self._binaries.clear()
        if binary:
            self._binaries.add(binary[0])

    def _end_binary(self, at: int, result: re.Match[str]) -> None:
        if self._over or self.found is None:
            self.found, self._over = Found(at, Counts("cargo test", duration_ms=0)), False
        self.found = Found(at, self.found.counts)
        _cargo_binary(self.found.counts, result, self._names, self._messages)
        self._forget()


def _cargo_binary(counts: Counts, result: re.Match[str], names: list[str], messages: dict[str, str]) -> None:
    counts.passed += int(result[1])
    counts.failed += int(result[2])
    counts.skipped += int(result[3])
    counts.duration_ms = (counts.duration_ms or 0) + round(float(result[4] or 0) * 1000)
    for name in dict.fromkeys([*names, *messages]):
        counts.fail(name, messages.get(name, ""))
