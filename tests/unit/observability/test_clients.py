"""Adding up clients over transports."""

from claude_loop.observability.clients import Clients, readers_of, subscriptions_by_prd, total


class Transport:
    def __init__(self, *readers):
        self._readers = list(readers)

    def statistics(self):
        return {
            "clients": len(self._readers) + 1,
            "subscriptions": len(self._readers),
            "cut_off": 0,
            "readers": self._readers,
        }


def test_clients_are_added_up_and_readers_say_their_transport():
    clients = Clients(
        {"sse": Transport({"prds": ["A"], "lag": 1}), "socketio": Transport({"prds": ["A", "B"], "lag": 0})}
    )
    statistics = clients.statistics()
    assert total(statistics, "clients") == 4
    assert total(statistics, "subscriptions") == 2
    assert [reader["via"] for reader in readers_of(statistics)] == ["sse", "socketio"]
    assert subscriptions_by_prd(statistics) == {"A": 2, "B": 1}
