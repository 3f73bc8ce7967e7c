"""BDAT and the wishes of DSN against real servers: what we send is what they keep."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import peer_dovecot
import peer_postfix
import pytest

from mtad.config import Config, Delivery, Paths
from mtad.mail.envelope import Content, Envelope, Rcpt
from mtad.outbound.route import Host, Remote
from mtad.outbound.transport import Outcome, Transport
from mtad.tls.contexts import client_context

pytestmark = pytest.mark.peer

HEAD = b"From: a@x.test\r\nSubject: chunks\r\n\r\n"
LINES = b"".join(b"%06d .\r\n.%s\r\n" % (n, b"x" * (n % 70)) for n in range(8000))


async def send(remote: Remote, envelope: Envelope, body: bytes | str, size_bytes: int) -> Outcome:
    config = Config("me.test", ("me.test",), Paths("", "/d", "/r"), delivery=Delivery())
    with ThreadPoolExecutor(1) as executor:
        transport = Transport(config, executor, client_context)
        outcome = await transport.deliver(remote, remote.hosts[0], envelope, Content(HEAD, body), size_bytes)
        transport.close()
        await asyncio.sleep(0)
    return outcome


@pytest.mark.skipif(bool(peer_postfix.missing()), reason=peer_postfix.missing() or "-")
async def test_postfix_takes_chunks(short_dir: Path) -> None:
    postfix = peer_postfix.Postfix(short_dir, {"virtual_mailbox_domains": "remote.test"}).start()
    try:
        remote = Remote((Host("localhost", "127.0.0.1", postfix.port),))
        rcpt = Rcpt("b@remote.test", "SUCCESS,FAILURE", "rfc822;B+2Bx@Remote.Test")
        envelope = Envelope("a@x.test", (rcpt,), ret="HDRS", envid="Q+2Bq")
        (short_dir / "body").write_bytes(LINES)
        outcome = await send(remote, envelope, str(short_dir / "body"), len(HEAD + LINES))
        assert [reply.code for reply in outcome.replies] == [250]
        assert outcome.offers_dsn
        outcome = await send(remote, envelope, b".no end", len(HEAD) + 7)
        assert [reply.code for reply in outcome.replies] == [250]
        small, large = sorted(await asyncio.to_thread(postfix.mails, 2), key=len)
        assert large.endswith(LINES.replace(b"\r\n", b"\n"))
        assert small.endswith(b"\n\n.no end\n")
        assert b"\nX-Original-To: b@remote.test\n" in small
    finally:
        postfix.stop()


@pytest.mark.skipif(bool(peer_dovecot.missing()), reason=peer_dovecot.missing() or "-")
async def test_dovecot_takes_chunks(short_dir: Path) -> None:
    dovecot = peer_dovecot.Dovecot(short_dir / "dovecot").start()
    try:
        remote = Remote((Host("", str(dovecot.socket), 0),), "lmtp")
        envelope = Envelope("a@x.test", (Rcpt("bob@example.test"), Rcpt("nobody@example.test")))
        (short_dir / "body").write_bytes(LINES)
        outcome = await send(remote, envelope, str(short_dir / "body"), len(HEAD + LINES))
        assert outcome.replies[0].code == 250
        (mail,) = await asyncio.to_thread(dovecot.mails, "bob")
        assert mail.replace(b"\r\n", b"\n").endswith(LINES.replace(b"\r\n", b"\n"))
    finally:
        dovecot.stop()
