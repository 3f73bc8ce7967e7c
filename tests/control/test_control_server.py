"""The control server over a real socket, spoken to by a varlink client that knows nothing of ours."""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from control_daemon import Bench, Daemon, make_config, varlink

from mtad.control.idl import description
from mtad.control.operation import Access, Operation
from mtad.control.operations import OPERATIONS
from mtad.control.server import ControlServer
from mtad.control.wire import FRAME_MAX_BYTES, method_name


@pytest.fixture
def daemon(short_dir: Path) -> Iterator[Daemon]:
    with Daemon(short_dir) as running:
        yield running


def raw(path: str, octets: bytes) -> bytes:
    """Everything the daemon says to these octets, until it closes or the client's half-close is seen."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(10)
        link.connect(path)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            link.sendall(octets)
            link.shutdown(socket.SHUT_WR)
        said = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := link.recv(65536):
                said += chunk
        return said


def alive(daemon: Daemon) -> bool:
    return varlink(daemon.path, "io.mtad.Status")[0].get("error") is None


def test_introspection(daemon: Daemon) -> None:
    (info,) = varlink(daemon.path, "org.varlink.service.GetInfo")
    assert info["parameters"]["interfaces"] == ["org.varlink.service", "io.mtad"]
    ask = "org.varlink.service.GetInterfaceDescription"
    assert varlink(daemon.path, ask, {"interface": "io.mtad"}) == [{"parameters": {"description": description()}}]
    (service,) = varlink(daemon.path, ask, {"interface": "org.varlink.service"})
    assert "method GetInfo()" in service["parameters"]["description"]
    assert varlink(daemon.path, ask, {"interface": "x.y"}) == [
        {"error": "org.varlink.service.InterfaceNotFound", "parameters": {"interface": "x.y"}}
    ]
    assert varlink(daemon.path, ask) == [
        {"error": "org.varlink.service.InvalidParameter", "parameters": {"parameter": "interface"}}
    ]


@pytest.mark.parametrize(
    ("method", "error"),
    [
        ("io.mtad.Nonsense", "MethodNotFound"),
        ("io.mtad.queue.list", "InterfaceNotFound"),
        ("org.varlink.service.Nonsense", "MethodNotFound"),
        ("com.example.Ping", "InterfaceNotFound"),
        ("Ping", "InterfaceNotFound"),
    ],
)
def test_unknown_method_is_answered(daemon: Daemon, method: str, error: str) -> None:
    assert varlink(daemon.path, method)[0]["error"] == f"org.varlink.service.{error}"


def test_usage(daemon: Daemon) -> None:
    (reply,) = varlink(daemon.path, "io.mtad.QueueHold", more=True)
    assert reply["error"] == "io.mtad.Usage"
    assert reply["parameters"]["code"] == 64
    (reply,) = varlink(daemon.path, "io.mtad.QueueList", {"older": "soon"}, more=True)
    assert reply["parameters"]["parameter"] == "older"
    assert alive(daemon)


@pytest.mark.parametrize(
    "octets",
    [
        b"\0",
        b"GET / HTTP/1.1\r\n\r\n\0",
        b"[" * 100_000 + b"\0",
        b'{"method":',
        b"\xff\xfe\0",
        b'{"method": 1}\0',
        b'{"method": "io.mtad.Status", "parameters": []}\0',
        b"x" * (FRAME_MAX_BYTES + 10),
        b'{"a":"' + b"x" * (2 * FRAME_MAX_BYTES) + b'"}\0',
    ],
    ids=lambda octets: repr(octets[:20]),
)
def test_garbage_gets_an_error_and_ends(daemon: Daemon, octets: bytes) -> None:
    said = raw(daemon.path, octets)
    for frame in said.split(b"\0")[:-1]:
        assert json.loads(frame)["error"] == "io.mtad.Usage"
    # An unfinished frame before the end of the connection gets nothing; what is wrong for sure gets one error.
    assert said.count(b"\0") == (0 if octets == b'{"method":' else 1)
    assert alive(daemon)


def test_several_requests_in_one_write(daemon: Daemon) -> None:
    one = json.dumps({"method": "io.mtad.QueueStats"}).encode() + b"\0"
    replies = raw(daemon.path, one * 3 + b"nonsense\0" + one).split(b"\0")[:-1]
    assert ["error" in json.loads(reply) for reply in replies] == [False, False, False, True]


def test_rows_stream(daemon: Daemon) -> None:
    ids = [daemon.accept(f"u{n}@b.test") for n in range(1203)]
    replies = varlink(daemon.path, "io.mtad.QueueList", {}, more=True)
    assert [reply["parameters"]["queue_id"] for reply in replies] == ids
    assert [reply.get("continues", False) for reply in replies] == [True] * 1202 + [False]
    (refused,) = varlink(daemon.path, "io.mtad.QueueList")
    assert refused == {"error": "org.varlink.service.ExpectedMore", "parameters": {}}


def test_no_rows(daemon: Daemon) -> None:
    assert varlink(daemon.path, "io.mtad.QueueList", more=True) == [{"parameters": {}}]
    (reply,) = varlink(daemon.path, "io.mtad.QueueList", {"to": "x@y.test"}, more=True)
    assert reply["error"] == "io.mtad.NothingMatched"


def test_an_error_after_rows_is_the_end(daemon: Daemon) -> None:
    first = daemon.accept("b@b.test")
    rows, error = varlink(daemon.path, "io.mtad.QueueShow", {"ids": [first, "3kf9x2m7q0w1"]}, more=True)
    assert rows["parameters"]["queue_id"] == first
    assert rows["continues"]
    assert error["error"] == "io.mtad.NotFound"
    assert error["parameters"]["code"] == 1


def test_oneway_is_done_and_not_answered(daemon: Daemon) -> None:
    daemon.accept("b@b.test")
    hold = json.dumps({"method": "io.mtad.QueueHold", "parameters": {"all": True}, "oneway": True}).encode() + b"\0"
    stats = json.dumps({"method": "io.mtad.QueueStats"}).encode() + b"\0"
    (reply,) = raw(daemon.path, hold + stats).split(b"\0")[:-1]
    assert json.loads(reply)["parameters"]["held"] == 1


def test_a_defect_is_an_internal_error(daemon: Daemon) -> None:
    daemon.bench.app.status = None  # type: ignore[assignment]  # what no handler expects
    (reply,) = varlink(daemon.path, "io.mtad.Status")
    assert reply["error"] == "io.mtad.Internal"
    assert reply["parameters"]["code"] == 70
    assert "NoneType" not in json.dumps(reply)
    assert any("NoneType" in line for line in daemon.bench.lines)
    assert "error" not in varlink(daemon.path, "io.mtad.QueueStats")[0]


def test_a_client_that_is_gone_at_once_is_no_defect(daemon: Daemon) -> None:
    async def come_and_go() -> None:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"{daemon.path}.other")
            listening.listen()
            reader, writer = await asyncio.open_unix_connection(listening.getsockname())
            writer.close()
            await writer.wait_closed()
            daemon.server._connected(reader, writer)
            for task in tuple(daemon.server._tasks):
                await task

    daemon.do(come_and_go())
    assert not any("internal" in line for line in daemon.bench.lines)
    assert alive(daemon)


def test_a_store_that_fails_is_busy(daemon: Daemon) -> None:
    daemon.do(daemon.bench.store.close())
    (reply,) = varlink(daemon.path, "io.mtad.QueueStats")
    assert reply["error"] == "io.mtad.Busy"
    assert reply["parameters"]["code"] == 75


def test_the_socket_file(daemon: Daemon) -> None:
    assert stat.S_IMODE(os.stat(daemon.path).st_mode) == 0o666


def test_stop_removes_the_socket_and_a_dead_one_is_replaced(short_dir: Path) -> None:
    with Daemon(short_dir) as daemon:
        path = daemon.path
    assert not os.path.exists(path)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with Daemon(short_dir) as daemon:
        assert alive(daemon)
    with open(path, "w"):
        pass

    async def start() -> None:
        bench = Bench(make_config(short_dir))
        try:
            await ControlServer(bench.admin, path, "").start()
        finally:
            await bench.close()

    with pytest.raises(OSError):  # a file that is no socket is not ours to remove
        asyncio.run(start())
    assert os.path.isfile(path)


def test_stop_does_not_wait_for_who_asks_nothing(short_dir: Path) -> None:
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(10)
        with Daemon(short_dir) as daemon:
            link.connect(daemon.path)
            while not daemon.server._connections:
                daemon.do(asyncio.sleep(0))
            daemon.do(daemon.server.stop(grace_s=3600))
        assert link.recv(10) == b""


def test_idle_ends(short_dir: Path) -> None:
    with Daemon(short_dir, idle_s=0.05) as daemon, socket.socket(socket.AF_UNIX) as link:
        link.settimeout(10)
        link.connect(daemon.path)
        link.sendall(b'{"method":')
        assert link.recv(10) == b""
        assert alive(daemon)


def test_a_reader_that_reads_nothing_is_dropped(short_dir: Path) -> None:
    with Daemon(short_dir, idle_s=0.2) as daemon, socket.socket(socket.AF_UNIX) as link:
        for n in range(1500):
            daemon.accept(f"u{n}@b.test")
        link.settimeout(10)
        link.connect(daemon.path)
        ask = json.dumps({"method": "io.mtad.QueueList", "more": True}).encode() + b"\0"
        with contextlib.suppress(ConnectionError):
            link.sendall(ask * 20)
        while daemon.server._tasks:
            daemon.do(asyncio.sleep(0.01))
        assert alive(daemon)


NOBODY = 65534
as_nobody = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv to become another user"
)

CLIENT = """
import json, socket, sys
path, method, parameters = sys.argv[1:]
link = socket.socket(socket.AF_UNIX)
link.connect(path)
link.sendall(json.dumps({"method": method, "parameters": json.loads(parameters), "more": True}).encode() + b"\\0")
said = b""
while not said.endswith(b"\\0") or json.loads(said.split(b"\\0")[-2]).get("continues"):
    said += link.recv(65536)
print("[" + ",".join(frame.decode() for frame in said.split(b"\\0")[:-1]) + "]")
"""


def call_as(*who: str, path: str, method: str, parameters: object = None) -> list[dict[str, object]]:
    command = ["setpriv", *who, sys.executable, "-I", "-S", "-c", CLIENT, path, method, json.dumps(parameters or {})]
    done = subprocess.run(command, capture_output=True, timeout=30, check=True)
    replies: list[dict[str, object]] = json.loads(done.stdout)
    return replies


@as_nobody
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_nobody_is_refused(daemon: Daemon, operation: Operation) -> None:
    daemon.root.chmod(0o755)
    daemon.accept("b@b.test", uid=0)
    who = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    (reply,) = call_as(*who, path=daemon.path, method=method_name(operation.name))
    if operation.access is Access.ANYONE:
        assert reply.get("error", "") in ("", "io.mtad.Usage")  # which message `queue wait` means
    else:
        assert reply["error"] == "io.mtad.Denied"
        assert reply["parameters"]["code"] == 77  # type: ignore[index]


@as_nobody
def test_mailq_shows_ones_own_mail(daemon: Daemon) -> None:
    daemon.root.chmod(0o755)
    daemon.accept("b@b.test", uid=0)
    own = daemon.accept("c@b.test", uid=NOBODY)
    daemon.accept("d@b.test")
    who = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    (reply,) = call_as(*who, path=daemon.path, method="io.mtad.QueueMailq")
    assert reply["parameters"]["queue_id"] == own  # type: ignore[index]
    assert len(varlink(daemon.path, "io.mtad.QueueMailq", more=True)) == 3


@as_nobody
@pytest.mark.parametrize("membership", ["--regid=64999", "--groups=64998,64999"])
def test_members_of_the_admin_group_are_admins(daemon: Daemon, membership: str) -> None:
    daemon.root.chmod(0o755)
    daemon.server._admin_gid = 64999
    rest = "--clear-groups" if "regid" in membership else f"--regid={NOBODY}"
    who = (f"--reuid={NOBODY}", membership, rest)
    (reply,) = call_as(*who, path=daemon.path, method="io.mtad.QueueHold", parameters={"all": True})
    assert reply == {"parameters": {"changed": 0}}
    assert any(f"({NOBODY})" in line for line in daemon.bench.lines)


@as_nobody
def test_one_user_cannot_take_all_connections(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtad.control.server.CONNECTIONS_PER_UID", 3)
    daemon.root.chmod(0o755)
    code = """
import socket, sys
links = []
for _ in range(4):
    link = socket.socket(socket.AF_UNIX)
    link.settimeout(10)
    link.connect(sys.argv[1])
    links.append(link)
print(links[3].recv(1000).decode())
"""
    who = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    command = ["setpriv", *who, sys.executable, "-I", "-S", "-c", code, daemon.path]
    done = subprocess.run(command, capture_output=True, timeout=30, check=True)
    assert b"io.mtad.Busy" in done.stdout
    assert alive(daemon)


def test_what_is_followed_comes_at_once_and_ends_with_the_daemon(short_dir: Path) -> None:
    asked = {"method": "io.mtad.Log", "parameters": {"follow": True, "kind": ["warning"]}, "more": True}
    with Daemon(short_dir) as daemon:
        warned = daemon.bench.admin.events.warned
        warned("of the past")
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(30)
            link.connect(daemon.path)
            link.sendall(json.dumps(asked).encode() + b"\0")
            first = json.loads(link.recv(65536).rstrip(b"\0"))
            assert (first["parameters"]["text"], first["continues"]) == ("warning: of the past", True)
            daemon.loop.call_soon_threadsafe(warned, "of now")
            assert json.loads(link.recv(65536).rstrip(b"\0"))["parameters"]["text"] == "warning: of now"
            daemon.loop.call_soon_threadsafe(daemon._stopping.set)
            assert link.recv(65536) == b""


def test_what_is_followed_needs_more(daemon: Daemon) -> None:
    assert varlink(daemon.path, "io.mtad.Log") == [{"error": "org.varlink.service.ExpectedMore", "parameters": {}}]
