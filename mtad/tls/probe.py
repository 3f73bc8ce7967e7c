"""What a client gets from a mail server: greeting, STARTTLS, protocol, certificates, and whether old protocols are
refused. Each question is a connection of its own; nothing is sent but EHLO, STARTTLS and QUIT."""

import asyncio
import socket
import ssl
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from mtad.mail.text import clean
from mtad.tls import words
from mtad.tls.dane import peer_chain

CONNECT_S = 10.0
ANSWER_S = 15.0
REPLY_MAX_BYTES = 64 * 1024
LINE_MAX_BYTES = 8 * 1024

Way = Literal["STARTTLS", "implicit"]

Connect = Callable[[], Awaitable[socket.socket]]


class ProbeError(Exception):
    """The other side cannot be asked. The text is for the operator."""


@dataclass(frozen=True, slots=True)
class Seen:
    """`distrust`: what a client of the system's authorities says, "" = it is content. `old`: protocols that nobody
    should take any more, and that are taken; None where this machine cannot ask."""

    way: Way
    greeting: str = ""
    offers: tuple[str, ...] = ()  # the keywords of EHLO, upper case, before TLS
    secure_offers: tuple[str, ...] = ()  # and after
    auth: tuple[str, ...] = ()  # mechanisms, after TLS
    early_auth: tuple[str, ...] = ()  # and before: passwords in the clear
    protocol: str = ""
    cipher: str = ""
    chain: tuple[bytes, ...] = ()
    distrust: str = ""
    old: tuple[str, ...] | None = ()
    problem: str = ""  # why there is no TLS; then nothing of it is known

    @property
    def encrypted(self) -> bool:
        return bool(self.protocol)


class Talk:
    """One connection, in the words of SMTP."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def reply(self) -> tuple[int, list[str]]:
        """One reply. ProbeError, also for what is none."""
        lines, total = list[str](), 0
        try:
            async with asyncio.timeout(ANSWER_S):
                while True:
                    line = await self.reader.readline()
                    total += len(line)
                    if not line:
                        raise ProbeError("it closed the connection")
                    if total > REPLY_MAX_BYTES or not line[:3].isdigit() or line[3:4] not in b"- \r\n":
                        raise ProbeError(f"no SMTP: {clean(line.decode('latin-1').strip(), 60)}")
                    lines.append(clean(line[4:].decode("utf-8", "replace").rstrip("\r\n"), 500))
                    if line[3:4] != b"-":
                        return int(line[:3]), lines
        except TimeoutError:
            raise ProbeError(f"no answer within {ANSWER_S:g} s") from None
        except ValueError:
            raise ProbeError("a line of its answer has no end") from None
        except OSError as error:
            raise ProbeError(words.of_network(error)) from None

    async def say(self, line: str) -> tuple[int, list[str]]:
        self.writer.write(f"{line}\r\n".encode())
        return await self.reply()

    async def starttls(self, context: ssl.SSLContext, name: str) -> None:
        """The handshake. Raises ssl.SSLError and ProbeError."""
        try:
            async with asyncio.timeout(ANSWER_S):
                await self.writer.start_tls(context, server_hostname=name or None)
        except ssl.SSLError:
            raise
        except TimeoutError:
            raise ProbeError(f"no TLS handshake within {ANSWER_S:g} s") from None
        except OSError as error:
            raise ProbeError(f"it broke the TLS handshake off ({error.strerror or 'connection lost'})") from None

    async def close(self) -> None:
        self.writer.transport.abort()
        try:
            await self.writer.wait_closed()
        except OSError:  # as we asked for
            return


async def opened(connect: Connect) -> Talk:
    """A connection before its greeting. ProbeError."""
    try:
        async with asyncio.timeout(CONNECT_S):
            sock = await connect()
            reader, writer = await asyncio.open_connection(sock=sock, limit=LINE_MAX_BYTES)
    except TimeoutError:
        raise ProbeError(f"no connection within {CONNECT_S:g} s") from None
    except OSError as error:
        raise ProbeError(words.of_network(error)) from None
    return Talk(reader, writer)


def keywords(lines: list[str]) -> tuple[str, ...]:
    """Of an answer to EHLO, without its first line."""
    return tuple(line.partition(" ")[0].upper() for line in lines[1:])


def mechanisms(lines: list[str]) -> tuple[str, ...]:
    found = next((line for line in lines[1:] if line.upper().startswith("AUTH ")), "")
    return tuple(found.upper().split()[1:])


async def look(
    connect: Connect,
    name: str,
    way: Way,
    *,
    ehlo: str,
    old: bool = True,
    verifying: ssl.SSLContext | None = None,
) -> Seen:
    """All about one server; `name` is asked for, and its certificate must be for it. Never raises for what the other
    side does. `old`: also try whether it takes old protocols; `verifying` judges in place of the system authorities."""
    try:
        seen = await _first(connect, name, way, ehlo)
    except ProbeError as error:
        return Seen(way, problem=str(error))
    if not seen.encrypted:
        return seen
    distrust = await _tried(connect, name, way, ehlo, verifying or _verifying())
    taken = await _old(connect, name, way, ehlo) if old else ()
    return replace(seen, distrust=distrust, old=taken)


async def _first(connect: Connect, name: str, way: Way, ehlo: str) -> Seen:
    """With a client that takes any certificate."""
    context = _any()
    talk = await opened(connect)
    try:
        seen = Seen(way)
        if way == "implicit":
            try:
                await talk.starttls(context, name)
            except ssl.SSLError as error:
                return replace(seen, problem=f"TLS: {words.of_tls(error)}")
        code, lines = await talk.reply()
        seen = replace(seen, greeting=f"{code} {lines[0] if lines else ''}".rstrip())
        if code != 220:
            return replace(seen, problem=f"it greets with {seen.greeting}")
        _, lines = await talk.say(f"EHLO {ehlo}")
        if way == "STARTTLS":
            seen = replace(seen, offers=keywords(lines), early_auth=mechanisms(lines))
            if "STARTTLS" not in seen.offers:
                return replace(seen, problem="STARTTLS is not offered")
            code, lines = await talk.say("STARTTLS")
            if code != 220:
                return replace(seen, problem=f"STARTTLS is refused: {code} {lines[0] if lines else ''}")
            try:
                await talk.starttls(context, name)
            except ssl.SSLError as error:
                return replace(seen, problem=f"TLS: {words.of_tls(error)}")
            _, lines = await talk.say(f"EHLO {ehlo}")
        seen = replace(seen, secure_offers=keywords(lines), auth=mechanisms(lines), **_session(talk))
        await talk.say("QUIT")
    finally:
        await talk.close()
    return seen


def _session(talk: Talk) -> dict[str, Any]:
    made = talk.writer.get_extra_info("ssl_object")
    cipher = made.cipher()
    return {"protocol": made.version() or "", "cipher": cipher[0] if cipher else "", "chain": peer_chain(made)}


async def _tried(connect: Connect, name: str, way: Way, ehlo: str, context: ssl.SSLContext) -> str:
    """What is wrong with a handshake of this context, "" when nothing is."""
    try:
        talk = await opened(connect)
    except ProbeError as error:
        return str(error)
    try:
        if way == "STARTTLS":
            await talk.reply()
            await talk.say(f"EHLO {ehlo}")
            code, lines = await talk.say("STARTTLS")
            if code != 220:
                return f"STARTTLS is refused: {code} {lines[0] if lines else ''}"
        await talk.starttls(context, name)
        return ""
    except ssl.SSLError as error:
        return words.of_tls(error)
    except ProbeError as error:
        return str(error)
    finally:
        await talk.close()


async def _old(connect: Connect, name: str, way: Way, ehlo: str) -> tuple[str, ...] | None:
    taken = []
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        context = _only(version)
        if context is None:
            return None
        if not await _tried(connect, name, way, ehlo, context):
            taken.append(version.name.replace("_", "."))
    return tuple(taken)


def _any() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("DEFAULT:!aNULL:@SECLEVEL=0")
    return context


def _verifying() -> ssl.SSLContext:
    return ssl.create_default_context()


def _only(version: ssl.TLSVersion) -> ssl.SSLContext | None:
    """None: this machine's OpenSSL does not have it any more."""
    context = _any()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that they are old is why we ask
        try:
            context.minimum_version = context.maximum_version = version
        except (ValueError, ssl.SSLError):
            return None
    return context
