"""A stored mail for a host that takes no 8-bit content: converted, and signed anew where its signatures were ours.

A signature of somebody else over what we would change cannot be made again: such a mail is not converted, since a
receiver would take it for forged. Which ones are ours we know from the acceptance of the mail, and not from what is
written in it: else a stranger could write one of ours over his own words, and have it made good.
"""

import re
from collections.abc import Callable
from dataclasses import replace

from mtad.dkim.canonical import BodyHash
from mtad.dkim.keys import Keys, SigningKey
from mtad.dkim.sign import sign_all
from mtad.mail import headers, sevenbit
from mtad.mail.envelope import Clock, Content
from mtad.mail.sevenbit import Impossible

BODY_MAX_BYTES = 8 * 1024 * 1024  # conversion needs several times as much memory

_SIGNATURE = b"dkim-signature"
_TAG = re.compile(rb"(?:\A|;)\s*([a-z]+)\s*=\s*([^;]*)")

Convert = Callable[[Content, str], Content]
"""Of a mail and the keys of ours that signed it, as in Message. Blocking; raises Impossible, and OSError when the mail
cannot be read."""


class Converter:
    """`keys` are those that sign."""

    def __init__(self, keys: Keys | None, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock

    def __call__(self, content: Content, signed: str = "") -> Content:
        """The mail with octets above 127 in header fields only; as it is where they are nowhere else."""
        before = _read(content.body)
        head, body = sevenbit.convert(content.head, before)
        if (head, body) == (content.head, before):
            return replace(content, body=before)
        keys = self._signers(content.head, frozenset(signed.lower().split()))
        if keys:
            if not (head.isascii() and body.isascii()):
                raise Impossible("header fields with 8-bit text are not signed anew")
            head = headers.remove(head, frozenset({_SIGNATURE}))
            body_hash = BodyHash()
            body_hash.update(body)
            head = sign_all(keys, head, body_hash.digest(), int(self._clock())) + head
        return replace(content, head=head, body=body)

    def _signers(self, head: bytes, ours: frozenset[str]) -> tuple[SigningKey, ...]:
        """The keys that sign now for the domains of all its signatures; those of then, `ours`, may be retired. Raises
        Impossible for a signature that we did not make, or cannot make again."""
        if headers.has(head, b"arc-seal"):
            raise Impossible("it is sealed by another house (ARC)")
        found: list[SigningKey] = []
        for value in headers.values(head, _SIGNATURE):
            tags = {name: text.strip().lower() for name, text in _TAG.findall(value)}
            domain, selector = (tags.get(name, b"").decode("ascii", "replace") for name in (b"d", b"s"))
            made = f"{domain}/{selector}" in ours
            keys = self._keys.keys(domain) if made and self._keys is not None else ()
            if not keys:
                raise Impossible("it is signed by another house (DKIM)")
            found += keys
        return tuple(dict.fromkeys(found))


def _read(body: bytes | str) -> bytes:
    if isinstance(body, bytes):
        return body
    with open(body, "rb") as file:
        octets = file.read(BODY_MAX_BYTES + 1)
    if len(octets) > BODY_MAX_BYTES:
        raise Impossible(f"it is larger than {BODY_MAX_BYTES >> 20} MiB")
    return octets
