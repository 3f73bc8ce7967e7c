"""Verification of DKIM signatures: dkimpy does the hashing, everything it leaves open is decided here.

Before dkimpy sees a signature its tags, the key record and all sizes are judged (RFC 6376 3.5, 6.1), bodies are brought
into relaxed form in linear time, and Ed25519 is done by `cryptography`. What then still goes wrong in there is a
permerror of that one signature.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from mtad.dkim.canonical import RelaxedBody
from mtad.dkim.keyrecord import ALGORITHMS, BadKey, Key, PublicKey, fitting, octets_of, words
from mtad.dkim.taglist import expired, tag_list
from mtad.mail import address, headers
from mtad.mail.text import clean

Verdict = Literal["pass", "fail", "permerror", "temperror", "neutral"]
Lookup = Callable[[str], Sequence[str]]
"""The TXT records of a name, () when there are none. Whatever it raises is a temporary error, which KeyUnavailable
explains."""

SIGNATURES_MAX = 8
FIELDS_MAX = 500
SIGNED_NAMES_MAX = 200
SIGNATURE_MAX_BYTES = 8192

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?)*")
BARE_LF = re.compile(rb"(?<!\r)\n")
_BLANKS = re.compile(rb"[ \t\r\n]{60}")
_TESTING = "its key says t=y: for tests, so it counts as unsigned"


@dataclass(frozen=True, slots=True)
class Result:
    """The verdict on one signature. `domain` is d=, "" where it cannot be told; `reason` is fit to show."""

    domain: str
    selector: str
    result: Verdict
    reason: str = ""


class KeyUnavailable(Exception):  # noqa: N818  (it names what happened)
    """DNS gives no answer now. The words are for the operator."""


class _Verdict(Exception):  # noqa: N818
    """This signature ends here."""

    def __init__(self, result: Verdict, reason: str) -> None:
        super().__init__(reason)
        self.result: Verdict = result
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Signature:
    """A signature whose tags were found in order."""

    tags: Mapping[str, str]
    field: tuple[bytes, bytes]  # before and after the colon, as it came
    names: tuple[bytes, ...]  # h=, lower case
    body: Literal["simple", "relaxed"]


class _Ed25519:
    """What dkimpy asks to verify with; it heeds exceptions only, so the answer is kept."""

    def __init__(self, public: ed25519.Ed25519PublicKey) -> None:
        self._public = public
        self.right = False

    def verify(self, digest: bytes, signature: bytes) -> None:
        try:
            self._public.verify(signature, digest)
        except InvalidSignature:
            return
        self.right = True


def verify(message: bytes, lookup: Lookup, now: float) -> list[Result]:
    """The verdicts on all signatures of a message, top first; [] for a message without any.

    Never raises for what a message or a record holds. Signatures beyond SIGNATURES_MAX are not looked at (neutral).
    """
    head, body = headers.split(message)
    found = headers.fields(head)
    signatures = [field for field in found if field.name == b"dkim-signature"]
    if len(found) > FIELDS_MAX:
        return [Result("", "", "permerror", f"more than {FIELDS_MAX} header fields") for _ in signatures[:1]]
    if signatures and BARE_LF.search(message):  # read as CRLF, it would be judged as what did not come
        return [Result(*_identity(head[signatures[0].start : signatures[0].end]), "fail", "a bare LF in the mail")]
    parts = _parts(head, found)
    bodies: dict[str, bytes] = {}
    results: list[Result] = []
    for number, field in enumerate(signatures):
        if number >= SIGNATURES_MAX:
            results.append(Result("", "", "neutral", f"not looked at: more than {SIGNATURES_MAX} signatures"))
            break
        raw = head[field.start : field.end]
        domain, selector = _identity(raw)
        try:
            signature = _signature(raw, now)
            key = _key(signature, lookup)
            if signature.body not in bodies:
                bodies[signature.body] = _relaxed(body) if signature.body == "relaxed" else body
            _judge(signature, key, parts, bodies[signature.body])
        except _Verdict as verdict:
            results.append(Result(domain, selector, verdict.result, clean(verdict.reason, 200)))
        else:
            results.append(Result(domain, selector, "pass"))
    return results


def _parts(head: bytes, found: Sequence[headers.Field]) -> Sequence[tuple[bytes, bytes]] | None:
    """The fields as (name, what follows the colon), as dkimpy has them: its own parser takes the square of the time for
    a field of many lines. None for a header with other things in it than fields."""
    tidy = head.partition(b"\n")[2] if head.startswith(b"From ") else head  # the line before a mail in a mailbox file
    if headers.malformed(tidy) or any(head[one.start + len(one.name)] != ord(":") for one in found):
        return None
    return [
        (head[one.start : one.start + len(one.name)], head[one.start + len(one.name) + 1 : one.end]) for one in found
    ]


def _judge(signature: _Signature, key: Key, parts: Sequence[tuple[bytes, bytes]] | None, body: bytes) -> None:
    """Raises _Verdict unless the signature is right, and counts. One by a key for tests never does (RFC 6376 3.6.1)."""
    if parts is None:
        raise _Verdict("permerror", "the header is malformed")
    try:
        _compare(signature, key.public, parts, body)
    except _Verdict as verdict:
        if key.testing and verdict.result == "fail":
            raise _Verdict("neutral", f"{verdict.reason}, and {_TESTING}") from None
        raise
    if key.testing:
        raise _Verdict("neutral", f"the signature is right, but {_TESTING}")


def _compare(signature: _Signature, key: PublicKey, parts: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
    """Let dkimpy compare the hashes and the signature. Raises _Verdict unless both are right."""
    import dkim  # late: it is slow to import, and only needed here

    try:
        verifier = dkim.DKIM(b"")
        verifier.headers, verifier.body = list(parts), body
        if isinstance(key, rsa.RSAPublicKey):
            numbers = key.public_numbers()
            verifier.pk = {"modulus": numbers.n, "publicExponent": numbers.e}
            verifier.keysize, verifier.ktag = key.key_size, b"rsa"
        else:
            verifier.pk = _Ed25519(key)
            verifier.keysize, verifier.ktag = 256, b"ed25519"
        tags = {name.encode(): value.encode() for name, value in signature.tags.items()}
        right = verifier.verify_sig_process(tags, list(signature.names), signature.field, None)
        if isinstance(verifier.pk, _Ed25519):
            right = right and verifier.pk.right
    except dkim.ValidationError:
        raise _Verdict("fail", "the body was changed") from None
    except Exception:  # noqa: BLE001  (a parser fed by strangers; see the module's text)
        raise _Verdict("permerror", "the mail or the signature is malformed") from None
    if not right:
        raise _Verdict("fail", "the signature does not match")
    if "l" in signature.tags:
        raise _Verdict("neutral", "l= leaves the end of the body unsigned")


def _identity(raw: bytes) -> tuple[str, str]:
    """d= and s= as far as they can be told, for the report only."""
    try:
        tags = _tags(raw[raw.index(b":") + 1 : SIGNATURE_MAX_BYTES])
    except _Verdict:
        return "", ""
    domain, selector = tags.get("d", ""), tags.get("s", "")
    return domain.lower() if is_name(domain) else "", selector if is_name(selector) else ""


def _signature(raw: bytes, now: float) -> _Signature:
    """Judge the tags of a signature (RFC 6376 3.5, 6.1.1). Raises _Verdict."""
    name, _, value = raw.partition(b":")
    if len(value) > SIGNATURE_MAX_BYTES or _BLANKS.search(value):
        raise _Verdict("permerror", "oversized signature field")
    tags = _tags(value)
    if not all(text.isascii() for text in tags.values()):
        raise _Verdict("permerror", "signature field is not ASCII")
    missing = [tag for tag in ("v", "a", "b", "bh", "d", "h", "s") if not tags.get(tag)]
    if missing:
        raise _Verdict("permerror", f"{missing[0]}= is missing")
    if tags["v"] != "1":
        raise _Verdict("permerror", "unknown version")
    if tags["a"] not in ALGORITHMS:
        raise _Verdict("permerror", f"algorithm {tags['a']} is not accepted")
    if not is_name(tags["d"]) or "." not in tags["d"] or not is_name(tags["s"]):
        raise _Verdict("permerror", "malformed d= or s=")
    names = tuple(name.strip().lower().encode() for name in tags["h"].split(":"))
    if b"from" not in names:
        raise _Verdict("permerror", "From is not signed")
    if len(names) > SIGNED_NAMES_MAX:
        raise _Verdict("permerror", "too many names in h=")
    if "dns/txt" not in words(tags.get("q", "dns/txt")):
        raise _Verdict("permerror", "unknown q=")
    header_form, _, body_form = tags.get("c", "simple/simple").partition("/")
    body_form = body_form or "simple"
    if header_form not in ("simple", "relaxed") or body_form not in ("simple", "relaxed"):
        raise _Verdict("permerror", "unknown canonicalization")
    if octets_of(tags["b"]) is None:
        raise _Verdict("permerror", "malformed b=")
    if len(octets_of(tags["bh"]) or b"") != 32:
        raise _Verdict("permerror", "malformed bh=")
    try:
        if expired(tags, now):
            raise _Verdict("fail", "the signature has expired")
    except ValueError as error:
        raise _Verdict("permerror", str(error)) from None
    if "l" in tags and re.fullmatch(r"[0-9]{1,15}", tags["l"]) is None:
        raise _Verdict("permerror", "malformed l=")
    identity = tags.get("i", f"@{tags['d']}").rpartition("@")[2].lower()
    if "@" not in tags.get("i", "@") or not f".{identity}".endswith(f".{tags['d'].lower()}"):
        raise _Verdict("permerror", "i= is not within d=")
    return _Signature(tags, (name, value), names, "relaxed" if body_form == "relaxed" else "simple")


def _key(signature: _Signature, lookup: Lookup) -> Key:
    """The public key, from the first record that fits the signature. Raises _Verdict."""
    tags = signature.tags
    try:
        records = lookup(f"{tags['s']}._domainkey.{tags['d']}")
    except KeyUnavailable as error:
        raise _Verdict("temperror", f"the key cannot be looked up: {error}") from None
    except Exception:  # noqa: BLE001  (the lookup's own kind of trouble)
        raise _Verdict("temperror", "the key cannot be looked up now") from None
    try:
        return fitting(records, tags)
    except BadKey as bad:
        raise _Verdict("permerror", str(bad)) from None


def _tags(value: bytes) -> dict[str, str]:
    """The tags of a signature; names of domains as A-labels, whatever they are in there (RFC 8616 4)."""
    found = tag_list(value.decode("utf-8", "replace"))
    if found is None:
        raise _Verdict("permerror", "malformed tag list")
    for name in ("d", "s", "i"):
        local, at, domain = found.get(name, "").rpartition("@")
        if not domain.isascii():
            try:
                found[name] = local + at + address.to_ascii(domain)
            except address.AddressError:
                continue
    if not found.get("i", "").isascii():  # a name of the user, which counts for nothing here
        found["i"] = "@" + found["i"].rpartition("@")[2]
    return found


def is_name(text: str) -> bool:
    """Whether d= or s= can be asked for."""
    return len(text) <= 253 and _NAME.fullmatch(text) is not None


def _relaxed(body: bytes) -> bytes:
    """Relaxing twice changes nothing, so dkimpy may do it again: now in linear time."""
    parts: list[bytes] = []
    relaxed = RelaxedBody(parts.append)
    relaxed.update(body)
    relaxed.finish()
    return b"".join(parts)
