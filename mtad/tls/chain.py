"""What a certificate file and its key are worth to others: the chain in it, whether they belong together, and what a
client that trusts the system's authorities would say. `examine` reads files; the rest is pure."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from mtad.config.certificate import DAY_S, EXPIRY_WARNING_S, ends_at, from_der, names_of
from mtad.mail.text import clean
from mtad.tls import words
from mtad.tls.contexts import TlsError, server_context_of

if TYPE_CHECKING:
    from cryptography import x509

LINKS_MAX = 10
TEXT_MAX = 200
RSA_BITS_MIN = 2048
_ROUNDS = 10  # of a handshake between two contexts
FILE_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Link:
    """One certificate of a chain; the host's own is the first. Times are unix seconds."""

    subject: str  # of a certificate without one, as authorities for all make them now, its names
    issuer: str
    names: tuple[str, ...]
    starts_at: float
    expires_at: float
    key: str  # "RSA 2048", "EC secp256r1"
    signature: str  # its digest: "sha256"; "" where it has none of its own
    self_signed: bool


@dataclass(frozen=True, slots=True)
class Examined:
    """`problems` are sentences, worst first; `distrust` is what a client of the system's authorities would say, ""
    when it would be content."""

    cert: str
    key: str
    links: tuple[Link, ...] = ()
    matches: bool = False  # the key belongs to the certificate
    distrust: str = ""
    problems: tuple[str, ...] = ()


def links(ders: Sequence[bytes]) -> tuple[Link, ...]:
    """What each certificate says; one that cannot be read ends the chain."""
    from cryptography import x509

    found = []
    for octets in ders[:LINKS_MAX]:
        try:
            found.append(_link(from_der(octets)))
        except (ValueError, TypeError, x509.UnsupportedGeneralNameType, x509.DuplicateExtension):
            break
    return tuple(found)


def _link(one: "x509.Certificate") -> Link:
    from datetime import UTC

    from cryptography.exceptions import UnsupportedAlgorithm

    start = getattr(one, "not_valid_before_utc", None) or one.not_valid_before.replace(tzinfo=UTC)
    try:
        names = names_of(one)
    except ValueError:
        names = ()
    try:
        digest = one.signature_hash_algorithm
    except UnsupportedAlgorithm:
        digest = None
    subject, issuer = (clean(name.rfc4514_string(), TEXT_MAX) for name in (one.subject, one.issuer))
    shown = tuple(clean(name, TEXT_MAX) for name in names)
    return Link(
        subject or ", ".join(shown[:3]),
        issuer,
        shown,
        start.timestamp(),
        ends_at(one),
        _key(one),
        digest.name if digest is not None else "",
        one.subject == one.issuer,
    )


def _key(one: "x509.Certificate") -> str:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

    try:
        key = one.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return "unknown"
    match key:
        case rsa.RSAPublicKey():
            return f"RSA {key.key_size}"
        case ec.EllipticCurvePublicKey():
            return f"EC {key.curve.name}"
        case ed25519.Ed25519PublicKey():
            return "Ed25519"
        case ed448.Ed448PublicKey():
            return "Ed448"
        case _:
            return "unknown"


def for_name(names: Sequence[str], name: str) -> bool:
    """Whether a certificate with these names is for that host (RFC 9525 6.3)."""
    name = name.lower().removesuffix(".")
    above = name.partition(".")[2]
    return name in names or bool(above and f"*.{above}" in names)


def faults(chain: Sequence[Link], hostname: str, now: float) -> list[str]:
    """What is wrong with a chain in itself, one sentence each, worst first; `hostname` "" = any name will do."""
    if not chain:
        return ["there is no certificate that can be read"]
    leaf, said = chain[0], list[str]()
    left_s = leaf.expires_at - now
    if left_s <= 0:
        said.append(f"it has expired {-left_s / DAY_S:.1f} days ago")
    elif now < leaf.starts_at:
        said.append("it is not valid yet: look at the clock")
    elif left_s < EXPIRY_WARNING_S:
        said.append(f"it expires in {left_s / DAY_S:.1f} days")
    if hostname and not for_name(leaf.names, hostname):
        said.append(f"it is not for {hostname} but for {', '.join(leaf.names[:5]) or 'no name'}")
    for number, (below, above) in enumerate(pairwise(chain), 1):
        if below.issuer != above.subject:
            said.append(f"certificate {number + 1} did not issue certificate {number}: the order is wrong")
            break
        if above.expires_at <= now:
            said.append(f"certificate {number + 1} ({above.subject}) has expired")
    if leaf.key.startswith("RSA ") and int(leaf.key[4:]) < RSA_BITS_MIN:
        said.append(f"its key is weak: {leaf.key}")
    if leaf.signature in ("md5", "sha1") and not leaf.self_signed:
        said.append(f"it is signed with {leaf.signature}, which clients refuse")
    if len(chain) > 1 and chain[-1].self_signed:
        said.append(f"the root {chain[-1].subject} need not be sent")
    return said


def missing(chain: Sequence[Link], distrust: str) -> str:
    """What a client lacks to trust the chain, "" when that is not the matter."""
    if not chain or ("issuer certificate" not in distrust and "first certificate" not in distrust):
        return ""
    return (
        f"clients do not know {chain[-1].issuer}: its certificate is missing in the file, or it is a private authority"
    )


def examine(cert: str, key: str, hostname: str, now: float) -> Examined:
    """All about one pair of files. Blocking; never raises for what is in them."""
    try:
        with open(cert, encoding="ascii", errors="replace") as file:
            chain = links(_ders(file.read(FILE_MAX_BYTES)))
    except OSError as error:
        return Examined(cert, key, problems=(f"{cert} cannot be read: {error.strerror}",))
    said = faults(chain, hostname, now)
    try:
        context = server_context_of(cert, key)
    except TlsError as error:
        return Examined(cert, key, chain, problems=(str(error), *said))
    distrust = clean(verdict(context, hostname), TEXT_MAX)
    lacking = missing(chain, distrust)
    if lacking:
        said.insert(0, lacking)
    elif distrust and chain and chain[0].self_signed:
        said.insert(0, "it is self-signed: mail programs warn, and servers that verify refuse it")
    elif distrust and not said:
        said.append(f"clients do not trust it: {distrust}")
    return Examined(cert, key, chain, True, distrust, tuple(said))


def verdict(server: ssl.SSLContext, name: str) -> str:
    """What a client that trusts the system's authorities says of a server with this context; "" = it is content. The
    handshake happens in memory."""
    client = ssl.create_default_context()
    client.check_hostname = bool(name)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = (
        client.wrap_bio(back, there, server_hostname=name or None),
        server.wrap_bio(there, back, server_side=True),
    )
    for _ in range(_ROUNDS):
        waiting = 0
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                waiting += 1
            except ssl.SSLError as error:
                return words.of_tls(error)
        if not waiting:
            return ""
    return "the handshake does not end"


def _ders(text: str) -> list[bytes]:
    """The certificates of a PEM file; what cannot be decoded ends them."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    found = []
    for part in text.split(begin)[1 : LINKS_MAX + 1]:
        body, closed, _ = part.partition(end)
        if not closed:
            break
        try:
            found.append(ssl.PEM_cert_to_DER_cert(f"{begin}{body}{end}\n"))
        except ValueError:
            break
    return found
