"""The HTTPS client against a server that answers as it is told."""

import asyncio
import ssl

import private_ca
import pytest
from private_ca import Web, serving

from mtad.tls import https
from mtad.tls.contexts import client_context
from mtad.tls.https import Answer, HttpsError

HOST = "mta-sts.d.example"


@pytest.fixture(scope="module")
def trust(tmp_path_factory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Server's and client's."""
    folder = tmp_path_factory.mktemp("https")
    root = private_ca.make("root", ca=True)
    (folder / "root.pem").write_bytes(root.pem())
    return private_ca.make(HOST, root).context(folder), client_context("verify", ca_file=str(folder / "root.pem"))


async def ask(web, trust, *, host=HOST, addresses=("127.0.0.1",), **options) -> Answer:
    async with serving(web, trust[0]):
        return await https.request(host, addresses, "/p?q", trust[1], port=web.port, **options)


async def failure(web, trust, **options) -> str:
    with pytest.raises(HttpsError) as caught:
        await ask(web, trust, **options)
    return str(caught.value)


async def test_a_get(trust):
    web = Web().says(b"hello")
    assert await ask(web, trust) == Answer(200, "text/plain", b"hello")
    [asked] = web.asked
    assert asked.startswith(b"GET /p?q HTTP/1.1\r\nHost: mta-sts.d.example\r\n")


async def test_a_post(trust):
    web = Web().says(b"", "201 Created")
    assert (await ask(web, trust, body=b"\x00octets", media_type="application/x")).status == 201
    [asked] = web.asked
    assert asked.startswith(b"POST /p?q ")
    assert b"\r\nContent-Type: application/x\r\nContent-Length: 7\r\n" in asked
    assert asked.endswith(b"\r\n\r\n\x00octets")


@pytest.mark.parametrize(
    ("octets", "body"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nto the end", b"to the end"),
        (b"HTTP/1.0 200\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\ncontent-length:2\n\nabcd", b"ab"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n",
         b"abc0123456789"),
    ],
)  # fmt: skip
async def test_every_way_to_end_a_body(trust, octets, body):
    assert (await ask(Web(octets), trust)).body == body


async def test_redirects_are_answers_like_others(trust):
    web = Web().says(b"", "301 Moved", extra="Location: https://elsewhere.example/\r\n")
    assert (await ask(web, trust)).status == 301
    assert len(web.asked) == 1


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        (b"", "closed the connection before"),
        (b"SSH-2.0-x\r\n\r\n", "not HTTP/1.1"),
        (b"HTTP/2 200\r\n\r\n", "not HTTP/1.1"),
        (b"HTTP/1.1 abc\r\n\r\n", "not HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n", "which is more than 10"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", "closed the connection before"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nabc", "no length"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 20, "more than 10"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nB\r\n", "more than 10"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n", "does not end"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "no length"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000 + b"\r\n", "too long"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000, "line of the answer is too long"),
    ],
)
async def test_bad_answers(trust, octets, words):
    assert words in await failure(Web(octets), trust, max_bytes=10)


async def test_a_server_that_is_silent(trust):
    assert "no answer within" in await failure(Web(gate=asyncio.Event()), trust, timeout_s=0.2)


async def test_the_certificate_must_be_for_the_host(trust):
    with pytest.raises(HttpsError) as caught:
        await ask(Web().says(b"x"), trust, host="mta-sts.other.example")
    assert caught.value.certificate
    assert str(caught.value) == "127.0.0.1: its certificate is not for mta-sts.other.example"


async def test_the_certificate_must_be_trusted(trust):
    with pytest.raises(HttpsError) as caught:
        await ask(Web().says(b"x"), (trust[0], client_context("verify")))
    assert caught.value.certificate
    assert str(caught.value).startswith("127.0.0.1: its certificate cannot be verified: ")


async def test_the_certificate_must_not_be_over(tmp_path):
    root = private_ca.make("root", ca=True)
    (tmp_path / "root.pem").write_bytes(root.pem())
    over = private_ca.make(HOST, root, start=-2 * private_ca.DAY, end=-private_ca.DAY).context(tmp_path)
    with pytest.raises(HttpsError) as caught:
        await ask(Web().says(b"x"), (over, client_context("verify", ca_file=str(tmp_path / "root.pem"))))
    assert str(caught.value) == "127.0.0.1: its certificate has expired"


async def test_a_server_that_speaks_no_tls(trust):
    async def serve(reader, writer):
        writer.write(b"220 no web server\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(HttpsError, match=r"^127\.0\.0\.1: the TLS connection failed: [a-z0-9 ]+$"):
            await https.request(HOST, ["127.0.0.1"], "/", trust[1], port=port)


async def test_a_server_that_is_not_there(trust):
    with pytest.raises(HttpsError, match=r"^127\.83\.1\.254: connection refused$"):
        await https.request(HOST, ["127.83.1.254"], "/", trust[1], port=1)


async def test_the_next_address_is_tried(trust):
    web = Web().says(b"x")
    assert (await ask(web, trust, addresses=("127.83.1.254", "127.0.0.1"))).body == b"x"
    assert "no address" in await failure(web, trust, addresses=())
