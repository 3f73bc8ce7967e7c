"""The certificates of the listeners: by name, renewed, broken; and those of clients."""

import ssl
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st
from tls_certificates import Pair, make

from mtad.config import CertificateFiles, Tls
from mtad.tls import certificates as rules
from mtad.tls.certificates import Certificate, choose, index
from mtad.tls.contexts import ServerContext, TlsError, client_context, server_context

HOUR = 3600.0


def pair(folder: Path, *names: str) -> Pair:
    now = time.time()
    return make(folder, *names, start=now - HOUR, end=now + 30 * 86400)


@pytest.fixture
def several(tmp_path: Path) -> Tls:
    """mail.a.test by default; b.test and one label below it; mail.c.test."""
    first, second, third = (
        pair(tmp_path / "a", "mail.a.test"),
        pair(tmp_path / "b", "b.test", "*.b.test", "Both.test"),
        pair(tmp_path / "c", "mail.c.test", "both.test"),
    )
    more = tuple(CertificateFiles(str(one.cert), str(one.key)) for one in (second, third))
    return Tls(str(first.cert), str(first.key), certificates=more)


def context(tls: Tls) -> ServerContext:
    made = server_context(tls)
    assert made is not None
    return made


def shake(server: ssl.SSLContext, client: ssl.SSLContext, name: str | None) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends after the handshake: (server, client)."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname=name),
    )
    for _ in range(10):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends


def names_got(server: ssl.SSLContext, name: str | None) -> list[str]:
    _, client = shake(server, client_context("may"), name)
    leaf = x509.load_der_x509_certificate(client.getpeercert(binary_form=True) or b"")
    san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return list(san.get_values_for_type(x509.DNSName))


@pytest.mark.parametrize(
    ("asked", "got"),
    [
        ("mail.a.test", "mail.a.test"),
        ("b.test", "b.test"),
        ("MAIL.B.Test", "b.test"),
        ("x.y.b.test", "mail.a.test"),
        ("mail.c.test", "mail.c.test"),
        ("both.test", "b.test"),
        ("unknown.test", "mail.a.test"),
        ("192.0.2.1", "mail.a.test"),
        ("x" * 63 + ".test", "mail.a.test"),
        (None, "mail.a.test"),
    ],
)
def test_the_certificate_is_the_one_for_the_name(several: Tls, asked: str | None, got: str) -> None:
    assert names_got(context(several), asked)[0] == got


def test_both_contexts_know_all_certificates(several: Tls) -> None:
    with_clients = replace(several, client_ca=several.cert)
    for front in (context(several), context(with_clients), context(with_clients).users):
        assert names_got(front, "mail.c.test")[0] == "mail.c.test"
        assert [one.names[0] for one in front.certificates] == ["mail.a.test", "b.test", "mail.c.test"]


def test_the_session_knows_which_certificate_it_has(several: Tls) -> None:
    """For channel binding: the hash is that of the certificate which the client saw."""
    for name in ("mail.a.test", "mail.c.test"):
        ours, theirs = shake(context(several), client_context("may"), name)
        assert isinstance(ours.context, ServerContext)
        assert ours.context.leaf == theirs.getpeercert(binary_form=True)


def test_only_users_are_asked_for_a_certificate(tmp_path: Path, several: Tls) -> None:
    known, unknown = pair(tmp_path / "client", "client.test"), pair(tmp_path / "stranger", "stranger.test")
    server = context(replace(several, client_ca=str(known.cert)))
    client = client_context("may")
    client.load_cert_chain(known.cert, known.key)
    for name in ("mail.a.test", "mail.c.test"):
        ours, _ = shake(server.users, client, name)
        leaf = x509.load_pem_x509_certificate(known.cert.read_bytes())
        assert x509.load_der_x509_certificate(ours.getpeercert(binary_form=True) or b"") == leaf
    assert shake(server.users, client_context("may"), None)[0].getpeercert(binary_form=True) is None
    stranger = client_context("may")
    stranger.load_cert_chain(unknown.cert, unknown.key)
    assert shake(server, stranger, None)[0].getpeercert(binary_form=True) is None
    with pytest.raises(ssl.SSLCertVerificationError, match="self-signed"):
        shake(server.users, stranger, None)


def test_nobody_is_asked_by_default(several: Tls) -> None:
    server = context(several)
    assert server.users is server
    assert server.verify_mode is ssl.CERT_NONE


def test_one_broken_file_refuses_them_all(tmp_path: Path, several: Tls) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n")
    key = several.certificates[1].key
    for tls, wanted in (
        (replace(several, certificates=(CertificateFiles(str(broken), key),)), f"{broken} with {key} cannot be used"),
        (replace(several, certificates=(CertificateFiles(several.cert, key),)), f"{key} does not belong to"),
        (replace(several, client_ca=str(broken)), f"{broken} cannot be used"),
        (replace(several, client_ca=str(tmp_path / "none")), f"{tmp_path}/none cannot be used: No such file"),
    ):
        with pytest.raises(TlsError) as caught:
            server_context(tls)
        assert str(caught.value).startswith(wanted)


# The rules alone


def named(*names: str, end: float = 0.0) -> Certificate:
    return Certificate("/a.pem", "/a.key", names, end, b"")


@given(st.text(max_size=300) | st.none())
def test_any_text_is_fit_to_ask_with(asked: str | None) -> None:
    by_name = index([named("a.test"), named("*.b.test"), named("")])
    assert choose(by_name, asked) in (0, 1)


@pytest.mark.parametrize("asked", ["*.b.test", ".b.test", "b.test", "..", ".", "*", "x.y.b.test", "x.b.test.x"])
def test_a_wildcard_is_for_one_label(asked: str) -> None:
    by_name = index([named("a.test"), named("*.b.test")])
    assert choose(by_name, asked) == (1 if asked == "*.b.test" else 0)
    assert choose(by_name, "x.b.test") == choose(by_name, "X.B.test.") == 1


def test_files_at_rest_that_changed(tmp_path: Path) -> None:
    path = tmp_path / "cert.pem"
    path.write_text("one")
    paths = [str(path), str(tmp_path / "none")]
    before = rules.stamps(paths)
    written_at = path.stat().st_mtime
    assert before[1] == (paths[1], None)
    assert not rules.renewed(before, rules.stamps(paths), written_at + 100)
    path.write_text("longer")
    seen = rules.stamps(paths)
    written_at = path.stat().st_mtime
    assert not rules.renewed(before, seen, written_at + 0.1), "somebody is writing"
    assert rules.renewed(before, seen, written_at + rules.AT_REST_S)
    assert rules.renewed(before, seen, written_at - 1000), "a clock that was set back does not hide a renewal"
    path.unlink()
    assert rules.renewed(before, rules.stamps(paths), written_at)


def test_a_link_that_points_elsewhere_is_a_change(tmp_path: Path) -> None:
    """How ACME clients renew: live/cert.pem is a link into an archive."""
    for name in ("cert1.pem", "cert2.pem"):
        (tmp_path / name).write_text("same")
    link = tmp_path / "cert.pem"
    link.symlink_to("cert1.pem")
    before = rules.stamps([str(link)])
    link.unlink()
    link.symlink_to("cert2.pem")
    assert rules.renewed(before, rules.stamps([str(link)]), time.time() + 60)


def test_what_ends_soon_is_told() -> None:
    now = 1_800_000_000.0
    soon = [named(end=now - 1), named(end=now + 3 * 86400), named(end=now + 8 * 86400)]
    assert rules.expiring(soon, now) == ["/a.pem has expired", "/a.pem expires in 3.0 days"]
    assert rules.remaining(soon[2], now) == "expires in 8.0 days"
