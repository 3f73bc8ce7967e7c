"""The second connection to a server resumes the TLS session of the first, if it is checked in the same way."""

import ssl
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from smtp_peer import Peer, certificate, serving

from mtad.config import Config, Delivery, Paths
from mtad.mail.envelope import Content, Envelope, Rcpt
from mtad.outbound.route import Host, Remote
from mtad.outbound.transport import Transport
from mtad.tls.contexts import client_context
from mtad.tls.requirement import Requirement
from mtad.tls.sessions import SESSIONS_MAX, ResumingContext

CONTENT = Content(b"Subject: hi\r\n\r\n", b"one\r\n")
ENVELOPE = Envelope("a@x.test", (Rcpt("b@y.test"),))


class Watched(Peer):
    """Notes for each connection whether its session was resumed."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(tls=context)
        self.resumed: list[bool] = []

    async def _session(self, reader, writer) -> None:
        try:
            await super()._session(reader, writer)
        finally:
            tls = writer.get_extra_info("ssl_object")
            if tls is not None:
                self.resumed.append(tls.session_reused)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("tls"), "peer.test")


@pytest.fixture
def transport(pair):
    config = Config("me.test", ("me.test",), Paths("", "/d", "/r"), delivery=Delivery())
    failed = []
    with ThreadPoolExecutor(1) as executor:
        made = Transport(
            config,
            executor,
            partial(client_context, ca_file=pair[1]),
            tls_seen=lambda host, ip, fault: failed.append(fault) if fault else None,
        )
        made.failed = failed
        yield made
        made.close()


async def twice(transport, peer, *levels):
    """Connections one after the other, each of one mail."""
    said = []
    for level in levels:
        host = Host("peer.test", "127.0.0.1", peer.port, Requirement(level))
        outcome = await transport.deliver(Remote((host,)), host, ENVELOPE, CONTENT, 10)
        said.append(outcome.tls)
        transport._quit_idle()
    return said


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("level", ["may", "encrypt", "verify"])
async def test_the_second_connection_resumes(transport, tmp_path, pair, level, version):
    context, _ = pair
    context.maximum_version = version
    async with serving(Watched(context)) as peer:
        said = await twice(transport, peer, level, level)
    assert peer.resumed == [False, True]
    assert said[0] == said[1]
    assert said[1].endswith("unverified") is (level != "verify")
    assert len(peer.mails) == 2


async def test_a_session_counts_only_for_the_same_way_of_checking(transport, pair):
    async with serving(Watched(pair[0])) as peer:
        await twice(transport, peer, "may", "verify", "encrypt")
    assert peer.resumed == [False, False, False]


async def test_a_server_that_forgot_is_no_failure(transport, pair, tmp_path):
    """Another server at the same name, with keys of its own: the session is of no use, and TLS comes about."""
    async with serving(Watched(pair[0])) as peer:
        await twice(transport, peer, "may")
    other, _ = certificate(tmp_path, "peer.test")
    async with serving(Watched(other)) as peer:
        said = await twice(transport, peer, "may")
    assert peer.resumed == [False]
    assert said[0].startswith("TLS")
    assert transport.failed == []


def test_sessions_are_bounded_and_only_kept_where_asked():
    class Session:
        has_ticket = True

    class Connection:
        session = Session()

        def __init__(self, name):
            self.server_hostname = name

    context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
    context.remember(Connection("a.test"))
    assert not context.knows("a.test")
    context.resumes = True
    for number in range(SESSIONS_MAX + 1):
        context.remember(Connection(f"h{number}.test"))
    assert not context.knows("h0.test")
    assert context.knows(f"h{SESSIONS_MAX}.test")
    context.forget("h1.test")
    assert not context.knows("h1.test")
