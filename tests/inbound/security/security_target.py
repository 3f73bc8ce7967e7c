"""Two servers to attack: ours, and the stock class of aiosmtpd with a handler that says yes to everything.

An attack is one function. It raises Unsafe when the server let it happen, so it must pass against ours and raise
against the other, or it proves nothing. Where the stock class cannot show it, security_rows.WHY_NOT says why.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from inbound_house import PASSWORD, House

from mtad.config import Limits, Smtp
from mtad.inbound.server import Inbound

Source = Literal["smtp", "submission", "submissions", "local"]
PATIENCE_S = 30.0
USER = "alice@example.test"


class Unsafe(AssertionError):  # noqa: N818  (an outcome)
    """The attack worked."""


def hold(safe: object, what: str) -> None:
    if not safe:
        raise Unsafe(what)


@dataclass(frozen=True)
class Answer:
    """One reply: code 0 is the end of the connection."""

    code: int
    text: str

    @property
    def yes(self) -> bool:
        return 200 <= self.code < 400

    @property
    def no(self) -> bool:
        return self.code >= 400


def trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Wire:
    """A client that says exactly what it is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, octets: bytes) -> None:
        with suppress(ConnectionError):  # the server has ended it: what it said is still to be read
            self.writer.write(octets)
            await asyncio.wait_for(self.writer.drain(), PATIENCE_S)

    async def answer(self) -> Answer:
        """The next whole reply."""
        lines: list[str] = []
        while True:
            try:
                line = await asyncio.wait_for(self.reader.readline(), PATIENCE_S)
            except ConnectionError:
                line = b""
            except TimeoutError:
                raise Unsafe("no reply and no end of the connection") from None
            if not line:
                return Answer(0, "\n".join(lines))
            lines.append(line.decode("utf-8", "replace").rstrip("\r\n"))
            if line[3:4] != b"-":
                return Answer(int(line[:3]), "\n".join(lines))

    async def say(self, line: bytes | str) -> Answer:
        await self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
        return await self.answer()

    async def rest(self) -> list[Answer]:
        """All replies until the connection ends."""
        found = []
        while (answer := await self.answer()).code:
            found.append(answer)
        return found

    async def ended(self) -> bytes:
        """Say no more, and hear what still comes until the server ends it."""
        said = b""
        with suppress(OSError):
            self.writer.write_eof()
            while octets := await asyncio.wait_for(self.reader.read(65536), PATIENCE_S):
                said += octets
        return said

    async def tls(self) -> None:
        await self.writer.start_tls(trusting(), server_hostname="mx.example.test")

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()


class Target:
    """A server under attack. It believes nobody on this network."""

    log: list[str]

    def place(self, source: Source) -> Any:
        raise NotImplementedError

    async def stored(self) -> list[tuple[str, tuple[str, ...], bytes]]:
        """(sender, recipients, octets) of every mail that it took."""
        raise NotImplementedError

    @asynccontextmanager
    async def connect(self, source: Source = "smtp", *, ip: str = "127.0.0.1") -> AsyncIterator[Wire]:
        """A connection before its greeting."""
        place = self.place(source)
        if isinstance(place, str):
            reader, writer = await asyncio.open_unix_connection(place)
        else:
            reader, writer = await asyncio.open_connection(*place, local_addr=(ip, 0))
        wire = Wire(reader, writer)
        try:
            yield wire
        finally:
            await wire.close()

    @asynccontextmanager
    async def greeted(self, source: Source = "smtp", *, ip: str = "127.0.0.1") -> AsyncIterator[Wire]:
        """After EHLO; on the submission listener over TLS."""
        async with self.connect(source, ip=ip) as wire:
            assert (await wire.answer()).code in (220, 421)
            if source == "submission":
                await wire.say("EHLO client.test")
                assert (await wire.say("STARTTLS")).code == 220
                await wire.tls()
            await wire.say("EHLO client.test")
            yield wire

    @asynccontextmanager
    async def signed_in(self, *, ip: str = "127.0.0.1") -> AsyncIterator[Wire]:
        """As alice."""
        async with self.greeted("submission", ip=ip) as wire:
            assert (await wire.say(b"AUTH PLAIN " + plain(USER, PASSWORD))).code == 235
            yield wire

    async def mail(self, content: bytes, *, sender: str = "x@far.test", to: str = USER) -> Answer:
        """One mail by the book; the reply to its end."""
        async with self.greeted() as wire:
            await wire.say(f"MAIL FROM:<{sender}>")
            await wire.say(f"RCPT TO:<{to}>")
            await wire.say("DATA")
            return await wire.say(content + b"\r\n.")


def plain(user: str, password: str, acting: str = "") -> bytes:
    from base64 import b64encode

    return b64encode(f"{acting}\0{user}\0{password}".encode())


@dataclass
class Ours(Target):
    house: House
    inbound: Inbound

    def __post_init__(self) -> None:
        self.log = self.house.log

    def place(self, source: Source) -> Any:
        (place,) = self.inbound.addresses(source)
        return place

    async def stored(self) -> list[tuple[str, tuple[str, ...], bytes]]:
        mails: dict[str, tuple[str, tuple[str, ...], bytes]] = {}
        for row in await self.house.rows():
            sender, recipients, octets = mails.get(row.message.id, (row.message.sender, (), b""))
            octets = octets or await self.house.content(row)
            mails[row.message.id] = sender, (*recipients, row.recipient.address), octets
        return list(mails.values())


@asynccontextmanager
async def ours(house: House, *, guarded: bool = False, **limits: Any) -> AsyncIterator[Ours]:
    """Our listeners on the real store, with the settings of an installation but for `limits`. Rates, delays and blocks
    are on where it is `guarded`: one attack would be taken for many otherwise."""
    config = replace(house.config, limits=replace(Limits(), **limits), smtp=Smtp())
    inbound = house.inbound(config, guard=house.make_guard(config) if guarded else None)
    await inbound.start()
    try:
        yield Ours(house, inbound)
    finally:
        await inbound.drain(0.0)


@dataclass
class Yes:
    """A handler that takes everything."""

    mails: list[tuple[str, tuple[str, ...], bytes]] = field(default_factory=list)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        await asyncio.sleep(0.01)  # to keep a mail safely takes a moment
        content = envelope.content
        octets = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content or b""
        self.mails.append((envelope.mail_from or "", tuple(envelope.rcpt_tos), octets))
        return "250 OK"


@dataclass
class Stock(Target):
    """aiosmtpd.smtp.SMTP as it comes."""

    handler: Yes
    places: dict[str, Any]
    log: list[str] = field(default_factory=list)

    def place(self, source: Source) -> Any:
        return self.places[source]

    async def stored(self) -> list[tuple[str, tuple[str, ...], bytes]]:
        return self.handler.mails


def _check(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object) -> AuthResult:
    good = isinstance(data, LoginPassword) and data == LoginPassword(USER.encode(), PASSWORD.encode())
    return AuthResult(success=good, handled=False)


@asynccontextmanager
async def stock(context: ssl.SSLContext | None, **options: Any) -> AsyncIterator[Stock]:
    """Two listeners of the stock class: one as an MX would have it, one with sign-in."""
    loop, handler = asyncio.get_running_loop(), Yes()
    settings = {"hostname": "mx.example.test", "loop": loop, "tls_context": context, **options}
    mx = await loop.create_server(lambda: SMTP(handler, **settings), "127.0.0.1", 0)
    users = await loop.create_server(
        lambda: SMTP(handler, authenticator=_check, auth_required=True, **settings), "127.0.0.1", 0
    )
    try:
        yield Stock(handler, {"smtp": mx.sockets[0].getsockname(), "submission": users.sockets[0].getsockname()})
    finally:
        mx.close()
        users.close()
