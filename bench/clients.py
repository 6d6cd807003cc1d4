"""What a client costs that only listens: memory of the daemon for each of a thousand Socket.IO clients.

    python bench/clients.py [--clients 1000]

Method. A daemon of its own; bare websockets that subscribe to everything and answer pings, in another process. The
resident set of the daemon is read before the first has connected, and 10 s after the last has; then the same again with
as many more, so that what is allocated once for the first clients shows. Nothing is published.
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise

from fanout import Child
from serving import machine, row, serving

SETTLE_SECONDS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=1000)
    count = parser.parse_args().clients
    print(f"clients: {machine()}\n")
    with serving() as served:
        time.sleep(SETTLE_SECONDS / 2)
        resident = [served.rss_mb()]
        groups = []
        for _ in range(2):
            groups.append(Child("clients", port=served.port, count=count, mode="subscribe"))
            time.sleep(SETTLE_SECONDS)
            resident.append(served.rss_mb())
        before = served.cpu_seconds()
        time.sleep(SETTLE_SECONDS)
        share = (served.cpu_seconds() - before) / SETTLE_SECONDS
        for group in groups:
            group.stop()
    first, second = ((after - start) * 1024 / count for start, after in pairwise(resident))
    row("memory before the first client", f"{resident[0]:.0f} MB")
    row(f"an idle client, of the first {count:,}", f"{first:.0f} KB", "≤ 60 KB", reached=first <= 60)
    row(f"  of the second {count:,}", f"{second:.0f} KB", "≤ 60 KB", reached=second <= 60)
    row(f"processor time with {2 * count:,} idle clients", f"{share:.1%}")


if __name__ == "__main__":
    main()
