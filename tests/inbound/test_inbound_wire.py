"""Properties of whole sessions over real sockets: TLS, sign-in, DATA and BDAT in any pieces; noise."""

import re
import socket
import ssl
from base64 import b64encode
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inbound_house import PASSWORD
from inbound_thread import Served, served

REPLY = re.compile(rb"(?:[2-5][0-9]{2}-[ -~]*\r\n)*[2-5][0-9]{2} [ -~]*\r\n")
ID = re.compile(rb"\b[0-9a-z]{12}\b")
VARIES = re.compile(rb"FUTURERELEASE [^\r]*|(?:\w{3}, )?\d+ \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}|127\.0\.0\.1\]:\d+")
PLAIN = b64encode(b"\0alice@example.test\0" + PASSWORD.encode())
BEFORE = b"EHLO client.test\r\nNOOP\r\nSTARTTLS\r\n"
WITHIN = (
    b"EHLO client.test\r\nMAIL FROM:<alice@example.test>\r\nAUTH PLAIN " + b64encode(b"\0a\0b") + b"\r\n"
    b"AUTH LOGIN\r\n*\r\nAUTH PLAIN\r\n" + PLAIN + b"\r\nAUTH PLAIN " + PLAIN + b"\r\n"
    b"MAIL FROM:<alice@example.test> SIZE=100 HOLDFOR=3600\r\nRCPT TO:<x@far.test>\r\nRCPT TO:<bob@example.test>\r\n"
    b"DATA\r\nFrom: alice@example.test\r\nDate: now\r\n\r\n..dot\r\n.\r\n"
    b"MAIL FROM:<alice@example.test> BODY=BINARYMIME\r\nRCPT TO:<bob@example.test>\r\n"
    b"BDAT 30\r\nFrom: alice@example.test\r\n\r\n.\rBDAT 4 LAST\r\n\n\0\xff."
    b"RSET\r\nQUIT\r\nNOOP\r\n"
)
WIRE = settings(max_examples=30, deadline=None)


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(connections_per_ip=500) as made:
        yield made


def connect(server: Served, source: str) -> socket.socket:
    sock = socket.create_connection(server.place(source), timeout=30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def replies(sock: socket.socket, count: int) -> bytes:
    """The octets of so many replies."""
    said = b""
    while len(re.findall(rb"^[2-5][0-9]{2} ", said, re.MULTILINE)) < count or not said.endswith(b"\r\n"):
        octets = sock.recv(65536)
        assert octets, said
        said += octets
    return said


def rest(sock: socket.socket) -> bytes:
    said = b""
    try:
        while octets := sock.recv(65536):
            said += octets
    except (ConnectionResetError, ssl.SSLEOFError):
        pass
    return said


def trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def cut(octets: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted({at for at in cuts if at < len(octets)}), len(octets)]
    return [octets[start:end] for start, end in pairwise(edges)]


def session(server: Served, before: list[int], within: list[int]) -> tuple[bytes, list[bytes]]:
    """All replies and the mails of them; each piece is a segment, and within TLS a record."""
    known = server.mails().keys()
    with connect(server, "submission") as sock:
        said = replies(sock, 1)
        for piece in cut(BEFORE, before):
            sock.sendall(piece)
        said += replies(sock, 3)
        with trusting().wrap_socket(sock) as secure:
            for piece in cut(WITHIN, within):
                secure.sendall(piece)
            said += rest(secure)
    mails = [octets for name, octets in sorted(server.mails().items()) if name not in known]
    return mask(said), [mask(octets) for octets in mails]


def mask(octets: bytes) -> bytes:
    return ID.sub(b"ID", VARIES.sub(b"-", octets))


@WIRE
@given(
    before=st.lists(st.integers(1, len(BEFORE) - 1), max_size=10),
    within=st.lists(st.integers(1, len(WITHIN) - 1), max_size=40),
)
def test_any_pieces_are_the_same_session(server: Served, before: list[int], within: list[int]) -> None:
    whole = session(server, [], [])
    assert whole[0].count(b"\r\n250 2.0.0 ID queued") == 2
    assert b"\r\n235 " in whole[0]
    assert len(whole[1]) == 2
    assert session(server, before, within) == whole


def test_octet_by_octet_is_the_same_session(server: Served) -> None:
    assert session(server, list(range(1, 1000)), list(range(1, 1000))) == session(server, [], [])


TOKENS = st.sampled_from(
    [b"EHLO ", b"MAIL FROM:", b"RCPT TO:", b"DATA\r\n", b"\r\n.\r\n", b"BDAT ", b" LAST", b"AUTH PLAIN ", b"<", b">",
     b"\r\n", b"\n", b"\r", b"\0", b"alice@example.test", b"STARTTLS\r\n", b"RSET\r\n", b"5", b" ", b"=", b"x" * 3000]
)  # fmt: skip
NOISE = st.lists(st.one_of(TOKENS, st.binary(max_size=30)), max_size=40).map(b"".join)


@settings(max_examples=150, deadline=None)
@given(octets=NOISE, source=st.sampled_from(["smtp", "submission"]))
def test_noise_gets_whole_replies_and_an_end(server: Served, octets: bytes, source: str) -> None:
    """And no more of them than lines were said; never the inside of ours."""
    server.house.log.clear()
    with connect(server, source) as sock:
        sock.sendall(octets + b"\r\n")
        sock.shutdown(socket.SHUT_WR)
        said = rest(sock)
    assert re.fullmatch(rb"(?:" + REPLY.pattern + rb")*", said), said
    assert b"Traceback" not in said
    assert b"Error" not in said
    count = len(re.findall(rb"^[2-5][0-9]{2} ", said, re.MULTILINE))
    assert count <= 2 + octets.count(b"\n") + octets.upper().count(b"BDAT")
    assert not [line for line in server.house.log if "internal error" in line]
