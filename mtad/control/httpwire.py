"""As much of HTTP/1.1 (RFC 9110, RFC 9112) as probes and scrapers need: GET and HEAD, no bodies, one request each."""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

HEAD_MAX_BYTES = 16 * 1024

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([!-~]+) HTTP/([0-9])\.([0-9])")
_NAME = re.compile(_TOKEN)
_VALUE = re.compile(rb"[\t -~\x80-\xff]*")
_AUTHORITY = re.compile(rb"(?i:https?)://([^/?#]+)")
_ONCE = frozenset([b"host", b"authorization", b"content-length"])


@dataclass(frozen=True, slots=True)
class Request:
    path: str  # as it was written, without the query
    authorization: bytes = b""
    host: str = ""  # of whom it is asked, without the port


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes
    media_type: str = "application/json"
    field: str = ""  # one more header field

    def octets(self, now: float, *, with_body: bool = True) -> bytes:
        """As it is sent; a HEAD gets the same without the body."""
        fields = (
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            f"Date: {formatdate(now, usegmt=True)}",
            f"Content-Type: {self.media_type}",
            f"Content-Length: {len(self.body)}",
            "Cache-Control: no-store",
            "Connection: close",
            *([self.field] if self.field else []),
        )
        return "".join(f"{field}\r\n" for field in (*fields, "")).encode("ascii") + (self.body if with_body else b"")


class Refused(Exception):  # noqa: N818  (an outcome that is told, not a defect)
    """The request gets this status instead of what it asks for. The words are ours, never the peer's."""

    def __init__(self, status: int, text: str, field: str = "") -> None:
        super().__init__(text)
        self.reply = Reply(status, json_body({"error": text}), field=field)


def json_body(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


async def read_head(reader: asyncio.StreamReader) -> list[bytes]:
    """The lines up to the empty one, without their ends; none when the peer says nothing at all. Raises Refused.

    `reader` has HEAD_MAX_BYTES as its limit.
    """
    lines: list[bytes] = []
    left = HEAD_MAX_BYTES
    try:
        while line := await reader.readline():
            left -= len(line)
            if left < 0:
                break
            line = line.removesuffix(b"\n").removesuffix(b"\r")
            if line:
                lines.append(line)
            elif lines:  # empty lines before the first one are passed over (RFC 9112 2.2)
                return lines
    except ValueError:  # one line is longer than all may be
        left = -1
    if left < 0:
        raise Refused(431, f"the head of a request is limited to {HEAD_MAX_BYTES} octets")
    if lines:
        raise Refused(400, "the request ends early")
    return lines


def parse(lines: Sequence[bytes]) -> Request:
    """What read_head returned, at least one line. Raises Refused. Pure."""
    first = _REQUEST_LINE.fullmatch(lines[0])
    if first is None:
        raise Refused(400, "this is no HTTP request")
    method, target, major, minor = first.groups()
    if major != b"1":
        raise Refused(505, "HTTP/1.0 and HTTP/1.1 are spoken here")
    fields: dict[bytes, bytes] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        if not (colon and _NAME.fullmatch(name) and _VALUE.fullmatch(value)) or name in _ONCE & fields.keys():
            raise Refused(400, "a header field is malformed or repeated")
        fields[name] = value
    if minor != b"0" and b"host" not in fields:
        raise Refused(400, "the Host field is missing")
    if method not in {b"GET", b"HEAD"}:
        raise Refused(405, "this listener is for reading", "Allow: GET, HEAD")
    authority = _AUTHORITY.match(target)  # proxies write the whole URI (RFC 9112 3.2.2)
    path = target[authority.end() if authority else 0 :].partition(b"?")[0] or b"/"
    if not path.startswith(b"/"):
        raise Refused(400, "the request target is malformed")
    length = fields.get(b"content-length", b"0")
    if not length.isdigit():
        raise Refused(400, "the Content-Length is malformed")
    if b"transfer-encoding" in fields or length.strip(b"0"):
        raise Refused(413, "requests have no body here")
    asked = authority[1] if authority else fields.get(b"host", b"")  # RFC 9112 3.2.2: the URI outweighs the field
    host = asked.partition(b":")[0].decode("ascii", "replace")
    return Request(path.decode("ascii"), fields.get(b"authorization", b""), host)
