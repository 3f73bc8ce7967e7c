"""DKIM signatures (RFC 6376), relaxed/relaxed, RSA and Ed25519 (RFC 8463).

The header fields that matter are signed once more often than they occur, so that nobody can add another one later. The
whole body is signed always: l= is never written.
"""

import base64
import re
from collections.abc import Sequence
from functools import lru_cache

from mtad.dkim.canonical import BodyHash, relaxed_field
from mtad.dkim.keys import SigningKey
from mtad.mail.headers import fields

__all__ = ["BodyHash", "sign", "sign_all"]

OVERSIGNED = (b"From", b"To", b"Cc", b"Subject", b"Date", b"Message-ID", b"Reply-To")
SIGNED = (b"MIME-Version", b"Content-Type", b"Content-Transfer-Encoding", b"In-Reply-To", b"References")
LIST_FIELD = re.compile(rb"list-[a-z-]{1,40}")  # a name of other characters would be a tag of its own in h=
FIELDS_MAX = 500  # names in h=; a header block with more is not signed: verifiers give up far earlier
LINE_MAX = 76

_SHOWN = {name.lower(): name for name in (*OVERSIGNED, *SIGNED)}
_ORDER = tuple(_SHOWN)
_OVERSIGNED = frozenset(name.lower() for name in OVERSIGNED)


def sign(key: SigningKey, head: bytes, body_hash: bytes, now: int) -> bytes:
    """One DKIM-Signature field, CRLF included, to be put before `head`. `body_hash` is BodyHash.digest().

    Works for any octets in `head`. b"" when there are more than FIELDS_MAX fields to name.
    """
    return sign_all((key,), head, body_hash, now)


def sign_all(keys: Sequence[SigningKey], head: bytes, body_hash: bytes, now: int) -> bytes:
    """As `sign`, one field per key, first key first. The header is canonicalised once."""
    names, canonical = _select(head)
    if not keys or len(names) > FIELDS_MAX:
        return b""
    listed = _listed(names)
    bh = base64.b64encode(body_hash)
    return b"".join(_field(key, listed, canonical, bh, now) for key in keys)


def _field(key: SigningKey, listed: bytes, canonical: bytes, bh: bytes, now: int) -> bytes:
    identity = f"d={key.domain}; s={key.selector};".encode("ascii")
    if len(identity) >= LINE_MAX:
        identity = identity.replace(b"; ", b";\r\n\t")
    tags = b"v=1; a=%b; c=relaxed/relaxed;\r\n\t%b\r\n\tt=%d;\r\n\t%b;\r\n\tbh=%b;\r\n\tb=" % (
        key.tag,
        identity,
        now,
        listed,
        bh,
    )
    # Our own field in its relaxed form: nothing in it but these folds needs one.
    signature = key.sign(canonical + b"dkim-signature:" + tags.replace(b"\r\n\t", b" "))
    b = base64.b64encode(signature)
    folded = b"\r\n\t".join(b[at : at + LINE_MAX - 4] for at in range(0, len(b), LINE_MAX - 4))
    return b"DKIM-Signature: " + tags + folded + b"\r\n"


def _select(head: bytes) -> tuple[tuple[bytes, ...], bytes]:
    """The names for h=, and the relaxed fields in that order. Of equal names the lowest is first (RFC 6376 5.4.2)."""
    present: dict[bytes, list[bytes]] = {}
    for name, start, end in fields(head):
        if name in _SHOWN or (name.startswith(b"list-") and LIST_FIELD.fullmatch(name)):
            present.setdefault(name, []).append(relaxed_field(name, head[start:end]))
    names: list[bytes] = []
    lines: list[bytes] = []
    for name in (*_ORDER, *(name for name in present if name not in _SHOWN)):
        found = present.get(name)
        if found:
            names += [name] * len(found)
            lines += found[::-1]
        if name in _OVERSIGNED:
            names.append(name)
    return tuple(names), b"".join(lines)


@lru_cache(maxsize=512)
def _listed(names: tuple[bytes, ...]) -> bytes:
    """The h= tag, folded. Most mail has one of a few shapes, so it is kept."""
    lines: list[bytes] = []
    line = b"h="
    for position, name in enumerate(names):
        word = _SHOWN.get(name, name) + (b":" if position + 1 < len(names) else b"")
        if len(line) + len(word) > LINE_MAX and line != b"h=":
            lines.append(line)
            line = b""
        line += word
    return b"\r\n\t".join((*lines, line))
