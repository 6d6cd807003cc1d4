"""Keys of the read model's documents.

Components are percent-encoded, so that a ``/`` in an id ends nothing and a prefix means one PRD or one run only.
No project is ``*``, which an encoded project (``%2A``) can never be.
"""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import quote

PROJECTS = "project/"
PRDS = "prd/"
RUNS = "run/"
STORIES = "story/"
SESSIONS = "session/"
AGENTS = "agent/"  # sessions without a PRD
KEPT = "kept/"  # which sessions of a PRD there are, or of a project where they have none; nobody is shown these
_NO_PROJECT = "*"
# The writer builds the same few keys for every event; what is forgotten is only built again.
_REMEMBERED = 4096


def _component(text: str) -> str:
    # Lone surrogates cannot come from JSON that we accept, but a key must not be what fails on them.
    return quote(text, safe="", errors="surrogatepass")


def _prd_path(project: str | None, prd_id: str) -> str:
    return f"{_NO_PROJECT if project is None else _component(project)}/{_component(prd_id)}"


@lru_cache(_REMEMBERED)
def project_key(project: str) -> str:
    return PROJECTS + _component(project)


@lru_cache(_REMEMBERED)
def prd_key(project: str | None, prd_id: str) -> str:
    return PRDS + _prd_path(project, prd_id)


@lru_cache(_REMEMBERED)
def run_key(project: str | None, prd_id: str, run_id: str) -> str:
    return f"{RUNS}{_prd_path(project, prd_id)}/{_component(run_id)}"


@lru_cache(_REMEMBERED)
def story_key(project: str | None, prd_id: str, run_id: str, story_id: str) -> str:
    return f"{STORIES}{_prd_path(project, prd_id)}/{_component(run_id)}/{_component(story_id)}"


@lru_cache(_REMEMBERED)
def session_key(project: str | None, prd_id: str | None, session_id: str) -> str:
    if prd_id is None:
        return f"{AGENTS}{_NO_PROJECT if project is None else _component(project)}/{_component(session_id)}"
    return f"{SESSIONS}{_prd_path(project, prd_id)}/{_component(session_id)}"


@lru_cache(_REMEMBERED)
def kept_key(project: str | None, prd_id: str | None) -> str:
    if prd_id is None:
        return f"{KEPT}{_NO_PROJECT if project is None else _component(project)}"
    return f"{KEPT}{_prd_path(project, prd_id)}/"


@lru_cache(_REMEMBERED)
def used_key(project: str | None, prd_id: str) -> str:
    """What the sessions of a PRD have reported of their use; kept as `kept_key` is."""
    return f"{kept_key(project, prd_id)}usage"


def prd_prefixes(project: str | None, prd_id: str) -> tuple[str, str, str, str, str]:
    """Of everything that belongs to one PRD: its own key, its runs, their stories, its sessions and what is kept."""
    path = _prd_path(project, prd_id)
    return f"{PRDS}{path}", f"{RUNS}{path}/", f"{STORIES}{path}/", f"{SESSIONS}{path}/", f"{KEPT}{path}/"


def sessions_prefix(project: str | None, prd_id: str) -> str:
    """Of all sessions of one PRD."""
    return f"{SESSIONS}{_prd_path(project, prd_id)}/"


def runs_prefix(project: str | None, prd_id: str) -> str:
    """Of all runs of one PRD."""
    return f"{RUNS}{_prd_path(project, prd_id)}/"


def stories_prefix(project: str | None, prd_id: str, run_id: str) -> str:
    """Of all stories of one run."""
    return f"{STORIES}{_prd_path(project, prd_id)}/{_component(run_id)}/"
