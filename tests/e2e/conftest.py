"""What several end-to-end tests use: a browser, and daemons that start quickly."""

from collections.abc import Iterator

import pytest
import pytest_asyncio

from tests.e2e.daemon import Daemon
from tests.e2e.monitor import browser_context, launched, new_page
from tests.nursery import Nurse


@pytest.fixture(scope="session", autouse=True)
def nurse() -> Iterator[None]:
    """Hundreds of daemons are started here, and most of a start is imports; tests/e2e/test_server_process.py has it whole."""
    with Nurse() as Daemon.nurse:
        yield
    Daemon.nurse = None


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser():
    """One browser for all tests that run on the session's event loop; each takes a context of its own from it."""
    async with launched() as one:
        yield one


@pytest.fixture
async def page():
    """A page in a browser of its own that notes whatever the browser complains about."""
    async with launched() as browser, browser_context(browser) as context:
        yield await new_page(context)
