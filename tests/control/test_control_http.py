"""The HTTP listener: over real sockets, with the standard library's client and by hand, over a real queue."""

import asyncio
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from control_daemon import App, Daemon
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tls"))

from tls_certificates import make

from mtad import __version__
from mtad.config import Access, Address, Listen, Tls
from mtad.control.http import CONNECTIONS_MAX, HttpServer
from mtad.control.httpwire import HEAD_MAX_BYTES, Refused, Request, parse, read_head
from mtad.control.metrics import exposition, sample
from mtad.mail.reply import Reply
from mtad.tls import mta_sts

TOKEN = "correct-horse-battery"
ANY_PORT = Address("127.0.0.1", 0)
LATER = Reply(451, "4.7.1", "try again later", "mx.test", "rcpt")


class Listening(App):
    """A daemon whose listeners are what the test says."""

    listeners = ("smtp 127.0.0.1:25",)

    def status(self) -> Mapping[str, Any]:
        return {**super().status(), "listeners": list(self.listeners)}


class Web:
    """A server in the daemon's loop, and clients of it."""

    def __init__(self, daemon: Daemon, *, token: str = "", **options: Any) -> None:
        self.daemon = daemon
        self.app = Listening()
        config = replace(daemon.bench.config, listen=Listen(http=ANY_PORT), access=Access(admin_token=token))
        self.admin = replace(daemon.bench.admin, app=self.app, config=config)
        self.server = HttpServer(self.admin, ANY_PORT, **options)

    def __enter__(self) -> "Web":
        self.daemon.do(self.server.start())
        ((_, self.port),) = self.server.addresses()
        return self

    def __exit__(self, *_: object) -> None:
        self.daemon.do(self.server.stop())

    def get(self, path: str, token: str = "", method: str = "GET") -> tuple[int, http.client.HTTPMessage, str]:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(link):
            link.request(method, path, headers={"Authorization": f"Bearer {token}"} if token else {})
            answer = link.getresponse()
            return answer.status, answer.headers, answer.read().decode()

    def raw(self, octets: bytes, *, end: bool = True) -> bytes:
        """All that comes back until the server closes. A reset is a failure: it may cost the peer the reply."""
        with self.connect() as link:
            link.sendall(octets)
            if end:
                link.shutdown(socket.SHUT_WR)
            return everything(link)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 30)


def everything(link: socket.socket) -> bytes:
    return b"".join(iter(lambda: link.recv(65536), b""))


def status_of(octets: bytes) -> int:
    """Of exactly one whole reply."""
    head, _, body = octets.partition(b"\r\n\r\n")
    first, *fields = head.decode("ascii").split("\r\n")
    found = re.fullmatch(r"HTTP/1\.1 (\d{3}) [A-Za-z ]+", first)
    assert found, first
    named = {name.lower(): value for name, value in (field.split(": ", 1) for field in fields)}
    assert named["connection"] == "close"
    assert int(named["content-length"]) == len(body)
    return int(found[1])


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with tempfile.TemporaryDirectory(prefix="mtad-", dir="/tmp") as root, Daemon(Path(root)) as running:
        yield running


@pytest.fixture(scope="module")
def web(daemon: Daemon) -> Iterator[Web]:
    with Web(daemon) as serving:
        yield serving


# A reader of the exposition format, from its description alone: families are together, typed first, numbers parse.

_SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*",?)+)\})? (\S+)')
_LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\\n]|\\["\\n])*)"')
_UNESCAPED = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def read_exposition(text: str) -> tuple[dict[str, str], Samples]:
    types: dict[str, str] = {}
    samples: Samples = {}
    family = ""
    assert text.endswith("\n")
    for line in text.removesuffix("\n").split("\n"):
        if line.startswith("# TYPE "):
            family, kind = line.removeprefix("# TYPE ").split(" ")
            assert family not in types, f"{family} is typed twice"
            types[family] = kind
            continue
        found = _SAMPLE.fullmatch(line)
        assert found, line
        assert found[1] == family, f"{line} is not with its family"
        labels = tuple(
            (name, re.sub(r'\\["\\n]', lambda escape: _UNESCAPED[escape[0]], value))
            for name, value in _LABEL.findall(found[2] or "")
        )
        assert (family, labels) not in samples, f"{line} comes twice"
        samples[family, labels] = float(found[3])
    return types, samples


def test_families_stay_together_and_sorted() -> None:
    counters = {"mtad_a_total_more": 1, 'mtad_a_total{x="2"}': 2, "mtad_b": 3, 'mtad_a_total{x="1"}': 4}
    assert exposition(counters, {"mtad_g": 1.5}) == (
        '# TYPE mtad_a_total counter\nmtad_a_total{x="1"} 4\nmtad_a_total{x="2"} 2\n'
        "# TYPE mtad_a_total_more counter\nmtad_a_total_more 1\n"
        "# TYPE mtad_b counter\nmtad_b 3\n"
        "# TYPE mtad_g gauge\nmtad_g 1.5\n"
    )


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(["a", "a_b", "a_total", "b"]), st.text(max_size=8)),
        st.floats(allow_nan=False),
        min_size=1,
    )
)
def test_whatever_is_in_a_label_comes_back(made: dict[tuple[str, str], float]) -> None:
    text = exposition({}, {sample(family, "l", value): number for (family, value), number in made.items()})
    types, samples = read_exposition(text)
    assert samples == {(family, (("l", value),)): number for (family, value), number in made.items()}
    assert types == {family: "gauge" for family, _ in made}


def test_metrics_of_a_queue(short_dir: Path) -> None:
    with Daemon(short_dir) as daemon, Web(daemon) as web:
        daemon.accept("bob@a.test", "carol@a.test", size=1000, ago_s=50.0, reply=LATER)
        daemon.accept("dave@b.test", size=500)
        daemon.bench.admin.events.config_reloaded()
        status, headers, text = web.get("/metrics")
        assert status == 200
        assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        types, samples = read_exposition(text)
        recipients = {labels[0][1]: n for (family, labels), n in samples.items() if family == "mtad_queue_recipients"}
        assert recipients == {"active": 0, "ready": 1, "deferred": 2, "held": 0, "trashed": 0}
        assert samples["mtad_queue_messages", ()] == 2
        assert samples["mtad_queue_bytes", ()] == 1500
        assert 50 <= samples["mtad_queue_oldest_seconds", ()] < 3600
        assert samples["mtad_build_info", (("version", __version__),)] == 1
        assert samples["mtad_start_time_seconds", ()] <= time.time()
        assert samples["mtad_store_up", ()] == 1
        assert samples["mtad_disk_free_bytes", ()] > 0
        assert samples["mtad_config_reloads_total", (("result", "ok"),)] == 1
        assert types["mtad_config_reloads_total"] == "counter"
        assert types["mtad_queue_recipients"] == "gauge"
        assert "mtad_tls_cert_expiry_timestamp_seconds" not in types

        status, headers, text = web.get("/api/queue/stats")
        assert (status, headers["Content-Type"]) == (200, "application/json")
        told = json.loads(text)
        assert (told["messages"], told["size_bytes"], told["deferred"], told["ready"]) == (2, 1500, 2, 1)
        assert {row["domain"] for row in told["domains"]} == {"a.test", "b.test"}


def test_certificate_is_read_at_each_update(daemon: Daemon, tmp_path: Path) -> None:
    def expiry() -> float | None:
        return read_exposition(web.get("/metrics")[2])[1].get(("mtad_tls_cert_expiry_timestamp_seconds", ()))

    with Web(daemon) as web:
        assert expiry() is None
        for end in (1_900_000_000, 2_000_000_000):
            pair = make(tmp_path, start=1_700_000_000, end=end)
            web.server.update(replace(web.admin, config=replace(web.admin.config, tls=Tls(str(pair.cert), "key.pem"))))
            assert expiry() == end
        pair.cert.unlink()
        assert expiry() == end
        web.server.update(replace(web.admin, config=replace(web.admin.config, tls=Tls(str(pair.cert), "key.pem"))))
        assert expiry() is None


def test_health(short_dir: Path) -> None:
    with Daemon(short_dir) as daemon, Web(daemon, token=TOKEN) as web:
        status, headers, text = web.get("/health")
        assert (status, json.loads(text)) == (200, {"status": "ok"})
        assert headers["Cache-Control"] == "no-store"
        web.app.listeners = ()
        status, _, text = web.get("/health")
        assert status == 503
        assert json.loads(text) == {"status": "unavailable", "reasons": ["no listener is open"]}
        daemon.do(daemon.bench.store.close())
        status, _, text = web.get("/health")
        assert status == 503
        assert json.loads(text)["reasons"] == ["the queue does not answer", "no listener is open"]

        # Counters still come, numbers of a queue that does not answer do not.
        status, _, text = web.get("/metrics", TOKEN)
        _, samples = read_exposition(text)
        assert (status, samples["mtad_store_up", ()]) == (200, 0)
        assert ("mtad_queue_messages", ()) not in samples
        status, _, text = web.get("/api/queue/stats", TOKEN)
        assert (status, json.loads(text)) == (503, {"error": "the queue does not answer"})
        assert "error: store: the queue is closed" in daemon.bench.lines


def test_a_defect_is_told_by_its_number_only(daemon: Daemon) -> None:
    class Broken(Listening):
        def status(self) -> Mapping[str, Any]:
            raise RuntimeError("secret detail")

    with Web(daemon) as web:
        web.server.update(replace(web.admin, app=Broken()))
        status, _, text = web.get("/health")
        assert status == 500
        assert "secret" not in text
        number = re.search(r"under (e[0-9a-f]+-\d+)", text)
        assert number
        assert any(line.startswith(number[1]) and "secret detail" in line for line in daemon.bench.lines)
        web.server.update(web.admin)
        assert web.get("/health")[0] == 200


@pytest.mark.parametrize("path", ["/metrics", "/api/queue/stats", "http://mail.example.test/metrics?x=1"])
def test_token(daemon: Daemon, path: str) -> None:
    with Web(daemon, token=TOKEN) as web:
        assert web.get(path, TOKEN)[0] == 200
        for wrong in ("", "correct-horse-batter", TOKEN + "x", "é" * 20):
            status, headers, text = web.get(path, wrong)
            assert status == 401
            assert headers["WWW-Authenticate"].startswith("Bearer")
            assert TOKEN not in text
        for fields, status in {
            b"authorization:bearer   " + TOKEN.encode(): 200,
            b"Authorization: Basic " + TOKEN.encode(): 401,
            b"Authorization: " + TOKEN.encode(): 401,
            b"Authorization: Bearer wrong\r\nAuthorization: Bearer " + TOKEN.encode(): 400,
        }.items():
            assert status_of(web.raw(b"GET %s HTTP/1.0\r\n%s\r\n\r\n" % (path.encode(), fields))) == status


STS = "/.well-known/mta-sts.txt"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET %b HTTP/1.1\r\nHost: mta-sts.example.test\r\n\r\n", 200),
        (b"GET %b?x HTTP/1.1\r\nHost: MTA-STS.Example.Test:8080\r\n\r\n", 200),
        (b"GET https://mta-sts.example.test%b HTTP/1.1\r\nHost: other.test\r\n\r\n", 200),
        (b"GET https://other.test%b HTTP/1.1\r\nHost: mta-sts.example.test\r\n\r\n", 404),
        (b"GET %b HTTP/1.1\r\nHost: mta-sts.other.test\r\n\r\n", 404),
        (b"GET %b HTTP/1.1\r\nHost: example.test\r\n\r\n", 404),
        (b"GET %b HTTP/1.1\r\nHost: mta-sts.\xff\r\n\r\n", 404),
        (b"GET %b HTTP/1.1\r\nHost: \r\n\r\n", 404),
        (b"GET %b HTTP/1.0\r\n\r\n", 404),
        (b"POST %b HTTP/1.1\r\nHost: mta-sts.example.test\r\n\r\n", 405),
        (b"GET %b/ HTTP/1.1\r\nHost: mta-sts.example.test\r\n\r\n", 404),
    ],
)
def test_the_policy_of_our_domains_needs_no_token(daemon: Daemon, request_: bytes, status: int) -> None:
    """For a web server that passes it on; and nothing else does without."""
    with Web(daemon, token=TOKEN) as web:
        web.server.update(replace(web.admin, config=replace(web.admin.config, domains=("example.test",))))
        reply = web.raw(request_ % STS.encode())
        head, _, body = reply.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        if status == 200:
            assert b"\r\nContent-Type: text/plain\r\n" in head
            policy = mta_sts.parse_policy(body)
            assert (policy.mode, policy.mx) == ("testing", (web.admin.config.hostname,))
        assert web.raw(b"GET /metrics HTTP/1.1\r\nHost: mta-sts.example.test\r\n\r\n").startswith(b"HTTP/1.1 401 ")


def test_the_policy_follows_the_settings(daemon: Daemon) -> None:
    """As `dns records` prints it."""
    with Web(daemon) as web:
        dns = replace(web.admin.config.dns, sts_mode="enforce", sts_mx=("mx2.test",))
        config = replace(web.admin.config, domains=("example.test",), dns=dns)
        web.server.update(replace(web.admin, config=config))
        body = web.raw(f"GET https://mta-sts.example.test{STS} HTTP/1.0\r\n\r\n".encode()).partition(b"\r\n\r\n")[2]
        names = (config.hostname, "mx2.test")
        assert mta_sts.parse_policy(body) == mta_sts.Policy("enforce", names, 604_800)


def test_reload_changes_the_token_but_never_takes_it_from_an_address_nobody_vouched_for(daemon: Daemon) -> None:
    def with_token(token: str, address: Address | None) -> None:
        config = replace(web.admin.config, listen=Listen(http=address), access=Access(admin_token=token))
        web.server.update(replace(web.admin, config=config))

    with Web(daemon, token=TOKEN) as web:
        with_token("another-token-entirely", ANY_PORT)
        assert web.get("/metrics", TOKEN)[0] == 401
        assert web.get("/metrics", "another-token-entirely")[0] == 200
        for elsewhere in (None, Address("127.0.0.1", 9)):  # takes effect at the next start only
            with_token("", elsewhere)
            assert web.get("/metrics")[0] == 401
            assert web.get("/metrics", "another-token-entirely")[0] == 200
        with_token("", ANY_PORT)
        assert web.get("/metrics")[0] == 200


REQUESTS = [
    (b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", 200),
    (b"GET /health HTTP/1.0\r\n\r\n", 200),
    (b"GET /health?verbose=1 HTTP/1.0\n\n", 200),
    (b"\r\n\r\nGET /health HTTP/1.0\r\n\r\n", 200),
    (b"GET HTTP://x:80/health HTTP/1.1\r\nHost: x\r\nContent-Length: 00\r\n\r\n", 200),
    (b"GET /health HTTP/1.0\r\n\r\nGET /health HTTP/1.0\r\n\r\n", 200),  # one answer: the connection closes
    (b"GET / HTTP/1.0\r\n\r\n", 404),
    (b"GET /healthz HTTP/1.0\r\n\r\n", 404),
    (b"GET //health HTTP/1.0\r\n\r\n", 404),
    (b"GET /api/../metrics HTTP/1.0\r\n\r\n", 404),
    (b"GET http://x HTTP/1.0\r\n\r\n", 404),
    (b"GET /health HTTP/1.1\r\n\r\n", 400),
    (b"GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
    (b"GET /health HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400),
    (b"GET /health HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    (b"GET /health HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n", 400),
    (b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n", 400),
    (b"GET /health HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", 400),
    (b"GET health HTTP/1.0\r\n\r\n", 400),
    (b"GET * HTTP/1.0\r\n\r\n", 400),
    (b"GET /health\r\n\r\n", 400),
    (b"GET  /health HTTP/1.0\r\n\r\n", 400),
    (b"get /health HTTP/1.0\r\n\r\n", 405),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n", 400),  # TLS
    (b"EHLO x\r\n\r\n", 400),
    (b"GET /health HTTP/1.0\r\nHost: x\r\n", 400),  # ends early
    (b"GET /health", 400),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    (b"DELETE /api/queue/stats HTTP/1.0\r\n\r\n", 405),
    (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    (b"POST /health HTTP/1.0\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000, 405),
    (b"GET /health HTTP/1.0\r\nContent-Length: 1\r\n\r\nx", 413),
    (b"GET /health HTTP/1.0\r\nContent-Length: " + b"9" * 9000 + b"\r\n\r\n", 413),
    (b"GET /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 413),
    (b"GET /" + b"x" * HEAD_MAX_BYTES + b" HTTP/1.0\r\n\r\n", 431),
    (b"GET /health HTTP/1.0\r\n" + b"X: y\r\n" * (HEAD_MAX_BYTES // 6) + b"\r\n", 431),
    (b"\r\n" * HEAD_MAX_BYTES, 431),
    (b"x" * 200_000, 431),
    (b"GET /health HTTP/1.0\r\nX:" + b" " * 16_000 + b"\0\r\n\r\n", 400),
]


@pytest.mark.parametrize(("octets", "status"), REQUESTS, ids=lambda value: repr(value)[:40])
def test_requests(web: Web, octets: bytes, status: int) -> None:
    assert status_of(web.raw(octets)) == status


@pytest.mark.parametrize("octets", [b"", b"\r\n", b"\n\n\n"])
def test_who_asks_nothing_gets_nothing(web: Web, octets: bytes) -> None:
    assert web.raw(octets) == b""


def test_head_and_date(web: Web) -> None:
    for path in ("/health", "/metrics", "/nothing"):
        status, headers, text = web.get(path, method="HEAD")
        assert (status, text) == (404 if path == "/nothing" else 200, "")
        assert int(headers["Content-Length"]) > 0
        assert headers["Date"].endswith(" GMT")
    _, headers, _ = web.get("/health", method="PUT")
    assert headers["Allow"] == "GET, HEAD"


def test_deadline(daemon: Daemon) -> None:
    with Web(daemon, deadline_s=0.1) as web:
        assert status_of(web.raw(b"GET /health HTTP/1.0\r\n", end=False)) == 408
        assert status_of(web.raw(b"", end=False)) == 408


def test_too_many_connections(daemon: Daemon) -> None:
    with Web(daemon) as web, contextlib.ExitStack() as stack:
        links = [stack.enter_context(web.connect()) for _ in range(CONNECTIONS_MAX)]
        with web.connect() as one_more:
            assert status_of(everything(one_more)) == 503
        for link in links:
            link.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            link.shutdown(socket.SHUT_WR)
        assert {status_of(everything(link)) for link in links} == {200}


def test_stop_ends_idle_connections(daemon: Daemon) -> None:
    web = Web(daemon)
    with web:
        link = web.connect()
        assert web.get("/health")[0] == 200  # so the link before it was taken as well
        daemon.do(web.server.stop(0.0))
        assert web.server.addresses() == []
        with link:
            assert everything(link) == b""
        with pytest.raises(ConnectionRefusedError):
            web.connect()


def test_bind_error_names_the_address(daemon: Daemon, web: Web) -> None:
    with pytest.raises(OSError, match=rf"127\.0\.0\.1:{web.port}: Address already in use"):
        daemon.do(HttpServer(web.admin, Address("127.0.0.1", web.port)).start())


_WORDS = [
    b"GET ", b"HEAD ", b"POST ", b"/health", b"/metrics", b"http://x/", b" HTTP/1.1", b" HTTP/1.0", b"\r\n",
    b"\r\n\r\n", b"\n", b"\r", b" ", b"\t", b":", b"Host: x", b"Content-Length: 5", b"Authorization: Bearer x",
    b"\0", b"\xff",
]  # fmt: skip
_garbage = st.one_of(st.binary(max_size=300), st.lists(st.sampled_from(_WORDS), max_size=14).map(b"".join))
STATUSES = {200, 400, 404, 405, 413, 431, 505}


@settings(max_examples=150, deadline=None)
@given(_garbage)
def test_garbage_gets_one_proper_reply_or_none(web: Web, octets: bytes) -> None:
    said = web.raw(octets)
    if said and not octets.lstrip(b"\r\n").startswith(b"HEAD "):
        assert status_of(said) in STATUSES
    assert said or not octets.strip(b"\r\n")


@given(_garbage, st.lists(st.integers(0, 300), max_size=6))
def test_same_result_for_any_chunking(octets: bytes, cuts: list[int]) -> None:
    async def judge(chunks: list[bytes]) -> Request | int | None:
        reader = asyncio.StreamReader(limit=HEAD_MAX_BYTES)

        async def feed() -> None:
            for chunk in chunks:
                reader.feed_data(chunk)
                await asyncio.sleep(0)
            reader.feed_eof()

        feeding = asyncio.ensure_future(feed())
        try:
            lines = await read_head(reader)
            return parse(lines) if lines else None
        except Refused as refused:
            return refused.reply.status
        finally:
            await feeding

    at = [0, *sorted(cut for cut in cuts if cut < len(octets)), len(octets)]
    pieces = [octets[start:end] for start, end in pairwise(at)]
    with asyncio.Runner() as runner:
        assert runner.run(judge(pieces)) == runner.run(judge([octets]))


# The daemon itself


def run_daemon(root: Path, http_address: str, token: str = "") -> "subprocess.Popen[str]":
    write_settings(root, http_address, token)
    return subprocess.Popen(
        [sys.executable, "-m", "mtad", "run", "--root", str(root)], text=True, stderr=subprocess.PIPE,
        env={"PATH": os.environ["PATH"]}, cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip


def write_settings(root: Path, http_address: str, token: str = "") -> None:
    (root / "mtad.toml").write_text(
        'hostname = "mail.example.test"\ndomains = ["example.test"]\n'
        f'[listen]\nsmtp = ["127.0.0.1:0"]\nsubmission = []\nsubmissions = []\nhttp = "{http_address}"\n'
        f'[access]\nadmin_token = "{token}"\n[local]\ndeliver = "maildir://{root}/mail/%u"\n'
    )


def wait_for_line(process: "subprocess.Popen[str]", pattern: str) -> re.Match[str]:
    assert process.stderr
    for line in process.stderr:
        if found := re.search(pattern, line):
            return found
    raise AssertionError(f"the daemon ended without saying {pattern}")


def test_the_daemon_serves_reloads_and_stops(short_dir: Path) -> None:
    def get(path: str) -> int:
        link = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        with contextlib.closing(link):
            link.request("GET", path)
            return link.getresponse().status

    with run_daemon(short_dir, "127.0.0.1:0") as process:
        try:
            port = int(wait_for_line(process, r"listening http on 127\.0\.0\.1:(\d+)")[1])
            wait_for_line(process, " started ")
            assert [get(path) for path in ("/health", "/metrics", "/api/queue/stats")] == [200, 200, 200]
            write_settings(short_dir, "127.0.0.1:0", TOKEN)
            process.send_signal(signal.SIGHUP)
            wait_for_line(process, " configuration reloaded")
            assert [get(path) for path in ("/health", "/metrics", "/api/queue/stats")] == [200, 401, 401]
            process.terminate()
            wait_for_line(process, " stopped")
            assert process.wait(30) == 0
        finally:
            process.kill()


def test_the_daemon_says_in_one_line_that_the_address_is_taken(short_dir: Path, web: Web) -> None:
    with run_daemon(short_dir, f"127.0.0.1:{web.port}") as process:
        try:
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 73
    assert said.splitlines()[-1] == f"mtad: 127.0.0.1:{web.port}: Address already in use"
    assert "Traceback" not in said
