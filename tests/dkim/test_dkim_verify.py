"""The guarded verifier: shared vectors, and each thing that dkimpy alone lets through."""

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from mtad.dkim.keys import SigningKey, record
from mtad.dkim.sign import BodyHash, sign
from mtad.dkim.verify import SIGNATURES_MAX, KeyUnavailable, Result, verify

SUITES = Path(__file__).resolve().parents[3] / "shared" / "suites"
CHASQUID = SUITES / "dkim-chasquid"
NOW = 1_710_000_000
ED = ed25519.Ed25519PrivateKey.generate()
RSA = rsa.generate_private_key(65537, 1024)
KEY = SigningKey("example.test", "s", "ed25519", 256, "", ED, b"ed25519-sha256")
RSA_KEY = SigningKey("example.test", "s", "rsa", 1024, "", RSA, b"rsa-sha256")
HEAD = b"From: alice@example.test\r\nTo: bob@example.net\r\nSubject: hi\r\n\r\n"
BODY = b"hello\r\n"


def signed(key: SigningKey = KEY, head: bytes = HEAD, body: bytes = BODY) -> bytes:
    made = BodyHash()
    made.update(body)
    return sign(key, head, made.digest(), NOW - 100) + head + body


def resigned(extra: str, key: SigningKey = KEY, body: bytes = BODY, **changed: str) -> bytes:
    """A signature with other tags than we would ever write, right by its own words."""
    made = BodyHash()
    made.update(body)
    tags = {
        "v": "1", "a": key.tag.decode(), "c": "relaxed/relaxed", "d": key.domain, "s": key.selector, "h": "from",
        "bh": base64.b64encode(made.digest()).decode(),
    } | changed  # fmt: skip
    value = "; ".join(f"{name}={text}" for name, text in tags.items() if text) + f"; {extra}b="
    octets = b"from:alice@example.test\r\ndkim-signature:" + value.encode()
    b = base64.b64encode(key.sign(octets))
    return b"DKIM-Signature: " + value.encode() + b + b"\r\n" + HEAD + body


def judge(message: bytes, text: str = "", now: float = NOW, key: SigningKey = KEY) -> Result:
    [result] = verify(message, lambda _name: [text or record(key)], now)
    return result


def records(path: Path) -> dict[str, list[str]]:
    """The `.dns` files: "name: text", continued by a backslash, one record each."""
    found: dict[str, list[str]] = {}
    for line in re.sub(r"\\\n\s*", "", path.read_text()).split("\n"):
        if line.strip() and not line.startswith("#"):
            name, _, text = line.partition(":")
            found.setdefault(name.strip(), []).append(text.strip())
    return found


def lookup(found: Mapping[str, Sequence[str]]) -> Callable[[str], Sequence[str]]:
    def txt(name: str) -> Sequence[str]:
        texts = found.get(name, ())
        if any("TEMPERROR" in text for text in texts):
            raise TimeoutError
        return [] if any("PERMERROR" in text for text in texts) else texts

    return txt


STATES = {"SUCCESS": {"pass"}, "PERMFAIL": {"permerror", "fail"}, "TEMPFAIL": {"temperror"}}


@pytest.mark.skipif(not CHASQUID.is_dir(), reason="the shared suites are not here")
@pytest.mark.parametrize("name", sorted(path.stem for path in CHASQUID.glob("*.result")))
def test_vectors(name: str) -> None:
    wanted = json.loads((CHASQUID / f"{name}.result").read_text())
    dns = CHASQUID / f"{name}.dns"
    message = (CHASQUID / f"{name}.msg").read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    results = verify(message, lookup(records(dns if dns.exists() else CHASQUID / "01-rfc8463.dns")), NOW)
    assert len(results) >= len(wanted["Results"])
    for result, row in zip(results, wanted["Results"], strict=False):
        allowed = {"neutral"} if "l=" in row["SignatureHeader"] else STATES[row["State"]]
        assert result.result in allowed, result


def test_ours_pass() -> None:
    assert judge(signed()) == Result("example.test", "s", "pass")
    assert judge(signed(RSA_KEY), key=RSA_KEY).result == "pass"
    assert judge(resigned("")).result == "pass"
    assert judge(resigned("i=x@example.test; ")).result == "pass"
    assert judge(resigned("i=x@sub.example.test; ")).result == "pass"
    assert judge(resigned(f"x={NOW + 5}; ")).result == "pass"
    assert verify(HEAD + BODY, lambda _name: [], NOW) == []


@pytest.mark.parametrize(
    ("message", "wanted", "reason"),
    [
        (signed().replace(b"hello", b"hallo"), "fail", "body"),
        (signed().replace(b"Subject: hi", b"Subject: ho"), "fail", "does not match"),
        (signed().replace(b"Subject: hi", b"Subject: hi\r\nSubject: ho"), "fail", "does not match"),
        (resigned("l=7; ") + b"appended\r\n", "neutral", "l="),
        (resigned("l=; "), "permerror", "l="),
        (resigned("l=x; "), "permerror", "l="),
        (resigned(f"x={NOW - 5}; "), "fail", "expired"),
        (resigned("t=9; x=8; "), "permerror", "before"),
        (resigned("t=now; "), "permerror", "t="),
        (resigned("i=example.test; "), "permerror", "i="),
        (resigned("i=@notexample.test; "), "permerror", "i="),
        (resigned("i=@test; "), "permerror", "i="),
        (resigned("", h="to:subject"), "permerror", "From"),
        (resigned("", h="from:" + ":".join(["to"] * 300)), "permerror", "h="),
        (resigned("", v="2"), "permerror", "version"),
        (resigned("", v=""), "permerror", "v= is missing"),
        (resigned("", a="rsa-sha1"), "permerror", "rsa-sha1 is not accepted"),
        (resigned("", c="odd/odd"), "permerror", "canonicalization"),
        (resigned("", d="a b"), "permerror", "d="),
        (resigned("", s="x/../y"), "permerror", "s="),
        (resigned("", bh="!!!"), "permerror", "bh="),
        (resigned("", bh="AAAA"), "permerror", "bh="),
        (resigned("q=carrier/pigeon; "), "permerror", "q="),
        (resigned("z=1; z=2; "), "permerror", "tag list"),
        (resigned("nonsense; "), "permerror", "tag list"),
        (resigned("z=" + " " * 9000 + "; "), "permerror", "oversized"),
        (resigned("z=\u00e4; "), "permerror", "ASCII"),
        (b"DKIM-Signature:\r\n" + HEAD, "permerror", "v= is missing"),
        (b"DKIM-Signature: v=1; a=ed25519-sha256; d=x.test; s=s; h=from; bh=x; b=\r\n" + HEAD, "permerror", "b="),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_signature(message: bytes, wanted: str, reason: str) -> None:
    result = judge(message)
    assert result.result == wanted
    assert reason in result.reason


@pytest.mark.parametrize(
    ("extra", "domain", "wanted"),
    [
        ("", "b\u00fccher.test", "pass"),
        ("i=m\u00fcller@mail.b\u00fccher.test; ", "b\u00fccher.test", "pass"),
        ("i=@mail.b\u00fccher.test; ", "xn--bcher-kva.test", "pass"),
        ("i=@b\u00fccher.test; ", "example.test", "permerror"),
        ("", "b\u00fc\u2028cher.test", "permerror"),
        ("z=\u00fc; ", "b\u00fccher.test", "permerror"),
    ],
)
def test_international_domains(extra: str, domain: str, wanted: str) -> None:
    """RFC 8616 4: U-labels in d=, s= and i= are asked for as A-labels."""
    asked: list[str] = []

    def found(name: str) -> Sequence[str]:
        asked.append(name)
        return [record(KEY)]

    [result] = verify(resigned(extra, d=domain, s="schl\u00fcssel"), found, NOW)
    assert result.result == wanted, result
    if wanted == "pass":
        assert asked == ["xn--schlssel-95a._domainkey.xn--bcher-kva.test"]
        assert (result.domain, result.selector) == ("xn--bcher-kva.test", "xn--schlssel-95a")


def test_blanks_around_the_colons_of_q_are_allowed() -> None:
    """RFC 6376 3.5."""
    assert judge(resigned("q=carrier/pigeon : dns/txt ; ")).reason != "unknown q="


def public(kind: str) -> str:
    return record(KEY if kind == "ed25519" else RSA_KEY).rpartition("p=")[2]


ED_P = public("ed25519")


@pytest.mark.parametrize(
    ("message", "text", "wanted", "reason"),
    [
        (signed(), f"p={ED_P}; k=ed25519", "pass", ""),
        (signed(), f"v=DKIM1; k=ed25519; s=email; h=sha1:sha256; t=x:z; p={ED_P}", "pass", ""),
        (signed(), f"k=ed25519; v=DKIM1; p={ED_P}", "permerror", "v= is not the first tag"),
        (signed(), f"k=ed25519; p={ED_P}; v=DKIM1;", "permerror", "v= is not the first tag"),
        (signed(), f" v = DKIM1 ; k=ed25519; p={ED_P}", "pass", ""),
        (signed(), f"v=DKIM1; k=ed25519; h=sha1; p={ED_P}", "permerror", "sha256"),
        (signed(), f"v=DKIM1; k=ed25519; s=other; p={ED_P}", "permerror", "not for mail"),
        (signed(), f"v=DKIM2; k=ed25519; p={ED_P}", "permerror", "record"),
        (signed(), "v=DKIM1; k=ed25519; p=", "permerror", "revoked"),
        (signed(), "v=DKIM1; k=ed25519; p=AAAA", "permerror", "malformed key"),
        (signed(), "v=DKIM1; k=ed25519; p=?", "permerror", "p="),
        (signed(), f"v=DKIM1; k=rsa; p={public('rsa')}", "permerror", "not for ed25519-sha256"),
        (signed(), f"v=DKIM1; k=ed25519; t=s; p={ED_P}", "pass", ""),
        (resigned("i=@sub.example.test; "), f"v=DKIM1; k=ed25519; t=y:s; p={ED_P}", "permerror", "sub-domain"),
        (resigned("i=@sub.example.test; "), f"v=DKIM1; k=ed25519; t=s ; p={ED_P}", "permerror", "sub-domain"),
        (resigned("i=x@EXAMPLE.test; "), f"v=DKIM1; k=ed25519; t=s; p={ED_P}", "pass", ""),
        (signed(), "v=DKIM1; k=ed25519; p=\u00e4", "permerror", "record"),
        (signed(), "no tags at all", "permerror", "tag list"),
        (signed(RSA_KEY), f"p={public('rsa')}", "pass", ""),
    ],
)
def test_key_records(message: bytes, text: str, wanted: str, reason: str) -> None:
    result = judge(message, text)
    assert result.result == wanted, result
    assert reason in result.reason


@pytest.mark.parametrize("flags", ["y", "s:y", " y : s "])
def test_who_tests_counts_as_unsigned(flags: str) -> None:
    """RFC 6376 3.6.1: mail of such a signer MUST NOT be treated differently from unsigned mail, right or not."""
    text = f"v=DKIM1; k=ed25519; t={flags}; p={ED_P}"
    right, wrong = judge(signed(), text), judge(signed().replace(b"hello", b"hallo"), text)
    assert (right.result, right.reason) == (
        "neutral", "the signature is right, but its key says t=y: for tests, so it counts as unsigned"
    )  # fmt: skip
    assert (wrong.result, wrong.reason) == (
        "neutral", "the body was changed, and its key says t=y: for tests, so it counts as unsigned"
    )  # fmt: skip


def test_the_record_that_fits_is_taken() -> None:
    texts = ["something else", record(RSA_KEY), record(KEY)]
    assert verify(signed(), lambda _name: texts, NOW)[0].result == "pass"


def test_lookups() -> None:
    asked: list[str] = []

    def none(name: str) -> Sequence[str]:
        asked.append(name)
        return []

    def broken(_name: str) -> Sequence[str]:
        raise TimeoutError

    [result] = verify(signed(), none, NOW)
    assert (result.result, result.reason) == ("permerror", "there is no key record")
    assert asked == ["s._domainkey.example.test"]
    assert verify(signed(), broken, NOW)[0] == Result(
        "example.test", "s", "temperror", "the key cannot be looked up now"
    )  # fmt: skip

    def silent(_name: str) -> Sequence[str]:
        raise KeyUnavailable("no answer within 5 s")

    assert verify(signed(), silent, NOW)[0].reason == "the key cannot be looked up: no answer within 5 s"


def test_what_dkimpy_stumbles_over_is_told_in_words() -> None:
    [result] = verify(b"Odd : field\r\n" + signed(), lambda _name: [record(KEY)], NOW)
    assert (result.result, result.reason) == ("permerror", "the header is malformed")


def test_the_first_line_of_a_mailbox_file_is_no_harm() -> None:
    assert judge(b"From alice Sat Jan  1 00:00:00 2026\r\n" + signed()).result == "pass"
    assert judge(b"From : mallory@example.test\r\n" + signed()).result == "permerror"
    assert judge(b"From alice\r\nno field\r\n" + signed()).result == "permerror"


def odd_rsa(modulus: int, exponent: int) -> str:
    octets = rsa.RSAPublicNumbers(exponent, modulus).public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )  # fmt: skip
    return base64.b64encode(octets).decode()


@pytest.mark.parametrize(
    "p",
    [
        odd_rsa(RSA.public_key().public_numbers().n, (1 << 40) + 1),
        odd_rsa((1 << 8191) + 1, 65537),
        odd_rsa((1 << 1023) - 1, 65537),
    ],
)
def test_no_sender_chooses_how_long_we_calculate(p: str) -> None:
    result = judge(signed(RSA_KEY), f"v=DKIM1; p={p}")
    assert result.result == "permerror"


def test_many_signatures_are_not_all_looked_at() -> None:
    field = signed()[: -len(HEAD + BODY)]
    results = verify(field * 50 + HEAD + BODY, lambda _name: [record(KEY)], NOW)
    assert [result.result for result in results] == ["pass"] * SIGNATURES_MAX + ["neutral"]


def test_many_fields_are_too_many() -> None:
    [result] = verify(signed(head=b"X: y\r\n" * 600 + HEAD), lambda _name: [record(KEY)], NOW)
    assert result.result == "permerror"


@pytest.mark.parametrize(("crlf", "lf"), [(b"a\r\nb", b"a\nb"), (b"net\r\nSubject", b"net\nSubject")])
def test_a_bare_lf_is_no_line_end(crlf: bytes, lf: bytes) -> None:
    whole = signed(body=b"a\r\nb\r\n")
    assert judge(whole).result == "pass"
    assert judge(whole.replace(crlf, lf)) == Result("example.test", "s", "fail", "a bare LF in the mail")


def test_times_have_no_slop() -> None:
    """dkimpy alone lets ten hours pass."""
    assert judge(resigned(f"x={NOW}; ")).result == "pass"
    assert judge(resigned(f"x={NOW - 1}; ")).result == "fail"


def test_a_megabyte_of_blanks_is_no_work() -> None:
    # dkimpy's own relaxed form would take many minutes for it: the test would run into its time limit.
    body = b"a" + b" " * 1_000_000 + b"b\r\n"
    assert judge(signed(body=body)).result == "pass"


def test_many_folds_are_no_work() -> None:
    # dkimpy's own parser takes the square of them: the test would run into its time limit.
    assert judge(signed(head=b"X: y\r\n" + b" z\r\n" * 800_000 + HEAD)).result == "pass"


@pytest.mark.parametrize(
    "message",
    [
        b" begins with a fold\r\n" + signed(),
        b"Odd : field\r\n" + signed(),
        b"\xff: field\r\n" + signed(),
        b"",
        b"\r\n",
        b"DKIM-Signature:",
        b"DKIM-Signature: " + b";" * 1000 + b"\r\n\r\n",
    ],
)
def test_odd_mail_never_raises(message: bytes) -> None:
    assert all(result.result != "pass" for result in verify(message, lambda _name: [record(KEY)], NOW))


@given(junk=st.binary(max_size=60), at=st.integers(0, 400), cut=st.integers(0, 40))
def test_no_octets_make_it_raise(junk: bytes, at: int, cut: int) -> None:
    whole = signed()
    at = min(at, len(whole))
    for result in verify(whole[:at] + junk + whole[at + cut :], lambda _name: [record(KEY)], NOW):
        assert result.reason.isprintable()


@given(text=st.text(max_size=80))
def test_no_record_makes_it_raise(text: str) -> None:
    judge(signed(), text or " ")
