"""The control protocol: varlink (https://varlink.org). JSON objects, each ended by NUL, over a Unix socket.

Pure: octets in, frames out. A request names a method and its parameters; with "more" any number of replies follow, all
but the last with "continues".
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

INTERFACE = "io.mtad"
SERVICE = "org.varlink.service"
FRAME_MAX_BYTES = 1 << 20  # of a request; also what a peer may make the daemon keep
REPLY_MAX_BYTES = 1 << 24  # a message with a thousand recipients is one row

# What can go wrong, and what mtactl exits with (sysexits.h; 1 = nothing matched, or a check found a problem).
ERRORS: Mapping[str, int] = {
    "NothingMatched": 1,
    "Unsound": 1,
    "NotFound": 1,
    "ProblemFound": 1,
    "Usage": 64,
    "BadData": 65,
    "Undelivered": 69,
    "Internal": 70,
    "CannotCreate": 73,
    "Busy": 75,
    "StillWaiting": 75,
    "Denied": 77,
    "BadConfig": 78,
}


class WireError(ValueError):
    """The octets are no frame, or the frame is no request. The connection is of no more use."""


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    parameters: Mapping[str, Any]
    more: bool = False
    oneway: bool = False


def method_name(operation: str) -> str:
    """ "queue.list" -> "io.mtad.QueueList", "user.app_password.add" -> "io.mtad.UserAppPasswordAdd"."""
    return f"{INTERFACE}.{''.join(word.capitalize() for word in operation.replace('_', '.').split('.'))}"


def _no_constant(word: str) -> NoReturn:
    raise WireError(f"{word} is not JSON")


_decode = json.JSONDecoder(parse_constant=_no_constant).decode
_FOREIGN = re.compile("[^\\x00-\\x7f]+")  # stands within strings only
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def encode(frame: Mapping[str, Any]) -> bytes:
    """A frame as octets, NUL included; in ASCII, so that nothing in it breaks a reader. WireError when too large."""
    try:
        octets = _encode(frame).encode("ascii") + b"\0"
    except (TypeError, ValueError, RecursionError):
        raise WireError("the frame cannot be JSON") from None
    if len(octets) > REPLY_MAX_BYTES:
        raise WireError("the frame is too large")
    return octets


class Decoder:
    """Octets, cut anywhere, -> frames of at most `limit` octets."""

    __slots__ = ("_limit", "_pending")

    def __init__(self, limit: int = FRAME_MAX_BYTES) -> None:
        self._limit = limit
        self._pending = bytearray()

    def feed(self, octets: bytes) -> Iterator[dict[str, Any]]:
        """The frames that are complete now. Raises WireError for what is not one, after yielding those before it."""
        start = 0
        while (end := octets.find(b"\0", start)) >= 0:
            if len(self._pending) + end - start >= self._limit:
                raise WireError("the frame is too large")
            self._pending += octets[start:end]
            start = end + 1
            frame, self._pending = self._pending, bytearray()
            yield _parse(frame)
        if len(self._pending) + len(octets) - start >= self._limit:
            raise WireError("the frame is too large")
        self._pending += octets[start:]

    @property
    def empty(self) -> bool:
        """Whether no frame has begun."""
        return not self._pending


def _parse(octets: bytearray) -> dict[str, Any]:
    try:
        frame = _decode(octets.decode("utf-8"))
    except RecursionError:
        raise WireError("the frame is nested too deeply") from None
    except WireError:
        raise
    except ValueError:
        raise WireError("the frame is not JSON") from None
    if not isinstance(frame, dict):
        raise WireError("the frame is not an object")
    return frame


def request(frame: Mapping[str, Any]) -> Request:
    """A frame as a request. Unknown members are ignored, as varlink asks. Raises WireError."""
    method, parameters = frame.get("method"), frame.get("parameters")
    more, oneway = frame.get("more") or False, frame.get("oneway") or False
    if not isinstance(method, str) or not method or len(method) > 200:
        raise WireError("the request names no method")
    if parameters is None:
        parameters = {}
    if not isinstance(parameters, dict):
        raise WireError("the parameters are not an object")
    if not isinstance(more, bool) or not isinstance(oneway, bool):
        raise WireError("more and oneway are true or false")
    if frame.get("upgrade"):
        raise WireError("upgrade is not known here")
    return Request(method, parameters, more, oneway)


def call(operation: str, arguments: Mapping[str, Any], *, more: bool) -> bytes:
    """The octets of a request for an operation."""
    frame: dict[str, Any] = {"method": method_name(operation), "parameters": arguments}
    if more:
        frame["more"] = True
    return encode(frame)


def reply(parameters: Mapping[str, Any], *, continues: bool = False) -> bytes:
    return encode({"parameters": parameters, "continues": True} if continues else {"parameters": parameters})


def line(row: Mapping[str, Any]) -> bytes:
    """A row as one line of JSON; in ASCII. WireError when too large."""
    return encode(row)[:-1]


def lines(text: str) -> bytes:
    """Lines of JSON with any characters, in ASCII."""
    return (text if text.isascii() else _FOREIGN.sub(lambda found: json.dumps(found[0])[1:-1], text)).encode("ascii")


def replies(lines: bytes, *, continues: bool) -> bytes:
    """The reply for each of some lines; `continues` is said in all of them."""
    end = b',"continues":true}\0' if continues else b"}\0"
    return b'{"parameters":' + lines.replace(b"\n", end + b'{"parameters":') + end


def error(name: str, text: str, **more: Any) -> bytes:
    """An error of ours: `name` is one of ERRORS, `text` for the operator; "code" is the exit code that goes with it."""
    return encode({"error": f"{INTERFACE}.{name}", "parameters": {"text": text, "code": ERRORS[name], **more}})


def service_error(name: str, **parameters: str) -> bytes:
    """An error that varlink itself defines: MethodNotFound(method), InvalidParameter(parameter) and so on."""
    return encode({"error": f"{SERVICE}.{name}", "parameters": parameters})
