"""Connections over real sockets: reuse, caps, TLS, deadlines, and servers that mean no good."""

import asyncio
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pytest
from smtp_peer import Peer, certificate, reading, serving

from mtad.config import Address, Config, Delivery, Listen, Paths
from mtad.mail.envelope import Content, Envelope, Rcpt
from mtad.mail.reply import Refused
from mtad.outbound.connection import Timeouts
from mtad.outbound.route import Host, Remote
from mtad.outbound.transport import TRANSACTIONS_MAX, Transport
from mtad.tls.contexts import client_context
from mtad.tls.requirement import OPPORTUNISTIC, Requirement

CONFIG = Config("me.test", ("me.test",), Paths("", "/d", "/r"), delivery=Delivery(max_per_domain=3))
ENVELOPE = Envelope("a@x.test", (Rcpt("b@y.test"),))
CONTENT = Content(b"Subject: hi\r\n\r\n", b".one\r\n..two\r\nthree\r\n")
QUICK = Timeouts(connect_s=2, command_s=0.2, data_s=0.2, block_s=0.2, final_s=0.2, idle_s=5)


@pytest.fixture
def executor():
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture
async def transport(executor):
    transport = Transport(CONFIG, executor, client_context)
    yield transport
    transport.close()
    await asyncio.sleep(0)


def to(port: int, tls: str | Requirement = OPPORTUNISTIC, **options) -> tuple[Remote, Host]:
    host = Host("peer.test", "127.0.0.1", port, Requirement(tls) if isinstance(tls, str) else tls)
    return Remote((host,), **options), host


async def send(transport, port, envelope=ENVELOPE, content=CONTENT, **options):
    size = len(content.head) + (len(content.body) if isinstance(content.body, bytes) else 0)
    return await transport.deliver(*to(port, **options), envelope, content, size)


def short(outcome) -> list[str]:
    return [f"{reply.code} {reply.status} {reply.stage}" for reply in outcome.replies]


async def refusal(transport, port, **options):
    with pytest.raises(Refused) as caught:
        await send(transport, port, **options)
    return caught.value.reply


async def test_what_is_sent_is_what_arrives(transport):
    async with serving(Peer()) as peer:
        outcome = await send(transport, peer.port)
        assert short(outcome) == ["250 2.0.0 final"]
        assert outcome.host.relay == f"peer.test[127.0.0.1]:{peer.port}"
        assert outcome.offers_dsn
        assert [mail.octets for mail in peer.mails] == [CONTENT.head + CONTENT.body]
        assert peer.mails[0].recipients == ["b@y.test"]
        transport.close()


@pytest.mark.parametrize("body", [b"", b"no end", b".", b"\r\n", b".\r\n", b"a\r\n.\r\n"])
async def test_bodies_at_the_edge(transport, body):
    async with serving(Peer()) as peer:
        await send(transport, peer.port, content=Content(CONTENT.head, body))
        transport.close()
    whole = CONTENT.head + body
    assert peer.mails[0].octets == (whole if whole.endswith(b"\r\n") else whole + b"\r\n")


async def test_a_large_body_comes_from_its_file(transport, tmp_path):
    body = b"".join(b"%d" % n + b"." * (n % 80) + b"\r\n" + b".\r\n" * (n % 3 == 0) for n in range(60_000))
    (tmp_path / "body").write_bytes(body)
    async with serving(Peer()) as peer:
        outcome = await send(transport, peer.port, content=Content(CONTENT.head, str(tmp_path / "body")))
        transport.close()
    assert short(outcome) == ["250 2.0.0 final"]
    assert peer.mails[0].octets == CONTENT.head + body


CHUNKS = ("PIPELINING", "8BITMIME", "CHUNKING", "BINARYMIME")
BINARY = b"a\nb\rc\0\xff\r\n.\r\n.."


@pytest.mark.parametrize("offers", [CHUNKS, CHUNKS[1:], (*CHUNKS, "SMTPUTF8")])
@pytest.mark.parametrize("large", [False, True])
async def test_binary_content_goes_as_it_is(transport, tmp_path, offers, large):
    body = BINARY * (20_000 if large else 1)
    (tmp_path / "body").write_bytes(body)
    async with serving(Peer(offers=offers)) as peer:
        content = Content(CONTENT.head, str(tmp_path / "body") if large else body)
        envelope = replace(ENVELOPE, body="BINARYMIME")
        for _ in range(2):
            size = len(CONTENT.head + body)
            outcome = await transport.deliver(*to(peer.port), envelope, content, size)
            assert short(outcome) == ["250 2.0.0 final"]
        transport.close()
    assert [mail.octets for mail in peer.mails] == [CONTENT.head + body] * 2
    assert "BODY=BINARYMIME" in peer.mails[0].sender
    assert peer.connections == 1
    assert "DATA" not in peer.commands


@pytest.mark.parametrize(
    ("body", "offers", "said"),
    [
        (BINARY, ("8BITMIME",), "554 5.6.1 mail"),
        (BINARY, ("8BITMIME", "CHUNKING"), "554 5.6.1 mail"),
        (BINARY, ("8BITMIME", "BINARYMIME"), "554 5.6.1 mail"),
        (b"x" * 999 + b"\r\n", ("8BITMIME",), "554 5.6.1 mail"),
        (b"text \xff\r\n", (), "554 5.6.3 mail"),
        (b"x" * 998 + b"\r\n", (), "250 2.0.0 final"),
        (b"text \xff\r\n", ("8BITMIME",), "250 2.0.0 final"),
        (b"text", (), "250 2.0.0 final"),
    ],
)
@pytest.mark.parametrize("large", [False, True])
async def test_binary_content_for_a_host_that_takes_none(transport, tmp_path, body, offers, said, large):
    (tmp_path / "body").write_bytes(body)
    async with serving(Peer(offers=offers)) as peer:
        content = Content(CONTENT.head, str(tmp_path / "body") if large else body)
        outcome = await transport.deliver(
            *to(peer.port), replace(ENVELOPE, body="BINARYMIME"), content, len(CONTENT.head + body)
        )
        transport.close()
    assert short(outcome) == [said]
    assert not any("BINARYMIME" in command for command in peer.commands)


async def test_one_bdat_where_data_would_change_the_mail(transport, tmp_path):
    (tmp_path / "body").write_bytes(b".large\r\n" * 30_000)
    async with serving(Peer(offers=("PIPELINING", "CHUNKING"))) as peer:
        for body in (b"no end", str(tmp_path / "body"), b"an end\r\n"):
            size = len(CONTENT.head) + (240_000 if isinstance(body, str) else len(body))
            await transport.deliver(*to(peer.port), ENVELOPE, Content(CONTENT.head, body), size)
        transport.close()
    assert [mail.octets for mail in peer.mails] == [
        CONTENT.head + body for body in (b"no end", b".large\r\n" * 30_000, b"an end\r\n")
    ]
    assert [command for command in peer.commands if command[:4] in ("DATA", "BDAT")] == [
        f"BDAT {len(CONTENT.head) + 6} LAST",
        f"BDAT {len(CONTENT.head) + 240_000} LAST",
        "DATA",
    ]


async def test_a_file_that_is_shorter_than_announced_cuts_the_connection(transport, tmp_path):
    (tmp_path / "body").write_bytes(b"short\r\n")
    async with serving(Peer(offers=("CHUNKING",))) as peer:
        content = Content(CONTENT.head, str(tmp_path / "body"))
        outcome = await transport.deliver(*to(peer.port), ENVELOPE, content, len(CONTENT.head) + 1000)
    assert short(outcome) == ["451 4.3.0 "]
    assert peer.mails == []


async def test_lmtp_answers_a_bdat_for_each_recipient(transport):
    envelope = Envelope("a@x.test", (Rcpt("b@y.test"), Rcpt("c@y.test")), "BINARYMIME")
    async with serving(Peer(lmtp=True, offers=CHUNKS, says={". c@y.test": "452 4.2.2 full"})) as peer:
        outcome = await send(transport, peer.port, envelope, Content(CONTENT.head, BINARY), scheme="lmtp")
        transport.close()
    assert short(outcome) == ["250 2.0.0 final", "452 4.2.2 final"]


async def test_a_connection_ends_with_the_mails_its_host_takes(transport):
    async with serving(Peer(offers=("LIMITS MAILMAX=2",))) as peer:
        for _ in range(5):
            await send(transport, peer.port)
        transport.close()
    assert peer.connections == 3


async def test_a_body_that_is_gone_is_our_trouble(transport, tmp_path):
    async with serving(Peer()) as peer:
        outcome = await send(transport, peer.port, content=Content(CONTENT.head, str(tmp_path / "none")))
    assert short(outcome) == ["451 4.3.0 "]
    assert peer.mails == []


async def test_a_connection_is_used_again_but_not_for_ever(transport):
    async with serving(Peer()) as peer:
        for _ in range(TRANSACTIONS_MAX + 1):
            assert short(await send(transport, peer.port)) == ["250 2.0.0 final"]
        assert peer.connections == 2
        transport.close()


async def test_never_more_connections_than_the_cap(transport):
    async with serving(Peer()) as peer:
        outcomes = await asyncio.gather(*(send(transport, peer.port) for _ in range(20)))
        transport.close()
    assert [short(outcome) for outcome in outcomes] == [["250 2.0.0 final"]] * 20
    assert peer.most <= 3


async def test_waiting_for_a_slot_can_be_given_up(transport):
    async with serving(Peer(gate=asyncio.Event())) as peer:
        tasks = [asyncio.create_task(send(transport, peer.port)) for _ in range(8)]
        await peer.seen("DATA")
        for task in tasks[3:6]:
            task.cancel()
        peer.gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(result, asyncio.CancelledError) for result in results) == 3
        assert len(peer.mails) == 5
        transport.close()


async def test_cancelled_in_the_middle_cuts_the_connection_and_frees_its_slot(transport):
    async with serving(Peer(gate=asyncio.Event())) as peer:
        tasks = [asyncio.create_task(send(transport, peer.port)) for _ in range(3)]
        await peer.seen("DATA")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        peer.gate.set()
        assert short(await send(transport, peer.port)) == ["250 2.0.0 final"]
        transport.close()


async def test_idle_connections_say_goodbye(executor):
    transport = Transport(CONFIG, executor, client_context, Timeouts(idle_s=0.05))
    async with serving(Peer()) as peer:
        await send(transport, peer.port)
        await asyncio.wait_for(peer.seen("QUIT"), 5)


@pytest.mark.parametrize("how", ["421 4.4.2 idle too long", "cut"])
async def test_a_connection_that_went_stale_costs_nothing(transport, how):
    async with serving(Peer()) as peer:
        await send(transport, peer.port)
        peer.once["MAIL"] = how
        assert short(await send(transport, peer.port)) == ["250 2.0.0 final"]
        assert peer.connections == 2
        assert len(peer.mails) == 2
        transport.close()


async def test_421_on_a_new_connection_is_the_answer(transport):
    async with serving(Peer(once={"MAIL": "421 4.3.2 busy"})) as peer:
        assert short(await send(transport, peer.port)) == ["421 4.3.2 mail"]
        assert peer.connections == 1


async def test_refused_connection(transport):
    async with serving(Peer()) as peer:
        pass
    reply = await refusal(transport, peer.port)
    assert (reply.code, reply.status, reply.text) == (451, "4.4.1", "Connection refused")


async def test_password_from_its_file_on_loopback(transport, tmp_path):
    (tmp_path / "secret").write_text("p\n")
    async with serving(Peer(offers=("AUTH PLAIN",), says={"AUTH": "235 2.7.0 ok"})) as peer:
        await send(transport, peer.port, user="u", password_file=str(tmp_path / "secret"))
        assert "AUTH PLAIN AHUAcA==" in peer.commands
        reply = await refusal(transport, peer.port, user="v", password_file=str(tmp_path / "none"))
        assert reply.status == "4.3.5"
        assert str(tmp_path) not in reply.text
        transport.close()


async def test_our_own_listener_is_a_loop(executor):
    async with serving(Peer()) as peer:
        config = replace(CONFIG, listen=Listen(smtp=(Address("0.0.0.0", peer.port),)))
        transport = Transport(config, executor, client_context)
        assert (await refusal(transport, peer.port)).status == "5.4.6"
    assert peer.mails == []


async def test_lmtp_over_a_unix_socket(transport, short_dir):
    path = str(short_dir / "l.sock")
    peer = Peer(lmtp=True, says={". c@": "452 4.2.2 full"})
    async with serving(peer, path):
        host = Host("", path, 0)
        envelope = Envelope("", (Rcpt("b@y.test"), Rcpt("c@y.test")))
        outcome = await transport.deliver(Remote((host,), "lmtp"), host, envelope, CONTENT, 10)
        transport.close()
    assert short(outcome) == ["250 2.0.0 final", "452 4.2.2 final"]
    assert outcome.host.relay == f"lmtp:{path}"


@pytest.mark.parametrize("in_file", [False, True])
async def test_eight_bit_where_it_is_not_taken(transport, tmp_path, in_file):
    def content(body):
        (tmp_path / "body").write_bytes(body)
        return Content(CONTENT.head, str(tmp_path / "body") if in_file else body)

    async with serving(Peer(offers=())) as peer:
        envelope = replace(ENVELOPE, body="8BITMIME")
        assert short(await send(transport, peer.port, envelope, content(b"\xe4\r\n"))) == ["554 5.6.3 mail"]
        assert short(await send(transport, peer.port, envelope, content(b"a\r\n"))) == ["250 2.0.0 final"]
        transport.close()


# --- TLS


@pytest.fixture
def pair(tmp_path):
    return certificate(tmp_path, "peer.test")


async def test_any_certificate_will_do_where_tls_may_be(transport, pair):
    async with serving(Peer(tls=pair[0])) as peer:
        outcome = await send(transport, peer.port)
        transport.close()
    assert short(outcome) == ["250 2.0.0 final"]
    assert peer.mails[0].tls
    assert outcome.tls.startswith("TLSv1.3 ")
    assert outcome.tls.endswith(" unverified")


async def test_verified(executor, pair):
    transport = Transport(CONFIG, executor, partial(client_context, ca_file=pair[1]))
    async with serving(Peer(tls=pair[0])) as peer:
        outcome = await send(transport, peer.port, tls="verify")
        transport.close()
    assert outcome.tls.endswith(" verified")


async def test_an_unknown_certificate_is_refused_where_it_must_be_verified(transport, pair):
    async with serving(Peer(tls=pair[0])) as peer:
        reply = await refusal(transport, peer.port, tls="verify")
    assert (reply.code, reply.status) == (454, "4.7.5")
    assert peer.mails == []


async def test_another_name_is_refused_where_it_must_be_verified(executor, tmp_path):
    context, ca_file = certificate(tmp_path, "other.test")
    transport = Transport(CONFIG, executor, partial(client_context, ca_file=ca_file))
    async with serving(Peer(tls=context)) as peer:
        assert (await refusal(transport, peer.port, tls="verify")).status == "4.7.5"


@pytest.mark.parametrize("mode", ["may", "encrypt", "verify"])
async def test_a_broken_handshake(transport, mode):
    nothing_in_common = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # it has no certificate
    async with serving(Peer(tls=nothing_in_common)) as peer:
        if mode == "may":
            assert short(await send(transport, peer.port, tls=mode)) == ["250 2.0.0 final"]
            assert not peer.mails[0].tls
            assert peer.connections == 2
        else:
            assert (await refusal(transport, peer.port, tls=mode)).status == "4.7.5"
            assert not any(command.startswith("MAIL") for command in peer.commands)
        transport.close()


@pytest.mark.parametrize("mode", ["may", "encrypt"])
async def test_a_host_that_ends_it_right_after_the_handshake(transport, tmp_path, mode):
    """With TLS 1.3 a client is done before it hears that the host wants a certificate of it."""
    context, chain = certificate(tmp_path, "peer.test")
    context.load_verify_locations(chain)
    context.verify_mode = ssl.CERT_REQUIRED
    async with serving(Peer(tls=context)) as peer:
        if mode == "may":
            assert short(await send(transport, peer.port, tls=mode)) == ["250 2.0.0 final"]
            assert not peer.mails[0].tls
        else:
            reply = await refusal(transport, peer.port, tls=mode)
            assert (reply.code, reply.status, reply.stage) == (451, "4.4.2", "ehlo")
        transport.close()


@pytest.mark.parametrize("mode", ["encrypt", "verify"])
async def test_tls_not_offered_where_it_must_be(transport, mode):
    async with serving(Peer()) as peer:
        assert (await refusal(transport, peer.port, tls=mode)).status == "4.7.4"
    assert not any(command.startswith("MAIL") for command in peer.commands)


async def test_tls_from_the_first_octet(transport, pair):
    async with serving(Peer(), implicit_tls=pair[0]) as peer:
        outcome = await send(transport, peer.port, scheme="smtps", tls="encrypt")
        transport.close()
    assert outcome.tls.endswith(" unverified")
    assert len(peer.mails) == 1


@pytest.mark.parametrize("words", [b"250 fake\r\n", b"250-fake\r\n250-SIZE 1\r\n", b"25"])
async def test_words_after_the_go_ahead_for_tls_are_never_heard(transport, words):
    script = [
        (b"", b"220 x\r\n"),
        (b"EHLO", b"250-x\r\n250 STARTTLS\r\n"),
        (b"STARTTLS\r\n", b"220 go\r\n" + words),
    ]
    async with reading(script) as (port, _):
        reply = await refusal(transport, port, tls="encrypt")
    assert (reply.code, reply.status, reply.stage) == (451, "4.5.0", "starttls")


# --- servers that mean no good

GREETING = [(b"", b"220 x\r\n"), (b"EHLO", b"250-x\r\n250 PIPELINING\r\n")]
MAIL = (b"DATA\r\n", b"250 ok\r\n250 ok\r\n354 go\r\n")
BEFORE = {
    "a cut instead of a banner": [],
    "a line without end as banner": [(b"", b"220 " + b"x" * (8 << 20))],
    "a banner without end": [(b"", b"220-x\r\n" * 1_000_000)],
    "octets that are no text": [(b"", bytes(range(256)) * 100)],
    "zeros": [(b"", bytes(5000))],
    "another protocol": [(b"", b"SSH-2.0-OpenSSH\r\n")],
    "a banner that refuses": [(b"", b"554 no\r\n")],
    "a banner that is busy": [(b"", b"421 busy\r\n")],
    "1yz as banner": [(b"", b"120 wait\r\n")],
    "a cut in the banner": [(b"", b"220 x")],
    "a cut instead of the reply to EHLO": GREETING[:1],
    "an EHLO reply without end": [GREETING[0], (b"EHLO", b"250-x\r\n" * 1_000_000)],
    "EHLO with two codes": [GREETING[0], (b"EHLO", b"250-x\r\n550 y\r\n")],
    "EHLO and more": [GREETING[0], (b"EHLO", b"250 x\r\n250 y\r\n")],
}
DURING = {
    "a cut instead of the reply to MAIL": (GREETING, "451 4.4.2 mail"),
    "a cut between replies": ([*GREETING, (b"DATA\r\n", b"250 ok\r\n")], "451 4.4.2 rcpt"),
    "354 to MAIL": ([*GREETING, (b"DATA\r\n", b"354 go\r\n")], "451 4.5.0 mail"),
    "250 to DATA": ([*GREETING, (b"DATA\r\n", b"250 ok\r\n" * 3)], "451 4.5.0 data"),
    "a code of four digits": ([*GREETING, (b"DATA\r\n", b"2200 x\r\n")], "451 4.5.0 mail"),
    "a line of 8 MiB": ([*GREETING, (b"DATA\r\n", b"250 " + b"y" * (8 << 20))], "451 4.5.0 mail"),
    "a reply without end": ([*GREETING, (b"DATA\r\n", b"250-y\r\n" * 1_000_000)], "451 4.5.0 mail"),
    "no octets after DATA": ([*GREETING, MAIL], "451 4.4.2 final"),
    "a cut after the dot": ([*GREETING, MAIL, (b"\r\n.\r\n", b"")], "451 4.4.2 final"),
    "half a reply to the message": ([*GREETING, MAIL, (b"\r\n.\r\n", b"250 o")], "451 4.4.2 final"),
    "354 to the message": ([*GREETING, MAIL, (b"\r\n.\r\n", b"354 more\r\n")], "451 4.5.0 final"),
    "no to the message": ([*GREETING, MAIL, (b"\r\n.\r\n", b"554 5.7.1 no\r\n")], "554 5.7.1 final"),
    "421 to the message": ([*GREETING, MAIL, (b"\r\n.\r\n", b"421 4.3.2 bye\r\n")], "421 4.3.2 final"),
    "yes, and then noise": ([*GREETING, MAIL, (b"\r\n.\r\n", b"250 ok\r\n\xff\xff")], "250 2.0.0 final"),
    "no before the message came": ([*GREETING, (b"DATA\r\n", MAIL[1] + b"552 5.3.4 big\r\n")], "552 5.3.4 final"),
}


@pytest.mark.parametrize("name", BEFORE)
async def test_hostile_before_the_first_mail(transport, name):
    async with reading(BEFORE[name]) as (port, _):
        reply = await refusal(transport, port)
    assert reply.stage in ("connect", "ehlo")
    assert reply.permanent is (name == "a banner that refuses")
    assert reply.text.isprintable()


@pytest.mark.parametrize("name", DURING)
async def test_hostile_during_a_mail(transport, name):
    script, expected = DURING[name]
    async with reading(script) as (port, _):
        assert short(await send(transport, port)) == [expected]
        transport.close()


SILENT = {
    "banner": ([], "connect"),
    "EHLO": (GREETING[:1], "ehlo"),
    "MAIL": (GREETING, "mail"),
    "message": ([*GREETING, MAIL], "final"),
    "one octet after the other": ([(b"", b"2")], "connect"),
}


@pytest.mark.parametrize("name", SILENT)
async def test_silence_has_an_end(executor, name):
    script, stage = SILENT[name]
    transport = Transport(CONFIG, executor, client_context, QUICK)
    async with reading(script, cut=False) as (port, _):
        try:
            [reply] = (await send(transport, port)).replies
        except Refused as refused:
            reply = refused.reply
    assert (reply.code, reply.status, reply.stage) == (451, "4.4.2", stage)


async def test_a_peer_that_does_not_read_has_an_end(executor, tmp_path):
    transport = Transport(CONFIG, executor, client_context, QUICK)
    body = tmp_path / "body"
    with body.open("wb") as file:
        file.truncate(64 << 20)
    hold = asyncio.Event()

    async def serve(reader, writer):
        for answer in (b"220 x\r\n", b"250-x\r\n250 PIPELINING\r\n", MAIL[1]):
            writer.write(answer)
            await reader.read(1000) if answer != MAIL[1] else None
        writer.transport.pause_reading()
        await hold.wait()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    [reply] = (await send(transport, server.sockets[0].getsockname()[1], content=Content(b"\r\n", str(body)))).replies
    assert (reply.code, reply.status, reply.stage) == (451, "4.4.2", "body")
    hold.set()
    server.close()
    await server.wait_closed()


def test_the_same_on_uvloop(executor, tmp_path):
    uvloop = pytest.importorskip("uvloop")
    context, _ = certificate(tmp_path, "peer.test")

    async def main():
        transport = Transport(CONFIG, executor, client_context)
        async with serving(Peer(tls=context)) as peer:
            outcomes = await asyncio.gather(*(send(transport, peer.port) for _ in range(10)))
            assert all(mail.tls for mail in peer.mails)
            assert [short(outcome) for outcome in outcomes] == [["250 2.0.0 final"]] * 10
            transport.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
