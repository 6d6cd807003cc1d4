from collections.abc import AsyncIterator

import pytest

from tests.unit.transports.socketio_rig import Clients, Rig


@pytest.fixture
async def clients(rig: Rig) -> AsyncIterator[Clients]:
    """Of the Socket.IO server that the test's module calls ``rig``."""
    async with Clients(rig) as made:
        yield made
