"""The service manager's protocols, over real sockets and, for what is passed at exec, real child processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_loop.errors import ActivationFailed
from claude_loop.supervision import TaskOwner
from claude_loop.systemd_protocol import ServiceManager, passed_sockets
from tests.support import PATIENCE, ROOT, free_port, until

# Prints what it was passed, serves one connection, and shows that its own children get nothing of it.
CHILD = """
import json, os, subprocess, sys
from claude_loop.systemd_protocol import ServiceManager, passed_sockets
passed = passed_sockets()
manager = ServiceManager.from_environment()
child = "import json, os; print(json.dumps([sorted(k for k in os.environ if k.startswith(('LISTEN_', 'NOTIFY_', 'WATCHDOG_'))), os.path.exists('/proc/self/fd/3')]))"
below = json.loads(subprocess.run([sys.executable, "-c", child], capture_output=True, check=True, close_fds=False).stdout)
print(json.dumps({
    "names": [p.name for p in passed], "addresses": [p.socket.getsockname()[:2] for p in passed], "below": below,
    "watchdog": manager.watchdog_seconds,
}), flush=True)
manager.ready("serving")
if passed:
    connection, _ = passed[0].socket.accept()
    connection.sendall(connection.recv(100).upper())
"""


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """The service manager's end of NOTIFY_SOCKET, and the address as it appears in the environment."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end, contextlib.chdir(tmp_path):
        if request.param == "path":
            address = str(tmp_path / "notify")
            end.bind("notify")  # relative: pytest's directories may be longer than an address may be
        else:
            if sys.platform != "linux":
                pytest.skip("abstract addresses are Linux's own")
            address = f"@claude-loop-test-{os.getpid()}"
            end.bind("\0" + address[1:])
        end.settimeout(PATIENCE)
        yield end, address if request.param == "abstract" else "notify"


def child(
    environment: dict[str, str], *, passed: socket.socket | None = None, pid: str = "$$"
) -> subprocess.Popen[str]:
    """Runs CHILD as systemd would: the descriptor is 3, LISTEN_PID is the process's own."""
    # The shell stands in for the manager: only the process itself knows its pid before exec.
    script = f'export LISTEN_PID={pid}; exec "$0" -c "$1"'
    if passed is not None:
        script = f"exec 3<&{passed.fileno()}; {script}"
    return subprocess.Popen(
        ["bash", "-c", script, sys.executable, CHILD],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        pass_fds=[passed.fileno()] if passed is not None else [],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_what_a_daemon_says_arrives_as_written(manager):
    end, address = manager
    daemon = ServiceManager.from_environment({"NOTIFY_SOCKET": address})
    assert daemon.extend_start(1.5)
    assert daemon.ready("listening on http://127.0.0.1:18790\n  0 clients")
    assert daemon.status("draining")
    assert daemon.alive()
    assert daemon.stopping()
    assert [end.recv(4096).decode() for _ in range(5)] == [
        "EXTEND_TIMEOUT_USEC=1500000",
        "READY=1\nSTATUS=listening on http://127.0.0.1:18790 0 clients",
        "STATUS=draining",
        "WATCHDOG=1",
        "STOPPING=1",
    ]


def test_without_a_manager_nothing_is_said():
    daemon = ServiceManager.from_environment({})
    assert daemon.watchdog_seconds is None
    assert not daemon.ready("listening")


def test_a_manager_that_is_gone_does_not_stop_the_daemon(tmp_path):
    assert not ServiceManager(str(tmp_path / "nobody")).ready("listening")


def test_a_manager_that_does_not_read_does_not_stop_the_daemon(manager):
    _, address = manager
    daemon = ServiceManager(address)
    assert not all(daemon.alive() for _ in range(100_000))


def test_the_variables_are_taken_out_of_the_environment():
    environ = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid()), "HOME": "/h"}
    assert ServiceManager.from_environment(environ).watchdog_seconds == 3.0
    assert environ == {"HOME": "/h"}


@pytest.mark.parametrize(
    "environ",
    [
        {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid() + 1)},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_PID": str(os.getpid())},
    ],
)
def test_a_watchdog_meant_for_another_process_or_for_none_is_not_fed(environ):
    assert ServiceManager.from_environment(environ).watchdog_seconds is None


async def test_the_watchdog_is_fed_twice_in_its_time_until_the_daemon_ends(manager):
    end, address = manager
    end.setblocking(False)
    loop = asyncio.get_running_loop()
    owner = TaskOwner("test")
    owner.spawn(ServiceManager(address, watchdog_seconds=0.2).keep_alive(), "watchdog")
    begun = loop.time()
    for _ in range(5):  # at 0.0, 0.1, 0.2, 0.3 and 0.4 s
        async with asyncio.timeout(PATIENCE):
            assert await loop.sock_recv(end, 100) == b"WATCHDOG=1"
    assert loop.time() - begun >= 0.39
    await owner.close()
    with pytest.raises(BlockingIOError):
        end.recv(100)


async def test_without_a_watchdog_the_task_ends_by_itself(manager):
    _, address = manager
    await ServiceManager(address).keep_alive()


def test_a_passed_socket_is_served_and_nothing_of_it_reaches_children(manager):
    end, address = manager
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        environment = {
            "LISTEN_FDS": "1",
            "LISTEN_FDNAMES": "http",
            "NOTIFY_SOCKET": address,
            "WATCHDOG_USEC": "60000000",
        }
        with (
            child(environment, passed=listener) as process,
            socket.create_connection(("127.0.0.1", port), 10) as client,
        ):
            client.sendall(b"hello")
            assert client.recv(100) == b"HELLO"
            assert json.loads(process.communicate(timeout=PATIENCE)[0]) == {
                "names": ["http"],
                "addresses": [["127.0.0.1", port]],
                "below": [[], False],
                "watchdog": 60.0,
            }
            assert process.returncode == 0
    assert end.recv(4096) == b"READY=1\nSTATUS=serving"


def test_sockets_meant_for_another_process_are_left_alone():
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        child({"LISTEN_FDS": "1"}, passed=listener, pid="1") as process,
    ):
        answer = json.loads(process.communicate(timeout=PATIENCE)[0])
    assert answer["names"] == []
    assert answer["below"][0] == []


def test_a_count_that_is_no_number_is_refused():
    with pytest.raises(ActivationFailed, match="LISTEN_FDS"):
        passed_sockets({"LISTEN_FDS": "many", "LISTEN_PID": str(os.getpid())})


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("file", "is no socket"),
        ("closed", "is no socket"),
        ("datagram", "no listening stream"),
        ("idle", "no listening"),
    ],
)
def test_descriptors_that_cannot_be_served_are_named(kind, complaint):
    program = f"""
import os, socket, sys
from claude_loop.errors import ActivationFailed
from claude_loop.systemd_protocol import passed_sockets
made = {{
    "file": lambda: os.open(os.devnull, os.O_RDONLY),
    "closed": lambda: 77,
    "datagram": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach(),
    "idle": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).detach(),
}}["{kind}"]()
os.dup2(made, 3) if "{kind}" != "closed" else os.closerange(3, 4)
try:
    passed_sockets({{"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "http"}})
except ActivationFailed as refusal:
    print(refusal.message, refusal.code)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert complaint in done.stdout
    assert "3 (http)" in done.stdout
    assert "activation_failed" in done.stdout


@pytest.mark.requires("systemd-socket-activate")
def test_systemd_s_own_activator_hands_over_its_sockets(home):
    ports = [free_port(), free_port()]
    listen = [argument for port in ports for argument in ("--listen", f"127.0.0.1:{port}")]
    activate = shutil.which("systemd-socket-activate")
    assert activate is not None
    with subprocess.Popen(
        [activate, *listen, "--fdname=http:more", f"--setenv=PYTHONPATH={ROOT}", sys.executable, "-c", CHILD],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        client = until(lambda: _connected(ports[0]), what="the activator listens")
        with client:
            client.sendall(b"hello")  # the first byte is what starts the program
            assert client.recv(100) == b"HELLO"
        answer = json.loads(process.communicate(timeout=PATIENCE)[0])
    assert answer["names"] == ["http", "more"]
    assert answer["addresses"] == [["127.0.0.1", port] for port in ports]


def _connected(port: int) -> socket.socket | None:
    try:
        return socket.create_connection(("127.0.0.1", port), 10)
    except ConnectionRefusedError:
        return None


def test_whether_systemd_waits_for_this_very_process():
    ours = {"NOTIFY_SOCKET": "/run/x", "SYSTEMD_EXEC_PID": str(os.getpid())}
    assert ServiceManager.from_environment(dict(ours)).started_us
    assert ServiceManager.from_environment(ours | {"WATCHDOG_USEC": "1000000"}).started_us
    inherited = ours | {"SYSTEMD_EXEC_PID": str(os.getppid())}
    for environ in (inherited, {"NOTIFY_SOCKET": "/run/x"}, {"SYSTEMD_EXEC_PID": str(os.getpid())}, {}):
        assert not ServiceManager.from_environment(environ).started_us
