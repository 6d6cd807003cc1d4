"""What several end-to-end tests use: a browser."""

import pytest

from tests.e2e.monitor import browser_context, new_page


@pytest.fixture
async def page():
    """A page in a profile of its own that notes whatever the browser complains about."""
    async with browser_context() as context:
        yield await new_page(context)
