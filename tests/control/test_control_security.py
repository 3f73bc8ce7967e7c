"""Row 40 of the security checklist: the control socket against programs of this host that mean no good."""

import contextlib
import json
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from control_daemon import Daemon, varlink
from test_control_server import NOBODY, alive, as_nobody, call_as, raw

from mtad.control.operation import Access
from mtad.control.operations import OPERATIONS
from mtad.control.wire import FRAME_MAX_BYTES, method_name


@pytest.fixture
def daemon(short_dir: Path) -> Iterator[Daemon]:
    with Daemon(short_dir) as running:
        running.root.chmod(0o755)
        yield running


def frame(method: str, **parameters: object) -> bytes:
    return json.dumps({"method": method, "parameters": parameters}).encode() + b"\0"


HOSTILE = {
    "nothing": b"",
    "deep lists": b"[" * 100_000 + b"\0",
    "deep objects": b'{"a":' * 50_000 + b"\0",
    "no end": b"x" * (FRAME_MAX_BYTES * 3),
    "no JSON": b"\xff\xfe\0" * 100,
    "half": b'{"method": "io.mtad.QueueList"',
    "an old name": frame("mtad.queue.list"),
    "huge number": b'{"method": "io.mtad.QueueList", "parameters": {"limit": ' + b"9" * 5000 + b"}}\0",
    "huge id": frame("io.mtad.QueueShow", ids=["z" * 100_000]),
    "a way out": frame("io.mtad.QueueShow", ids=["../../etc/passwd"]),
    "NUL": frame("io.mtad.QueueShow", ids=["a\0b"]),
    "surrogate": b'{"method": "io.mtad.QueueShow", "parameters": {"ids": ["\\ud800"]}}\0',
    "not a number": b'{"method": "io.mtad.QueueList", "parameters": {"limit": NaN}}\0',
    "many": frame("io.mtad.Status") * 2000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_row_40_hostile_frames(daemon: Daemon, name: str) -> None:
    said = raw(daemon.path, HOSTILE[name])
    for reply in said.split(b"\0")[:-1]:
        assert "Traceback" not in json.dumps(json.loads(reply))
    assert alive(daemon)
    assert not [line for line in daemon.bench.lines if "internal error" in line]


@as_nobody
def test_row_40_nobody_changes_anything(daemon: Daemon) -> None:
    """The kernel says who asks; no word in the frame does."""
    who = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    for operation in OPERATIONS:
        if operation.access is not Access.ANYONE:
            claim = {"uid": 0, "caller": "root", "all": True}
            for parameters in ({}, claim):
                (reply,) = call_as(*who, path=daemon.path, method=method_name(operation.name), parameters=parameters)
                assert reply["error"] == "io.mtad.Denied", operation.name
    assert not [line for line in daemon.bench.lines if line.startswith("operator:")]


def test_row_40_only_the_directory_lets_in(daemon: Daemon) -> None:
    """Anyone may connect (mailq, maildrop); what one may do is decided for each call. Nothing is left of its making."""
    state = Path(daemon.path).stat()
    assert stat.S_ISSOCK(state.st_mode)
    assert sorted(path.name for path in Path(daemon.path).parent.iterdir()) == ["control.sock"]


def test_row_40_a_crowd_leaves_room(daemon: Daemon) -> None:
    """Half of them silent, half gone in the middle of a reply."""
    with contextlib.ExitStack() as stack:
        for number in range(300):
            link = stack.enter_context(socket.socket(socket.AF_UNIX))
            link.settimeout(10)
            with contextlib.suppress(OSError):
                link.connect(daemon.path)
                if number % 2:
                    link.sendall(frame("io.mtad.QueueList"))
                    link.close()
    assert alive(daemon)
    assert varlink(daemon.path, "io.mtad.QueueStats")[0].get("error") is None


@as_nobody
def test_row_40_a_crowd_of_nobody_does_not_shut_the_operator_out(daemon: Daemon) -> None:
    code = (
        "import socket, sys\nlinks = []\n"
        "for _ in range(500):\n"
        "    link = socket.socket(socket.AF_UNIX)\n    link.settimeout(10)\n"
        "    while True:\n        try:\n            link.connect(sys.argv[1])\n            break\n"
        "        except BlockingIOError:\n            pass\n"  # it is not that fast
        "    links.append(link)\n"
        "print('full', flush=True)\nsys.stdin.read()\n"
    )
    command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", sys.executable, "-ISc", code]
    with subprocess.Popen([*command, daemon.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as crowd:
        try:
            assert crowd.stdout is not None
            assert crowd.stdout.readline() == b"full\n"
            assert alive(daemon)
        finally:
            crowd.kill()
