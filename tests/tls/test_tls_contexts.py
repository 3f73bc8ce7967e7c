"""Handshakes in memory: no sockets needed."""

import ssl
import time
from pathlib import Path

import private_ca
import pytest
from tls_certificates import Pair, make

from mtad.config import Tls
from mtad.tls.contexts import TlsError, client_context, server_context

NAME = "mail.example.test"


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    now = time.time()
    return make(tmp_path, NAME, start=now - 3600, end=now + 3600)


def settings(pair: Pair) -> Tls:
    return Tls(str(pair.cert), str(pair.key))


def shake(server: ssl.SSLContext, client: ssl.SSLContext, name: str = NAME) -> tuple[str, str]:
    """Protocol and cipher after a handshake between both."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname=name),
    ]
    for _ in range(10):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    cipher = ends[1].cipher()
    assert cipher is not None
    return ends[1].version() or "", cipher[0]


def test_no_certificate_no_context() -> None:
    assert server_context(Tls()) is None


@pytest.mark.parametrize("mode", ["may", "encrypt"])
def test_any_certificate_will_do(pair: Pair, mode: str) -> None:
    server = server_context(settings(pair))
    assert server is not None
    version, _ = shake(server, client_context(mode), "another.name.test")  # type: ignore[arg-type]
    assert version == "TLSv1.3"


def test_verify_wants_chain_and_name(pair: Pair) -> None:
    server = server_context(settings(pair))
    assert server is not None
    assert shake(server, client_context("verify", ca_file=str(pair.cert)))[0] == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake(server, client_context("verify", ca_file=str(pair.cert)), "another.name.test")
    with pytest.raises(ssl.SSLCertVerificationError, match="self-signed"):
        shake(server, client_context("verify"))


def test_a_name_in_the_subject_alone_is_no_name(tmp_path: Path) -> None:
    """MTA-STS asks for a DNS name in the extension (RFC 8461 4.1); others may put into a subject what they like."""
    authority = private_ca.make("authority", ca=True)
    authority.write(tmp_path / "ca")
    for names, good in (((NAME,), True), ((), False)):
        server = private_ca.make(NAME, authority, names=names).context(tmp_path / "host")
        client = client_context("verify", ca_file=str(tmp_path / "ca" / "chain.pem"))
        if good:
            assert shake(server, client)[0] == "TLSv1.3"
        else:
            with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
                shake(server, client)


def test_old_protocols_are_refused_and_ciphers_are_sensible(pair: Pair) -> None:
    server = server_context(settings(pair))
    assert server is not None
    assert server.minimum_version == ssl.TLSVersion.TLSv1_2
    client = client_context("may")
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    assert shake(server, client)[0] == "TLSv1.2"
    for cipher in server.get_ciphers():
        assert cipher["name"].startswith(("TLS_", "ECDHE-"))
        assert "GCM" in cipher["name"] or "CHACHA20" in cipher["name"]


def test_broken_pairs_say_which_file(tmp_path: Path, pair: Pair) -> None:
    now = time.time()
    other = make(tmp_path / "other", start=now, end=now + 60)
    locked = make(tmp_path / "locked", start=now, end=now + 60, password=b"geheim")
    cases = {
        Tls(str(pair.cert), str(other.key)): f"{other.key} does not belong to the certificate {pair.cert}",
        Tls(str(locked.cert), str(locked.key)): f"{locked.key} has a passphrase",
        Tls(str(pair.cert), str(tmp_path / "none")): f"{tmp_path}/none cannot be read: No such file",
        Tls(str(pair.cert), ""): "there is no key",
        Tls("", str(pair.key)): "there is no certificate",
        Tls(str(pair.key), str(pair.key)): f"{pair.key} with {pair.key} cannot be used: ",
    }
    for tls, wanted in cases.items():
        with pytest.raises(TlsError) as caught:
            server_context(tls)
        assert str(caught.value).startswith(wanted)
    with pytest.raises(TlsError, match="none cannot be used: No such file"):
        client_context("verify", ca_file=str(tmp_path / "none"))
    with pytest.raises(TlsError, match="cannot be used"):
        client_context("verify", ca_file=str(pair.key))
