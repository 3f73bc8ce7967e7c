"""The parsers of what strangers prove or answer: chains of ARC and of certificates, DNS replies, key pairs."""

import base64
import hashlib

import dkim
import dns.exception
import dns.message
import fuzz_dkim
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from fuzz_parser import Parser
from fuzz_state import private_file

from mtad.auth import arc
from mtad.config.certificate import examine
from mtad.config.errors import Findings
from mtad.dkim.canonical import relaxed_field
from mtad.dns import authority
from mtad.inbound import stamps
from mtad.mail import headers
from mtad.tls import chain

NOW = 1_800_000_000.0
P = int(
    "DCAC7FD7AEDA8F8B493E39A396E12DDA08466A5D059AAAB6BCC98A32A98DDA1D"
    "B366E705EFBECA2ABD0D1A588319D7C8358E77228D3B50E1A09190E618EB02B5",
    16,
)
Q = int(
    "E3D8B24DCB0BC0C78ACBE57C41A73E55A14D6F51A35DCF0B55BDEC8995AC3ED7"
    "745F65478F8AE3D5BE13DA63EE05272A2471F9CF77F4E9A150231294B3F7FA7B",
    16,
)
"""Two primes, found once: the same seals in every run."""


def _key() -> rsa.RSAPrivateKey:
    n, e = P * Q, 65537
    d = pow(e, -1, (P - 1) * (Q - 1))
    public = rsa.RSAPublicNumbers(e, n)
    parts = rsa.rsa_crt_dmp1(d, P), rsa.rsa_crt_dmq1(d, Q), rsa.rsa_crt_iqmp(P, Q)
    return rsa.RSAPrivateNumbers(P, Q, d, *parts, public).private_key()


def _arc_record() -> str:
    octets = KEY.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return f"v=DKIM1; p={base64.b64encode(octets).decode()}"


def _signed(octets: bytes) -> bytes:
    return base64.b64encode(KEY.sign(octets, padding.PKCS1v15(), hashes.SHA256()))


def _forwarded(mail: bytes, times: int) -> bytes:
    """Sealed as RFC 8617 5.1 says; another implementation agrees."""
    sets: list[bytes] = []
    body = base64.b64encode(hashlib.sha256(mail.partition(b"\r\n\r\n")[2]).digest())
    signed = relaxed_field(b"from", b"From: alice@example.test\r\n")
    for n in range(1, times + 1):
        lead = b"i=%d; a=rsa-sha256; d=d.test; s=s; " % n
        results = b"ARC-Authentication-Results: i=%d; d.test; spf=pass\r\n" % n
        message = b"ARC-Message-Signature: " + lead + b"c=relaxed/relaxed; h=from; bh=" + body + b"; b="
        message += _signed(signed + relaxed_field(b"arc-message-signature", message)[:-2]) + b"\r\n"
        seal = b"ARC-Seal: " + lead + b"cv=%s; b=" % (b"pass" if n > 1 else b"none")
        sets += [
            relaxed_field(b"arc-authentication-results", results),
            relaxed_field(b"arc-message-signature", message),
        ]
        whole = seal + _signed(b"".join(sets) + relaxed_field(b"arc-seal", seal)[:-2]) + b"\r\n"
        sets.append(relaxed_field(b"arc-seal", whole))
        mail = whole + message + results + mail
    assert dkim.arc_verify(mail, dnsfunc=lambda _name, timeout=5: RECORD.encode())[0] == b"pass"
    return mail


def _arc(octets: bytes) -> object:
    found = arc.verify(octets, lambda _name: [RECORD], 0.0)
    assert found.reason.isprintable()
    assert len(found.sealers) <= arc.SETS_MAX
    assert found.verdict != "pass" or found.sealers
    return found


def _arc_set(octets: bytes) -> object:
    """One more set on top of a good chain: nobody who has not the key makes a chain that is longer and good."""
    found = arc.verify(octets + b"\r\n" + CHAIN, lambda _name: [RECORD], 0.0)
    assert found.verdict != "pass" or found.sealers == ("d.test", "d.test")
    return found


def _certificates(octets: bytes) -> object:
    """What a server shows, one certificate a NUL octet."""
    found = chain.links(octets.split(b"\0\0\0\0"))
    assert len(found) <= chain.LINKS_MAX
    return found, chain.faults(found, "mx.test", NOW)


def _pair(octets: bytes) -> object:
    """The files of tls.cert and tls.key: each problem a line."""
    cert, key = octets, PAIR[1]
    found = Findings()
    examine(private_file("cert.pem", cert), private_file("key.pem", key), "mx.test", found, NOW)
    assert all(str(one).isprintable() for one in (*found.errors, *found.warnings))
    found = Findings()
    examine(private_file("cert.pem", PAIR[0]), private_file("key.pem", octets), "mx.test", found, NOW)
    assert all(str(one).isprintable() for one in (*found.errors, *found.warnings))
    return len(found.errors)


QUERY = dns.message.make_query("s._domainkey.d.test", "TXT", id=7)
QUERY.flags = 0
SERVER = authority.Server("ns.test", "192.0.2.1")


def _answer(octets: bytes) -> object:
    """An authoritative server's reply, on the wire."""
    reply = dns.message.from_wire(octets)
    if not QUERY.is_response(reply):
        return None
    said = authority.read(SERVER, "udp", QUERY, reply)
    assert said.outcome is not authority.Outcome.ANSWER or said.records
    assert len(said.records) <= authority.RECORDS_MAX
    assert said.detail.isprintable()
    if all(hasattr(record, "strings") for record in said.records):
        said.texts()
    return said.outcome


def _replied(*records: str, flags: int = 0x8400) -> bytes:
    import dns.rrset

    reply = dns.message.make_response(QUERY)
    reply.flags = flags
    for record in records:
        name, kind, value = record.split(" ", 2)
        reply.answer.append(dns.rrset.from_text(name, 60, "IN", kind, value))
    return reply.to_wire()


def _completed(octets: bytes) -> object:
    """What a submitter's header is made whole to."""
    head = headers.split(octets)[0]
    whole = stamps.qualify(head, "b.test")
    assert [field.name for field in headers.fields(whole)] == [field.name for field in headers.fields(head)]
    missing = stamps.missing(head, "a@b.test", "me.test", "3kf9x2m7q0w1", "Wed, 25 Nov 2026 02:00:00 +0000")
    assert stamps.missing(missing + whole, "", "", "", "") == b""
    return stamps.wants_no_tls(head), whole, missing


KEY = _key()
RECORD = _arc_record()
CHAIN = _forwarded(fuzz_dkim.HEAD + fuzz_dkim.BODY, 2)
_PEM = serialization.Encoding.PEM
PAIR = (
    fuzz_dkim.CERTIFICATE_PEM,
    fuzz_dkim.PRIVATE.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
)
AAR, AMS, AS = (b"ARC-Authentication-Results:", b"ARC-Message-Signature:", b"ARC-Seal:")

PARSERS = (
    Parser(
        "arc",
        _arc,
        (),
        (CHAIN, _forwarded(fuzz_dkim.HEAD, 1)),
        ((b"", b"\r\n" + CHAIN), (AS + b" i=1; b=", b"\r\n\r\n"), (AMS + b" i=1; h=", b"\r\n\r\n"), (AAR, b"\r\n\r\n")),
        limit=1 << 16,
    ),
    Parser("arc-set", _arc_set, (), (CHAIN.partition(b"\r\nFrom:")[0].replace(b"i=1", b"i=3").replace(b"i=2", b"i=3"),),
           ((AS + b" i=3; b=", b""), (AMS + b" i=3; h=", b"")), limit=1 << 15),
    Parser("certificates", _certificates, (), (fuzz_dkim.CERTIFICATE,)),
    Parser("certificate-files", _pair, (), PAIR, ((PAIR[0], b""), (b"-----BEGIN CERTIFICATE-----\n", b"\n"))),
    Parser(
        "dns-reply",
        _answer,
        (dns.exception.DNSException,),
        (
            _replied('s._domainkey.d.test. TXT "v=DKIM1; p="'),
            _replied("s._domainkey.d.test. CNAME x.test.", 'x.test. TXT "a" "b"'),
            _replied(flags=0x8403), _replied(flags=0x8002), _replied(flags=0x8600),
        ),
        ((_replied()[:12], b""), (_replied(), b"")),
    ),
    Parser(
        "completed-header",
        _completed,
        (),
        (b"From: root (Cron Daemon)\r\nTo: root, \"x y\" <u>, a@b.test\r\nTLS-Required: No\r\n\r\n",),
        ((b"From: ", b"\r\n\r\n"), (b"To: root,", b"\r\n\r\n"), (b"TLS-Required:", b"\r\n\r\n")),
    ),
)  # fmt: skip
