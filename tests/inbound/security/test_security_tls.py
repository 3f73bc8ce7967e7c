"""Row 37: what can be done to a handshake. Each costs one line of the log, and the next client is served."""

import asyncio
import os
import ssl
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from inbound_house import House, end_house, make_certificate, make_house
from security_rows import withstand
from security_target import Ours, Target, hold, ours, trusting

from mtad.config import CertificateFiles, Tls
from mtad.inbound import session as session_module


def hello(name: str | None = "mx.example.test", context: ssl.SSLContext | None = None) -> bytes:
    """The first octets of a client: one record with its ClientHello."""
    out = ssl.MemoryBIO()
    client = (context or trusting()).wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


def one_octet_records(record: bytes) -> bytes:
    """The same handshake message in records of one octet each (RFC 8446 5.1 lets them)."""
    return b"".join(record[:3] + b"\0\1" + record[at : at + 1] for at in range(5, len(record)))


def without_sense(record: bytes) -> bytes:
    return record[:5] + os.urandom(len(record) - 5)


def failures(target: Target) -> int:
    return sum("TLS failed" in line for line in target.log)


async def sound(target: Target) -> None:
    """A client as it should be is served on both ways into TLS."""
    async with target.greeted("submission") as wire:
        hold((await wire.say("NOOP")).code == 250, "STARTTLS")
    reader, writer = await asyncio.open_connection(*target.place("submissions"), ssl=trusting())
    hold((await reader.readline()).startswith(b"220 "), "implicit TLS")
    writer.close()
    await writer.wait_closed()


async def settled(target: Target) -> None:
    """Until all sessions are over."""
    assert isinstance(target, Ours)
    while target.inbound.sessions():
        await asyncio.sleep(0)


NOT_TLS = {
    "plain text": lambda: b"EHLO client.test\r\nMAIL FROM:<x@far.test>\r\n",
    "HTTP": lambda: b"GET / HTTP/1.1\r\n\r\n",
    "noise": lambda: b"\x16\x03\x01\x02\x00" + os.urandom(512),
    "hello without sense": lambda: without_sense(hello()),
    "half a hello": lambda: hello()[:60],
    "SSL 2": lambda: b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + os.urandom(37),
    "SSL 3": lambda: b"\x16\x03\x00" + hello()[3:9] + b"\x03\x00" + hello()[11:],
    "endless record": lambda: b"\x16\x03\x01\xff\xff" + b"x" * 100_000,
    "alert": lambda: b"\x15\x03\x01\x00\x02\x02\x28",
    "heartbeat": lambda: b"\x18\x03\x02\x00\x03\x01\x40\x00",
    "nothing": lambda: b"",
}


@pytest.mark.parametrize("source", ["submissions", "submission"])
@pytest.mark.parametrize("what", NOT_TLS)
async def test_row_37_what_is_no_handshake(house: House, source: str, what: str) -> None:
    async def attack(target: Target) -> None:
        octets = NOT_TLS[what]()
        async with target.connect(source) as wire:  # type: ignore[arg-type]
            if source == "submission":
                await wire.answer()
                hold((await wire.say("STARTTLS")).code == 220, "STARTTLS")
            await wire.send(octets)
            said = await wire.ended()
            hold(b"250" not in said and b"220" not in said, f"{said!r}")
        await settled(target)
        hold(failures(target) == 1, f"{failures(target)} lines")
        await sound(target)

    await withstand(attack, house)


async def test_row_37_tls_on_the_clear_port(house: House) -> None:
    async def attack(target: Target) -> None:
        async with target.connect("smtp") as wire:
            await wire.answer()
            await wire.send(hello() + b"\r\n")
            hold((await wire.answer()).code in (500, 501, 502), "a hello was taken for a command")
        await sound(target)

    await withstand(attack, house)


def old(version: ssl.TLSVersion) -> Callable[[], ssl.SSLContext]:
    def make() -> ssl.SSLContext:
        context = trusting()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
            context.maximum_version = version
        context.set_ciphers("ALL:@SECLEVEL=0")
        return context

    return make


def with_ciphers(names: str) -> Callable[[], ssl.SSLContext]:
    def make() -> ssl.SSLContext:
        context = trusting()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(names)
        return context

    return make


@pytest.mark.parametrize(
    "client",
    [
        old(ssl.TLSVersion.TLSv1),
        old(ssl.TLSVersion.TLSv1_1),
        with_ciphers("AES128-SHA"),
        with_ciphers("ECDHE+AES128+SHA:@SECLEVEL=0"),
        with_ciphers("DHE"),
        with_ciphers("aNULL:eNULL:@SECLEVEL=0"),
    ],
    ids=["TLS 1.0", "TLS 1.1", "RSA key exchange", "CBC", "DHE", "no authentication"],
)
async def test_row_37_nothing_old_or_weak(house: House, client: Callable[[], ssl.SSLContext]) -> None:
    async def attack(target: Target) -> None:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection(*target.place("submissions"), ssl=client())
        await settled(target)
        hold(failures(target) == 1, f"{failures(target)} lines")
        await sound(target)

    await withstand(attack, house)


@pytest.mark.parametrize("cut", [lambda record: [record[at : at + 1] for at in range(len(record))],
                                 lambda record: [one_octet_records(record)]], ids=["segments", "records"])  # fmt: skip
async def test_row_37_octet_by_octet(house: House, cut: Callable[[bytes], list[bytes]]) -> None:
    """A lawful hello in the smallest pieces is answered as any other."""

    async def attack(target: Target) -> None:
        async with target.connect("submissions") as wire:
            for piece in cut(hello()):
                await wire.send(piece)
                await asyncio.sleep(0)
            hold((await wire.reader.readexactly(1)) == b"\x16", "no handshake came back")
        await settled(target)
        await sound(target)

    await withstand(attack, house)


async def test_row_37_silence_has_an_end(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "TLS_HANDSHAKE_S", 0.3)

    async def attack(target: Target) -> None:
        for octets in (b"", hello()[:50], hello()):
            async with target.connect("submissions") as wire:
                await wire.send(octets)
                await wire.reader.read()  # until the server ends it
        await settled(target)
        hold(failures(target) == 3, f"{failures(target)} lines")

    await withstand(attack, house)
    monkeypatch.undo()
    await withstand(sound, house)


async def test_row_37_a_break_within_tls(house: House) -> None:
    """After the handshake: the connection ends without a goodbye, or with noise for a record."""

    async def attack(target: Target) -> None:
        for octets in (b"", b"\x17\x03\x03\x00\x20" + os.urandom(32), b"QUIT\r\n"):
            async with target.greeted("submission") as wire:
                await wire.say("NOOP")
                sock = wire.writer.get_extra_info("socket")
                if octets:
                    os.write(sock.fileno(), octets)
                    await wire.reader.read()
                wire.writer.transport.abort()
        await settled(target)
        await sound(target)

    await withstand(attack, house)


# Names and client certificates


@pytest.fixture
async def two_names(short_dir: Path) -> AsyncIterator[House]:
    """A house with a second certificate, which asks its users for one of theirs."""
    first = make_certificate(short_dir)
    (short_dir / "second").mkdir()
    second = make_certificate(short_dir / "second")
    tls = Tls(first.cert, first.key, client_ca=first.cert, certificates=(CertificateFiles(second.cert, second.key),))
    made = await make_house(short_dir, tls=tls)
    yield made
    await end_house(made)


NAMES = [
    "-",
    "*",
    "..",
    " ",
    "a b",
    "\x01\x02",
    "x" * 250,
    "*.example.test",
    "mx.example.test.",
    "[::1]",
    "'; --",
    "%00",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
async def test_row_37_any_server_name_is_fit(two_names: House, name: str) -> None:
    """Put into a lawful hello in the place of another name of the same length."""
    stand_in = "s" * min(len(name), 63) + (".t" * 125)[: max(len(name) - 63, 0)]
    octets = hello(stand_in).replace(stand_in.encode(), name.encode())
    assert len(octets) == len(hello(stand_in))

    async def attack(target: Target) -> None:
        async with target.connect("submissions") as wire:
            await wire.send(octets)
            hold((await wire.reader.readexactly(1)) == b"\x16", "no handshake came back")
        await settled(target)
        await sound(target)

    await withstand(attack, two_names)


async def test_row_37_client_certificates_of_strangers(two_names: House, tmp_path: Path) -> None:
    stranger = make_certificate(tmp_path)
    ours_by_name = replace(two_names.config.tls)

    @asynccontextmanager
    async def client(pair: Tls) -> AsyncIterator[asyncio.StreamReader]:
        context = trusting()
        context.load_cert_chain(pair.cert, pair.key)
        async with ours(two_names) as target:
            reader, writer = await asyncio.open_connection(*target.place("submissions"), ssl=context)
            try:
                yield reader
            finally:
                writer.transport.abort()
                await settled(target)

    async with client(ours_by_name) as reader:
        assert (await reader.readline()).startswith(b"220 ")
    async with client(stranger) as reader:
        said = b""
        with suppress(ssl.SSLError, ConnectionError):  # TLS 1.3 says it with the first record
            said = await reader.readline()
        assert said == b""
    assert sum("TLS failed" in line for line in two_names.log) == 1


async def test_renewal_leaves_sessions_alone(house: House, tmp_path: Path) -> None:
    """Who is in goes on; who has not begun TLS yet gets what there was when he came; the next one gets the new."""
    from mtad.tls.contexts import server_context

    before = Path(house.config.tls.cert).read_text()
    renewed = server_context(make_certificate(tmp_path))
    assert renewed is not None
    async with ours(house) as target, target.signed_in() as wire:
        assert seen(wire.writer) == before
        target.inbound.renew_tls(renewed)
        for line in ("NOOP", "MAIL FROM:<alice@example.test>", "RCPT TO:<x@far.test>", "RSET"):
            assert (await wire.say(line)).code == 250
        async with target.greeted("submission") as other:
            assert seen(other.writer) == ssl.DER_cert_to_PEM_cert(renewed.leaf)
        assert (await wire.say("QUIT")).code == 221


def seen(writer: asyncio.StreamWriter) -> str:
    return ssl.DER_cert_to_PEM_cert(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
