"""Chains of ARC: the shared suite of the protocol's authors."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from mtad.auth import arc
from mtad.dkim.canonical import relaxed_field

NOW = 1_800_000_000.0
SUITE = Path(__file__).resolve().parents[3] / "shared" / "suites" / "arc-valimail" / "arc-draft-validation-tests.yml"


def cases() -> list[Any]:
    if not SUITE.is_file():
        return [pytest.param({}, {}, marks=pytest.mark.skip(reason="the shared suites are not here"))]
    found = []
    for scenario in yaml.safe_load_all(SUITE.read_text()):
        records = scenario.get("txt-records") or scenario.get("txt_records") or {}
        found += [pytest.param(case, records, id=name) for name, case in scenario["tests"].items()]
    return found


# Where the suite lets pass what receivers must not: RFC 8617 4.1.2 takes these rules over.
BY_RFC = {
    # It signs the relaxed form and leaves c= out, which is simple/simple (RFC 6376 3.5).
    "ams_fields_c_na": "the message signature does not match",
    # From must be signed, else the signature counts for nothing (RFC 6376 5.4, 6.1.1).
    "ams_fields_h_empty": "the message signature does not cover From",
}


@pytest.mark.parametrize(("case", "records"), cases())
def test_the_suite(case: Mapping[str, Any], records: Mapping[str, str], request: pytest.FixtureRequest) -> None:
    message = (case["message"] or "").replace("\n", "\r\n").encode()
    result = arc.verify(message, lambda name: [records[name]] if name in records else [], NOW)
    stricter = BY_RFC.get(request.node.callspec.id)
    if stricter is not None:
        assert (result.verdict, result.reason) == ("fail", stricter)
        return
    # Where the suite leaves it open the newest seal says cv=fail, or an older one does: broken (RFC 8617 5.2).
    expected = "none" if case["cv"] == "None" else str(case["cv"]).strip().lower() or "fail"
    assert result.verdict == expected, result


CHAIN = (
    b"ARC-Seal: i=1; a=rsa-sha256; cv=none; d=example.org; s=s; b=AAAA\r\n"
    b"ARC-Message-Signature: i=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=s; h=from; bh=AAAA; b=AAAA\r\n"
    b"ARC-Authentication-Results: i=1; example.org; none\r\n"
)
MAIL = b"From: a@example.org\r\n\r\ntext\r\n"


@given(st.integers(0, len(CHAIN)), st.binary(max_size=20))
def test_garbage_is_a_broken_chain(at: int, noise: bytes) -> None:
    result = arc.verify(CHAIN[:at] + noise + CHAIN[at:] + MAIL, lambda name: ["v=DKIM1; p=AAAA"], NOW)
    assert result.verdict in ("fail", "none")
    assert result.reason.isprintable()


def test_a_lookup_that_fails_is_temporary() -> None:
    body = base64.b64encode(hashlib.sha256(b"text\r\n").digest())

    def lookup(name: str) -> list[str]:
        raise TimeoutError

    result = arc.verify(CHAIN.replace(b"bh=AAAA", b"bh=" + body) + MAIL, lookup, NOW)
    assert (result.verdict, result.sealers) == ("temperror", ("example.org",))
    assert result.reason == "the message signature: the key cannot be looked up now"


KEY = rsa.generate_private_key(65537, 2048)
RECORD = "v=DKIM1; p=" + base64.b64encode(
    KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
).decode("ascii")


def sealed(form: str, *, says: str, covers: bytes = b"from", body: bytes = b"text  here\r\n\r\n") -> bytes:
    """A mail with one ARC set: signed in `form`, header and body; `says` is its c= ("" is none)."""
    author = b"From:  A  <a@example.org>\r\n"
    relaxed = form == "relaxed"
    digest = base64.b64encode(hashlib.sha256(b"text here\r\n" if relaxed else body[: len(body) - 2]).digest())
    results = b"ARC-Authentication-Results: i=1; example.org; none\r\n"
    message = b"ARC-Message-Signature: i=1; a=rsa-sha256; %sd=example.org; s=s; h=%s; bh=%s; b=" % (
        says.encode(),
        covers,
        digest,
    )
    octets = relaxed_field(b"from", author) if relaxed else author if covers == b"from" else b""
    octets += relaxed_field(b"arc-message-signature", message).rstrip(b"\r\n") if relaxed else message
    message += base64.b64encode(KEY.sign(octets, PKCS1v15(), SHA256())) + b"\r\n"
    seal = b"ARC-Seal: i=1; a=rsa-sha256; cv=none; d=example.org; s=s; b="
    octets = relaxed_field(b"arc-authentication-results", results) + relaxed_field(b"arc-message-signature", message)
    octets += relaxed_field(b"arc-seal", seal).rstrip(b"\r\n")
    seal += base64.b64encode(KEY.sign(octets, PKCS1v15(), SHA256())) + b"\r\n"
    return seal + message + results + author + b"\r\n" + body


@pytest.mark.parametrize(
    ("form", "says", "expected"),
    [
        ("simple", "", "pass"),
        ("relaxed", "", "fail"),
        ("simple", "c=simple/simple; ", "pass"),
        ("simple", "c=simple; ", "pass"),
        ("relaxed", "c=relaxed/relaxed; ", "pass"),
        ("relaxed", "c=relaxed; ", "fail"),  # the body's form is simple then
        ("simple", "c=; ", "fail"),
        ("simple", "c=other; ", "fail"),
    ],
)
def test_without_c_the_form_is_simple(form: str, says: str, expected: str) -> None:
    """RFC 6376 3.5, which RFC 8617 4.1.2 takes over."""
    assert arc.verify(sealed(form, says=says), lambda name: [RECORD], NOW).verdict == expected


def test_who_signs_the_message_signs_its_author() -> None:
    """Else anybody who forwards it writes another From into a chain that is unbroken."""
    good = sealed("simple", says="")
    assert arc.verify(good, lambda name: [RECORD], NOW).verdict == "pass"
    without = sealed("simple", says="", covers=b"subject")
    result = arc.verify(without, lambda name: [RECORD], NOW)
    assert (result.verdict, result.reason) == ("fail", "the message signature does not cover From")


def test_a_bare_line_feed_breaks_the_chain() -> None:
    """In relaxed form it would be taken out of a field, and what is read there is another field."""
    good = sealed("relaxed", says="c=relaxed/relaxed; ")
    assert arc.verify(good.replace(b"From:  A  <", b"From:  A \n <"), lambda name: [RECORD], NOW).verdict == "fail"


def test_lone_line_feeds_at_the_end_are_no_line_ends() -> None:
    """RFC 6376 3.4.3: what was signed without them is another body."""
    good = sealed("simple", says="")
    assert arc.verify(good.removesuffix(b"\r\n"), lambda name: [RECORD], NOW).verdict == "pass"
    assert arc.verify(good + b"\n\r\n", lambda name: [RECORD], NOW).verdict == "fail"


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ("x=1800000001; ", ""),
        ("x=1800000000; ", ""),
        ("t=1; x=1799999999; ", "the message signature has expired"),
        ("t=1800000009; x=1800000008; ", "the message signature has x= is before t="),
        ("x=never; ", "the message signature has malformed t= or x="),
    ],
)
def test_a_message_signature_ends_at_its_x(tags: str, reason: str) -> None:
    """RFC 6376 3.5, which RFC 8617 4.1.2 takes over."""
    result = arc.verify(sealed("simple", says=tags), lambda name: [RECORD], NOW)
    assert (result.verdict, result.reason) == ("fail" if reason else "pass", reason)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (
            RECORD.replace("v=DKIM1; ", "") + "; v=DKIM1",
            "the message signature: v= is not the first tag of the key record",
        ),
        (RECORD + "; t=y", "the message signature: its key says t=y: for tests"),
        (RECORD + "; t=s", ""),  # i= is a number here: there is no sub-domain in it
    ],
)
def test_its_key_is_read_as_one_of_dkim(record: str, reason: str) -> None:
    result = arc.verify(sealed("simple", says=""), lambda name: [record], NOW)
    assert (result.verdict, result.reason) == ("fail" if reason else "pass", reason)


@pytest.mark.parametrize("domain", [b"exa mple.org", b"\x1b[2Jexample.org", b"a" * 300, b"x/../y"])
def test_a_sealer_is_a_domain(domain: bytes) -> None:
    result = arc.verify(CHAIN.replace(b"d=example.org", b"d=" + domain) + MAIL, lambda name: [RECORD], NOW)
    assert (result.verdict, result.reason, result.sealers) == ("fail", "malformed d= or s=", ())


def test_nobody_adds_an_author() -> None:
    """Signed is the lowest From; a program for mail may well show the highest."""
    result = arc.verify(b"From: b@example.net\r\n" + sealed("simple", says=""), lambda name: [RECORD], NOW)
    assert (result.verdict, result.reason) == ("fail", "the message signature does not cover every From")


def test_only_a_tag_called_b_is_left_out_of_what_is_signed() -> None:
    """Not what looks like it within the value of another tag."""
    assert arc.verify(sealed("simple", says="z=From: b=x; "), lambda name: [RECORD], NOW).verdict == "pass"
