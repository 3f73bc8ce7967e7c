"""The client against daemons that misbehave, and where it looks for one."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mtactl.client import Client, socket_path
from mtactl.errors import CallError, Unreachable
from mtad.config.places import locate
from mtad.control.operations import BY_NAME
from mtad.control.wire import REPLY_MAX_BYTES


@contextmanager
def peer(path: str, answer: bytes, *, close: bool = True) -> Iterator[None]:
    """A daemon that reads one request and answers these octets, whatever was asked; then it closes, or stays silent."""
    done = threading.Event()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            link, _ = listener.accept()
            with link:
                link.recv(65536)
                try:
                    link.sendall(answer)
                except OSError:
                    return
                if not close:
                    done.wait(30)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        done.set()
        thread.join(30)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"", 75),
        (b'{"parameters":', 75),
        (b'{"parameters":{"a":1},"continues":true}\0', 75),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n\0", 70),
        (b"[]\0", 70),
        (b'{"parameters":[]}\0', 70),
        (b"{}\0", 70),
        (b'{"error":"io.mtad.Denied","parameters":{"text":"no","code":77}}\0', 77),
        (b'{"error":"io.mtad.Denied","parameters":{"text":"no","code":0}}\0', 70),
        (b'{"error":"io.mtad.Denied","parameters":{"text":"no","code":true}}\0', 70),
        (b'{"error":"io.mtad.Denied"}\0', 70),
        (b'{"error":5}\0', 70),
        (b'{"error":"org.varlink.service.MethodNotFound","parameters":{"method":"x"}}\0', 69),
        (b"x" * (REPLY_MAX_BYTES + 1), 70),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_bad_answers(short_dir: Path, answer: bytes, code: int) -> None:
    path = f"{short_dir}/s"
    with peer(path, answer), pytest.raises(CallError) as caught:
        list(Client(path).call(BY_NAME["queue.list"], {}))
    assert caught.value.code == code
    assert not isinstance(caught.value, Unreachable)  # it was asked: nobody may do it a second time


def test_rows_before_the_end_are_given(short_dir: Path) -> None:
    path, rows = f"{short_dir}/s", []
    with peer(path, b'{"parameters":{"a":1},"continues":true}\0{"parameters":{}}\0'):
        rows = list(Client(path).call(BY_NAME["queue.list"], {}))
    assert rows == [{"a": 1}]


def test_silence_ends(short_dir: Path) -> None:
    path = f"{short_dir}/s"
    with peer(path, b"", close=False), pytest.raises(CallError) as caught:
        list(Client(path, answer_s=0.05).call(BY_NAME["status"], {}))
    assert caught.value.code == 75


def test_nobody_there(short_dir: Path) -> None:
    for path in (f"{short_dir}/none", str(short_dir), "/" + "x" * 200, f"{short_dir}/none/none"):
        with pytest.raises(Unreachable) as caught:
            list(Client(path).call(BY_NAME["status"], {}))
        assert caught.value.code == 69
        assert path in caught.value.text


def test_too_many_arguments_are_not_sent() -> None:
    with pytest.raises(CallError) as caught:
        list(Client("/nonexistent").call(BY_NAME["queue.hold"], {"to": "x" * (1 << 20)}))
    assert caught.value.code == 64


@pytest.mark.parametrize(
    ("root", "environ", "uid"),
    [
        ("/r", {}, 0),
        ("r", {}, 1000),
        ("", {"MTA_ROOT": "/r"}, 0),
        ("/q", {"MTA_ROOT": "/r"}, 0),
        ("", {}, 0),
    ],
)
def test_the_socket_is_where_the_daemon_makes_it(root: str, environ: dict[str, str], uid: int) -> None:
    assert socket_path("", root, environ, uid) == locate(root, environ=environ, uid=uid).paths.control


@pytest.mark.parametrize("variable", ["XDG_RUNTIME_DIR", "XDG_STATE_HOME", "HOME"])
def test_a_users_own_daemon_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    environ = {variable: str(tmp_path)}
    monkeypatch.setenv("HOME", environ.get("HOME", "/nonexistent"))
    environ.setdefault("HOME", "/nonexistent")
    assert socket_path("", "", environ, 4242) == "/run/mtad/control.sock"
    own = locate(environ=environ, uid=4242).paths.control
    os.makedirs(os.path.dirname(own))
    with open(own, "w"):
        pass
    assert socket_path("", "", environ, 4242) == own


def test_the_socket_that_is_named() -> None:
    environ = {"MTA_SOCKET": "/e", "MTA_ROOT": "/r"}
    assert socket_path("/s", "/r", environ, 0) == "/s"
    assert socket_path("", "", environ, 0) == "/e"
    assert socket_path("", "/q", environ, 0) == "/q/run/control.sock"
