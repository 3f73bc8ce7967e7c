"""What a certificate file says: whose it is and until when; which one a client asks for; whether the files are others
than before. Only `read` and `stamps` touch files."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mtad.config import Tls
from mtad.config.certificate import DAY_S, EXPIRY_WARNING_S, ends_at, from_pem, names_of

FILE_MAX_BYTES = 1 << 20
AT_REST_S = 3.0  # a renewal writes certificate and key one after the other


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate in use, as its file was when it was read."""

    cert: str
    key: str
    names: tuple[str, ...]  # DNS names it is for (subjectAltName), lower case; "*.example.org" stands for one label
    expires_at: float
    leaf: bytes = field(repr=False)  # DER


Stamps = tuple[tuple[str, tuple[float, int, int] | None], ...]
"""Each file with (changed at, octets, inode); None where there is no file."""


def read(cert: str, key: str) -> Certificate:
    """The first certificate of a PEM file. Raises OSError and ValueError (the text says what is wrong)."""
    from cryptography.hazmat.primitives.serialization import Encoding

    with open(cert, "rb") as file:
        octets = file.read(FILE_MAX_BYTES)
    try:
        leaf = from_pem(octets)[0]
        return Certificate(cert, key, names_of(leaf), ends_at(leaf), leaf.public_bytes(Encoding.DER))
    except ValueError:
        raise ValueError("holds no PEM certificate") from None


def index(certificates: Sequence[Certificate]) -> Mapping[str, int]:
    """Which certificate is for which name; the first one that has a name keeps it."""
    found: dict[str, int] = {}
    for number, certificate in enumerate(certificates):
        for name in certificate.names:
            found.setdefault(name, number)
    return found


def choose(by_name: Mapping[str, int], asked: str | None) -> int:
    """The number of the certificate for the name that a client asked for (RFC 6066 3): the one with that very name,
    then the one with a wildcard for its first label (RFC 9525 6.3), else the first. Any text is fit to ask with."""
    name = asked.lower().removesuffix(".") if asked else ""
    if not name:
        return 0
    exact = by_name.get(name)
    if exact is not None:
        return exact
    label, dot, rest = name.partition(".")
    return by_name.get(f"*.{rest}", 0) if dot and label and label != "*" else 0


def files(tls: Tls) -> tuple[str, ...]:
    """Every file that the settings name."""
    pairs = [(tls.cert, tls.key), *((one.cert, one.key) for one in tls.certificates)]
    return tuple(path for path in (*(path for pair in pairs for path in pair), tls.client_ca) if path)


def stamps(paths: Iterable[str]) -> Stamps:
    """How the files are now, links followed. Blocking."""
    found: list[tuple[str, tuple[float, int, int] | None]] = []
    for path in paths:
        try:
            state = os.stat(path)
            found.append((path, (state.st_mtime, state.st_size, state.st_ino)))
        except OSError:
            found.append((path, None))
    return tuple(found)


def renewed(before: Stamps, seen: Stamps, now: float) -> bool:
    """The files are others than before, and nobody is writing them at this moment."""
    return seen != before and not any(stamp and 0 <= now - stamp[0] < AT_REST_S for _, stamp in seen)


def expiring(certificates: Iterable[Certificate], now: float) -> list[str]:
    """A sentence for each certificate that ends within EXPIRY_WARNING_S, or has ended."""
    return [f"{one.cert} {remaining(one, now)}" for one in certificates if one.expires_at - now < EXPIRY_WARNING_S]


def remaining(certificate: Certificate, now: float) -> str:
    left_s = certificate.expires_at - now
    return f"expires in {left_s / DAY_S:.1f} days" if left_s > 0 else "has expired"
