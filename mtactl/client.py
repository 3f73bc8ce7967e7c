"""Talking to the daemon: one request, its rows, over the control socket. Blocking."""

import errno
import os
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from mtactl.errors import EX_NOPERM, EX_SOFTWARE, EX_TEMPFAIL, EX_UNAVAILABLE, CallError, Unreachable
from mtactl.submit.queue import frames
from mtad.control import wire
from mtad.control.operation import Operation

CONNECT_S = 5.0
ANSWER_S = 120.0  # without an octet from the daemon
SOCKET_PATH_MAX = 107  # sun_path of unix(7), without its final NUL
SERVICE_SOCKET = "/run/mtad/control.sock"


def socket_path(given: str, root: str, environ: Mapping[str, str], uid: int) -> str:
    """The control socket: --socket, --root, MTA_SOCKET, MTA_ROOT, and then by user as the daemon does.

    An ordinary user's own daemon comes first, then the system's.
    """
    if given or (not root and environ.get("MTA_SOCKET")):
        return os.path.abspath(given or environ["MTA_SOCKET"])
    if root := root or environ.get("MTA_ROOT", ""):
        return f"{os.path.abspath(root)}/run/control.sock"
    if uid == 0:
        return SERVICE_SOCKET
    own = f"{_runtime(environ)}/control.sock"
    return own if os.path.exists(own) else SERVICE_SOCKET


def _runtime(environ: Mapping[str, str]) -> str:
    runtime, state = environ.get("XDG_RUNTIME_DIR", ""), environ.get("XDG_STATE_HOME", "")
    if runtime.startswith("/"):
        return f"{runtime}/mtad"
    return f"{state if state.startswith('/') else os.path.expanduser('~/.local/state')}/mtad/run"


class Client:
    """One daemon. Each call is a connection of its own. `root` is where it has everything, "" elsewhere."""

    def __init__(self, path: str, answer_s: float = ANSWER_S, root: str = "") -> None:
        self.path = path
        self._root = root
        self._answer_s = answer_s

    def call(self, operation: Operation, arguments: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The rows of an operation, as they come. Raises CallError; Unreachable before anything was asked."""
        octets = wire.call(operation.name, arguments, more=operation.stream)
        if len(octets) > wire.FRAME_MAX_BYTES:
            raise CallError("the arguments are too many", wire.ERRORS["Usage"])
        with self._connect() as connection:
            try:
                connection.sendall(octets, socket.MSG_NOSIGNAL)
                yield from self._rows(connection)
            except TimeoutError:
                raise CallError(f"no answer from mtad for {self._answer_s:.0f} seconds", EX_TEMPFAIL) from None
            except ConnectionError:
                raise CallError("mtad closed the connection before it answered", EX_TEMPFAIL) from None
            except (ValueError, RecursionError) as error:
                raise CallError(f"mtad's answer makes no sense: {error}", EX_SOFTWARE) from None

    def _connect(self) -> socket.socket:
        if len(os.fsencode(self.path)) > SOCKET_PATH_MAX:
            raise Unreachable(self.path, f"the path is longer than {SOCKET_PATH_MAX} octets", self._root)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(CONNECT_S)
        try:
            connection.connect(self.path)
        except PermissionError:
            connection.close()
            raise CallError(f"not permitted to connect to {self.path}", EX_NOPERM) from None
        except OSError as error:
            connection.close()
            if isinstance(error, TimeoutError) or error.errno == errno.EAGAIN:
                raise CallError(f"mtad at {self.path} is too busy to answer, try again", EX_TEMPFAIL) from None
            raise Unreachable(self.path, error.strerror or "no connection", self._root) from None
        connection.settimeout(self._answer_s)
        return connection

    def _rows(self, connection: socket.socket) -> Iterator[dict[str, Any]]:
        for frame in frames(connection):
            if not isinstance(frame, dict):
                raise wire.WireError("the frame is not an object")
            if "error" in frame:
                raise _failure(frame)
            row = frame.get("parameters")
            if not isinstance(row, dict):
                raise wire.WireError("a reply without parameters")
            if row:
                yield row
            if not frame.get("continues"):
                return


def _failure(frame: dict[str, Any]) -> CallError:
    name, details = str(frame["error"]), frame.get("parameters")
    interface, _, word = name.rpartition(".")
    if interface == wire.INTERFACE and isinstance(details, dict):
        text, code = details.get("text"), details.get("code")
        if isinstance(text, str) and isinstance(code, int) and not isinstance(code, bool) and 0 < code < 256:
            return CallError(text, code, word)
    if word in {"MethodNotFound", "InterfaceNotFound"}:
        return CallError(
            "the running mtad does not know this operation: it is of another version", EX_UNAVAILABLE, word
        )
    return CallError(f"mtad answered {name}", EX_SOFTWARE, word)
