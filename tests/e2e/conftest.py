"""What several end-to-end tests use: a browser."""

import pytest
import pytest_asyncio

from tests.e2e.monitor import browser_context, launched, new_page


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
