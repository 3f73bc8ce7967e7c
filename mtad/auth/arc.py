"""ARC: is the chain of those who forwarded a mail and say what they saw unbroken (RFC 8617 5.2)."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from mtad.dkim.canonical import RelaxedBody, relaxed_field, without_line_ends
from mtad.dkim.keyrecord import BadKey, fitting, octets_of
from mtad.dkim.taglist import expired, tag_list
from mtad.dkim.verify import BARE_LF, KeyUnavailable, Lookup, is_name
from mtad.mail import headers
from mtad.mail.text import clean

Verdict = Literal["none", "pass", "fail", "temperror"]

SETS_MAX = 50  # RFC 8617 4.2.1
FIELDS_MAX = 500
FIELD_MAX_BYTES = 16 * 1024
_AAR, _AMS, _AS = b"arc-authentication-results", b"arc-message-signature", b"arc-seal"
_INSTANCE = re.compile(r"[1-9][0-9]?")
_FIRST = re.compile(r"\s*i\s*=\s*([0-9]+)\s*;")
_SIGNATURE = re.compile(rb"((?:\A[^:]*:|;)[ \t\r\n]*b[ \t\r\n]*=)[^;]*")


@dataclass(frozen=True, slots=True)
class Result:
    """`sealers` are the domains of the seals, the first first; `reason` is fit to show."""

    verdict: Verdict
    reason: str = ""
    sealers: tuple[str, ...] = ()


class _Broken(Exception):  # noqa: N818
    """The chain ends here."""

    def __init__(self, reason: str, verdict: Verdict = "fail") -> None:
        super().__init__(reason)
        self.reason = reason
        self.verdict: Verdict = verdict


@dataclass(frozen=True, slots=True)
class _Set:
    """The three fields of one who forwarded."""

    results: bytes
    message: bytes
    seal: bytes


def verify(message: bytes, lookup: Lookup, now: float) -> Result:
    """The state of the chain of a message with CRLF line ends. Never raises for what the message or a record holds."""
    head, body = headers.split(message)
    fields = headers.fields(head)
    if not any(field.name in (_AAR, _AMS, _AS) for field in fields):
        return Result("none", "the mail has no ARC set")
    sealers: list[str] = []
    try:
        if len(fields) > FIELDS_MAX:
            raise _Broken(f"more than {FIELDS_MAX} header fields")
        if BARE_LF.search(message):  # read as a line end, it would be judged as what did not come
            raise _Broken("a bare LF in the mail")
        raw = [(field.name, head[field.start : field.end]) for field in fields]
        sets = _sets(raw)
        seals = [_tags(one.seal) for one in sets]
        for number, seal in enumerate(seals, 1):
            _judge_seal(number, seal)
            sealers.append(seal["d"].lower())
        if seals[-1]["cv"].lower() == "fail":
            raise _Broken("the last who forwarded it found the chain broken")
        if any(seal["cv"].lower() != ("pass" if number else "none") for number, seal in enumerate(seals)):
            raise _Broken("a seal says cv= what cannot be")
        _verify_message(raw, body, sets[-1].message, lookup, now)
        for number in range(len(sets), 0, -1):
            _verify_seal(sets[:number], seals[number - 1], lookup)
    except _Broken as broken:
        return Result(broken.verdict, clean(broken.reason, 200), tuple(sealers))
    return Result("pass", "", tuple(sealers))


def _sets(fields: Sequence[tuple[bytes, bytes]]) -> list[_Set]:
    """One of each kind for 1 to N (RFC 8617 5.2 3)."""
    found: dict[bytes, dict[int, bytes]] = {_AAR: {}, _AMS: {}, _AS: {}}
    for name, raw in fields:
        if name not in found:
            continue
        if len(raw) > FIELD_MAX_BYTES:
            raise _Broken("an oversized ARC field")
        number = _instance(name, raw)
        if number in found[name]:
            raise _Broken(f"several {name.decode()} fields of instance {number}")
        found[name][number] = raw
    count = max((len(one) for one in found.values()), default=0)
    if count > SETS_MAX or any(set(one) != set(range(1, count + 1)) for one in found.values()):
        raise _Broken("the ARC sets are not complete")
    return [_Set(found[_AAR][n], found[_AMS][n], found[_AS][n]) for n in range(1, count + 1)]


def _instance(name: bytes, raw: bytes) -> int:
    if name == _AAR:
        found = _FIRST.match(raw.partition(b":")[2].decode("latin-1"))
        text = found[1] if found else ""
    else:
        text = _tags(raw).get("i", "")
    if not _INSTANCE.fullmatch(text):
        raise _Broken(f"{name.decode()} without a proper i=")
    return int(text)


def _tags(raw: bytes) -> dict[str, str]:
    """The tag list of RFC 6376 3.2. Doubles are an error."""
    try:
        text = raw.partition(b":")[2].decode("ascii")
    except UnicodeDecodeError:
        raise _Broken("an ARC field is not ASCII") from None
    found = tag_list(text)
    if found is None:
        raise _Broken("a malformed ARC field")
    return found


def _judge_seal(number: int, tags: Mapping[str, str]) -> None:
    missing = [name for name in ("a", "b", "cv", "d", "s") if not tags.get(name)]
    if missing:
        raise _Broken(f"seal {number} has no {missing[0]}=")
    if tags["cv"].lower() not in ("none", "pass", "fail"):
        raise _Broken(f"seal {number} has an unknown cv=")
    if "h" in tags:
        raise _Broken(f"seal {number} has h=")  # RFC 8617 4.1.3
    _algorithm(tags)
    _judge_names(tags)


def _algorithm(tags: Mapping[str, str]) -> None:
    if tags["a"].lower() != "rsa-sha256":
        raise _Broken(f"algorithm {tags['a'][:20]} is not accepted")


def _judge_names(tags: Mapping[str, str]) -> None:
    if not is_name(tags["d"]) or not is_name(tags["s"]):
        raise _Broken("malformed d= or s=")


def _verify_message(fields: Sequence[tuple[bytes, bytes]], body: bytes, raw: bytes, lookup: Lookup, now: float) -> None:
    """The newest signature over header and body (RFC 8617 5.2 4). It ends at its x=, as one of DKIM does."""
    tags = _tags(raw)
    missing = [name for name in ("a", "b", "bh", "d", "s") if not tags.get(name)] + ([] if "h" in tags else ["h"])
    if missing:
        raise _Broken(f"the message signature has no {missing[0]}=")
    _algorithm(tags)
    _judge_names(tags)
    try:
        if expired(tags, now):
            raise _Broken("the message signature has expired")
    except ValueError as error:
        raise _Broken(f"the message signature has {error}") from None
    names = [name.strip().lower().encode() for name in tags["h"].split(":")]
    if b"from" not in names:
        raise _Broken("the message signature does not cover From")  # RFC 6376 3.5, which RFC 8617 4.1.2 takes over
    if names.count(b"from") < sum(name == b"from" for name, _ in fields):
        raise _Broken(
            "the message signature does not cover every From"
        )  # one was added, and may be the one that is shown
    if _AS in names:
        raise _Broken("the message signature covers a seal")
    form, _, body_form = tags.get("c", "simple").partition("/")  # RFC 6376 3.5: simple/simple
    body_form = body_form or "simple"
    if form not in ("simple", "relaxed") or body_form not in ("simple", "relaxed"):
        raise _Broken("unknown canonicalization")
    if hashlib.sha256(_body(body, relaxed=body_form == "relaxed")).digest() != _octets(tags["bh"]):
        raise _Broken("the body was changed")
    _check(_signed(fields, names, raw, relaxed=form == "relaxed"), tags, lookup, "the message signature")


def _signed(fields: Sequence[tuple[bytes, bytes]], names: Sequence[bytes], raw: bytes, *, relaxed: bool) -> bytes:
    """The fields of h=, of several the last first (RFC 6376 5.4.2), and the signature itself without its b=."""
    stacks: dict[bytes, list[bytes]] = {}
    for name, field in fields:
        stacks.setdefault(name, []).append(field)
    signed = [_form(name, stacks[name].pop(), relaxed=relaxed) for name in names if stacks.get(name)]
    signed.append(_form(_AMS, _SIGNATURE.sub(rb"\1", raw, count=1), relaxed=relaxed).rstrip(b"\r\n"))
    return b"".join(signed)


def _verify_seal(sets: Sequence[_Set], tags: Mapping[str, str], lookup: Lookup) -> None:
    """RFC 8617 5.1.1: all sets up to this one, in order, relaxed; the seal itself last, without its b=."""
    signed = []
    for number, one in enumerate(sets, 1):
        signed += [relaxed_field(_AAR, one.results), relaxed_field(_AMS, one.message)]
        if number < len(sets):
            signed.append(relaxed_field(_AS, one.seal))
    signed.append(relaxed_field(_AS, _SIGNATURE.sub(rb"\1", sets[-1].seal, count=1)).rstrip(b"\r\n"))
    _check(b"".join(signed), tags, lookup, f"seal {len(sets)}")


def _check(signed: bytes, tags: Mapping[str, str], lookup: Lookup, what: str) -> None:
    name = f"{tags['s']}._domainkey.{tags['d']}"
    try:
        records = lookup(name)
    except KeyUnavailable as error:
        raise _Broken(f"{what}: the key cannot be looked up: {error}", "temperror") from None
    except Exception:  # noqa: BLE001  (the lookup's own kind of trouble)
        raise _Broken(f"{what}: the key cannot be looked up now", "temperror") from None
    try:
        key = fitting(records, {"a": "rsa-sha256", "d": tags["d"]})  # i= is a number here
    except BadKey as bad:
        raise _Broken(f"{what}: {bad}") from None
    if key.testing:  # RFC 6376 3.6.1: as if nobody had signed
        raise _Broken(f"{what}: its key says t=y: for tests")
    assert isinstance(key.public, rsa.RSAPublicKey)  # such is the algorithm
    try:
        key.public.verify(_octets(tags["b"]), signed, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        raise _Broken(f"{what} does not match") from None


def _form(name: bytes, field: bytes, *, relaxed: bool) -> bytes:
    return relaxed_field(name, field) if relaxed else field


def _body(body: bytes, *, relaxed: bool) -> bytes:
    if not relaxed:  # RFC 6376 3.4.3: of the line ends at the end, one; lone CR and LF are none
        return body[: without_line_ends(body)] + b"\r\n"
    parts: list[bytes] = []
    form = RelaxedBody(parts.append)
    form.update(body)
    form.finish()
    return b"".join(parts)


def _octets(value: str) -> bytes:
    octets = octets_of(value)
    if octets is None:
        raise _Broken("malformed base64")
    return octets
