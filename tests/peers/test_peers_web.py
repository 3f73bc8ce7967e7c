"""The lines of docs/dns.md for a web server in front of the daemon's MTA-STS policy, as they stand there."""

import http.client
import re
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from peer_mtad import REPOSITORY, Mtad
from peer_process import Process, answers, free_port, open_parents, program

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tls"))

import private_ca

pytestmark = pytest.mark.peer

NAME = "mta-sts.example.test"
AUTHORITY = private_ca.make("Authority", ca=True)
NGINX = """\
daemon off; worker_processes 1; pid {base}/pid; error_log stderr;
events {{ }}
http {{
    access_log off; client_body_temp_path {base}/t1; proxy_temp_path {base}/t2; fastcgi_temp_path {base}/t3;
    uwsgi_temp_path {base}/t4; scgi_temp_path {base}/t5;
    server {{
        listen 127.0.0.1:{port} ssl; server_name {name}; ssl_certificate {cert}; ssl_certificate_key {key};
{lines}
    }}
}}
"""
CADDY = """\
{{
    admin off
    storage file_system {base}/storage
    auto_https disable_redirects
    https_port {port}
}}
{lines}
"""


def lines_of(server: str) -> str:
    """What docs/dns.md shows for it: the indented lines after the comment that begins with its name."""
    text = (REPOSITORY / "docs" / "dns.md").read_text()
    (found,) = re.findall(rf"^    # {server}\b.*\n((?:    .+\n)+)", text, re.MULTILINE)
    return str(found)


def start_nginx(base: Path, http_port: int, port: int) -> Process:
    cert, key = private_ca.make(NAME, AUTHORITY).write(base)
    lines = lines_of("nginx").replace(":8080", f":{http_port}")
    (base / "conf").write_text(NGINX.format(base=base, port=port, name=NAME, cert=cert, key=key, lines=lines))
    return Process([program("nginx"), "-e", "stderr", "-p", str(base), "-c", str(base / "conf")], base / "log")


def start_caddy(base: Path, http_port: int, port: int) -> Process:
    """With a certificate of the test's authority: to get one by itself it needs the world."""
    cert, key = private_ca.make(NAME, AUTHORITY).write(base)
    lines = lines_of("Caddy").replace(":8080", f":{http_port}")
    given = re.sub(r"\{\n", f"{{\n    bind 127.0.0.1\n    tls {cert} {key}\n", lines, count=1)
    assert given != lines
    (base / "Caddyfile").write_text(CADDY.format(base=base, port=port, lines=given))
    return Process(
        [program("caddy"), "run", "--config", str(base / "Caddyfile"), "--adapter", "caddyfile"],
        base / "log",
        env={"HOME": str(base)},
    )


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mtad, int]]:
    """mtad with an HTTP listener, and its port."""
    mtad, port = Mtad(tmp_path_factory.mktemp("web") / "mtad"), free_port()
    file = mtad.root / "mtad.toml"
    file.write_text(file.read_text().replace("[listen]\n", f'[listen]\nhttp = "127.0.0.1:{port}"\n'))
    try:
        yield mtad.start(), port
    finally:
        mtad.stop()


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(start, marks=pytest.mark.skipif(not program(name), reason=f"{name} is not installed"), id=name)
        for name, start in (("nginx", start_nginx), ("caddy", start_caddy))
    ],
)
def test_a_web_server_passes_the_policy_on(
    host: tuple[Mtad, int], start: Callable[[Path, int, int], Process], short_dir: Path
) -> None:
    mtad, http_port = host
    port = free_port()
    open_parents(short_dir)
    server = start(short_dir, http_port, port)
    try:
        server.ready("the web server listens", lambda: answers(port))
        status, media_type, policy = fetched(port, "/.well-known/mta-sts.txt")
        assert (status, media_type) == (200, "text/plain")
        ours = mtad.mtactl("dns", "records", "example.test", "--format", "mta-sts").stdout
        assert policy.decode().splitlines() == ours.splitlines()
        assert "mx: mail.example.test" in ours.splitlines()
        assert b"mtad" not in fetched(port, "/metrics")[2]  # the policy, and nothing else
    finally:
        server.stop()


def fetched(port: int, path: str) -> tuple[int, str, bytes]:
    """Status, media type and body, of the name that senders ask for, with a certificate that is good for it."""
    context = ssl.create_default_context(cadata=AUTHORITY.pem().decode())
    connection = http.client.HTTPSConnection(NAME, port, timeout=10, context=context)
    connection._create_connection = lambda _, *more: socket.create_connection(("127.0.0.1", port), *more)  # type: ignore[attr-defined]
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.headers.get_content_type(), reply.read()
    finally:
        connection.close()
