#!/usr/bin/env python3
"""Prints events as a Socket.IO client gets them, with python-socketio alone: pip install "python-socketio[client]".

usage: websocket_client.py [--url http://127.0.0.1:18790] [--prd PRD-001]... [--history N]

Without --prd it sees everything that happens from now on; with it, those PRDs, after their last N events.
"""

import argparse

import socketio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:18790")
    parser.add_argument("--prd", action="append", default=[])
    parser.add_argument("--history", type=int, default=10)
    arguments = parser.parse_args()

    client = socketio.Client()

    @client.event
    def connected(greeting: dict) -> None:
        print(f"connected to claude-loop {greeting['version']}, {greeting['head']} events so far", flush=True)
        for prd in arguments.prd:
            client.emit("subscribe_prd", {"prd_id": prd, "history": arguments.history})

    @client.event
    def event(message: dict) -> None:
        where = message.get("story_id") or message.get("prd_id") or "-"
        print(f"{message['timestamp']} {message['type']:<18} {where:<12} {message['data']}", flush=True)

    @client.event
    def error(problem: dict) -> None:
        print(f"error {problem['code']}: {problem['message']} {problem['hint']}", flush=True)

    client.connect(arguments.url)
    try:
        client.wait()
    except KeyboardInterrupt:
        client.disconnect()


if __name__ == "__main__":
    main()
