"""One HTTPS request: over a verified certificate, to the addresses that were checked, bounded in time and octets.

No redirect is followed: what asks here must not be sent elsewhere (RFC 8461 3.3).
"""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mtad.tls import words

HEADER_MAX_BYTES = 16 * 1024
ADDRESSES_MAX = 4
CONNECT_S = 15.0  # for one address
_CRLF = b"\r\n"


class HttpsError(Exception):
    """There was no answer that can be used. `certificate`: for the server could not prove who it is."""

    def __init__(self, problem: str, *, certificate: bool = False) -> None:
        super().__init__(problem)
        self.certificate = certificate


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    media_type: str  # lower case, without parameters
    body: bytes


async def request(
    host: str,
    addresses: Sequence[str],
    path: str,
    context: ssl.SSLContext,
    *,
    port: int = 443,
    body: bytes | None = None,
    media_type: str = "",
    max_bytes: int = 64 * 1024,
    timeout_s: float = 60.0,
) -> Answer:
    """GET `path`, or POST `body` to it. `host` must be in the certificate. Raises HttpsError."""
    head = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", f"Host: {host}", "User-Agent: mtad"]
    head += ["Accept: */*", "Connection: close"]
    if body is not None:
        head += [f"Content-Type: {media_type}", f"Content-Length: {len(body)}"]
    octets = "\r\n".join([*head, "", ""]).encode("ascii") + (body or b"")
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await _connect(host, addresses, port, context)
            try:
                writer.write(octets)
                await writer.drain()
                return await _answer(reader, max_bytes)
            finally:
                writer.transport.abort()
    except TimeoutError:
        raise HttpsError(f"no answer within {timeout_s:g} s") from None
    except EOFError:
        raise HttpsError("it closed the connection before the answer was complete") from None
    except asyncio.LimitOverrunError:
        raise HttpsError("a line of the answer is too long") from None
    except OSError as error:
        raise HttpsError(words.of_network(error)) from None


async def _connect(
    host: str, addresses: Sequence[str], port: int, context: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """To the first address that takes the connection."""
    problem = "no address"
    for address in addresses[:ADDRESSES_MAX]:
        try:
            async with asyncio.timeout(CONNECT_S):
                return await asyncio.open_connection(address, port, ssl=context, server_hostname=host)
        except ssl.SSLCertVerificationError as error:
            raise HttpsError(f"{address}: {words.of_certificate(error, host)}", certificate=True) from None
        except TimeoutError:
            problem = f"{address}: no connection within {CONNECT_S:g} s"
        except OSError as error:
            problem = f"{address}: {words.of_network(error)}"
    raise HttpsError(problem)


async def _answer(reader: asyncio.StreamReader, max_bytes: int) -> Answer:
    status, fields = await _head(reader)
    while 100 <= status < 200:
        status, fields = await _head(reader)
    body = b""
    if "chunked" in fields.get("transfer-encoding", "").lower():
        body = await _chunks(reader, max_bytes)
    elif "content-length" in fields:
        length = _number(fields["content-length"], 10)
        if length > max_bytes:
            raise HttpsError(f"an answer of {length} octets, which is more than {max_bytes}")
        body = await reader.readexactly(length)
    else:
        while chunk := await reader.read(max_bytes + 1 - len(body)):
            body += chunk
            _bound(len(body), max_bytes)
    media_type = fields.get("content-type", "").partition(";")[0].strip().lower()
    return Answer(status, media_type, body)


async def _head(reader: asyncio.StreamReader) -> tuple[int, Mapping[str, str]]:
    """Status and fields of one answer; names in lower case, the last one of a name counts."""
    room = HEADER_MAX_BYTES
    line = await _line(reader)
    version, _, rest = line.partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdecimal():
        raise HttpsError("the answer is not HTTP/1.1")
    fields: dict[str, str] = {}
    while field := await _line(reader):
        room -= len(field)
        if room < 0:
            raise HttpsError("the header of the answer is too long")
        name, _, value = field.partition(":")
        fields[name.strip().lower()] = value.strip()
    return int(rest[:3]), fields


async def _chunks(reader: asyncio.StreamReader, max_bytes: int) -> bytes:
    body = b""
    while True:
        length = _number((await _line(reader)).partition(";")[0].strip(), 16)
        if not length:
            return body
        _bound(len(body) + length, max_bytes)
        body += await reader.readexactly(length)
        if await reader.readexactly(2) != _CRLF:
            raise HttpsError("a chunk does not end where it said")


async def _line(reader: asyncio.StreamReader) -> str:
    return (await reader.readuntil(b"\n")).rstrip(_CRLF).decode("latin-1")


def _number(text: str, base: int) -> int:
    digits = "0123456789abcdef"[:base]
    if not 0 < len(text) <= 12 or text.lower().strip(digits):
        raise HttpsError("the answer gives no length")
    return int(text, base)


def _bound(octets: int, max_bytes: int) -> None:
    if octets > max_bytes:
        raise HttpsError(f"an answer of more than {max_bytes} octets")
