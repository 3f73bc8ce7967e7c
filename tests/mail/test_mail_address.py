import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mtad.mail.address import (
    AddressError,
    domain_of,
    fold,
    parse,
    parse_path,
    same,
    split,
    subaddress,
    to_ascii,
)

SUITE = Path(__file__).resolve().parents[3] / "shared" / "suites" / "addr-isemail" / "tests.xml"
L64 = "x" * 64


@pytest.mark.parametrize(
    ("text", "address", "rest"),
    [
        ("<>", "", ""),
        ("<> SIZE=1", "", "SIZE=1"),
        ("<a@b.example>", "a@b.example", ""),
        ("<Alice.B@Example.TEST> SIZE=10  BODY=8BITMIME ", "Alice.B@example.test", "SIZE=10  BODY=8BITMIME"),
        ("<postmaster>", "postmaster", ""),
        ("<PostMaster> NOTIFY=NEVER", "postmaster", "NOTIFY=NEVER"),
        ("<postmaster@x.example>", "postmaster@x.example", ""),
        ("<@a.example:u@c.example>", "u@c.example", ""),
        ("<@a.example,@b.example:u@c.example>", "u@c.example", ""),
        ('<"a b"@x.example>', '"a b"@x.example', ""),
        ('<"a>b"@x.example> X=1', '"a>b"@x.example', "X=1"),
        ('<"ab"@x.example>', "ab@x.example", ""),
        ("<a@[127.0.0.1]>", "a@[127.0.0.1]", ""),
        ("<a@[ipv6:2001:DB8::1]>", "a@[IPv6:2001:db8::1]", ""),
        (f"<{L64}@b.example>", f"{L64}@b.example", ""),
    ],
)
@pytest.mark.parametrize("utf8", [False, True])
def test_path(text: str, address: str, rest: str, utf8: bool) -> None:
    assert parse_path(text, utf8=utf8) == (address, rest)


@pytest.mark.parametrize(
    "text",
    [
        "", "a@b", "<", "<a@b", "<a>", "<@b>", "<a@>", "<a@b>x", "<a@b>>", "<<a@b>>", "<>x", "<postmaster>x", " <a@b>",
        "<a b@c>", "<a@b c>", "<a@b.>", "<a@.b>", "<a@b..c>", "<a..b@c>", "<.a@c>", "<a.@c>", "<a@-b>", "<a@b->",
        "<a@b_c>", "<a@b@c>", "<a,b@c>", "<Name <a@b>>", "<a(comment)@b>", '<"a@b>', '<"a"b@c>', '<"a\\"@b>',
        "<a\0@b>", "<a\r@b>", "<a@b\n>", "<a@b>\n", '<"a\tb"@c>', '<"\x7f"@c>', '<"\\\x01"@c>', "<a\x80@b>",
        "<a\u202eb@c>",
        "<\udcff@b>", "<a\u2028@b>", "<a@[127.0.0.256]>", "<a@[127.1]>", "<a@[127.0.0.01]>", "<a@[1.2.3.4.]>",
        "<a@[::1]>",
        "<a@[IPv6:fe80::1%lo]>", "<a@[IPv6:1::2::3]>", "<a@[x:y]>", "<a@[]>", "<a@127.0.0.1]>", "<@a.example:>",
        "<@a.example u@c>", "<@a.example:@b.example:u@c>", "<@:u@c>", "<@a.example,:u@c>",
        f"<{L64}x@b.example>", f"<a@{L64}>", "<a@" + ".".join(["a" * 60] * 5) + ">",
        "<" + "@a.example," * 30 + "@b:u@c>",
    ],
)  # fmt: skip
@pytest.mark.parametrize("utf8", [False, True])
def test_not_a_path(text: str, utf8: bool) -> None:
    with pytest.raises(AddressError):
        parse_path(text, utf8=utf8)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("ü@b.example", "ü@b.example"),
        ("Ü@BÜCHER.Example", "Ü@bücher.example"),
        ('"ü x"@b.example', '"ü x"@b.example'),
        ('"ü"@b.example', "ü@b.example"),
        ("用户@例え.テスト", "用户@例え.テスト"),
        ("u@ｅｘample.test", "u@example.test"),  # noqa: RUF001  (full-width letters are the case here)
    ],
)
def test_utf8(text: str, canonical: str) -> None:
    assert parse(text, utf8=True) == canonical
    with pytest.raises(AddressError) as refused:
        parse(text)
    assert refused.value.status == "5.6.7"


def test_local_part_is_counted_in_octets() -> None:
    parse("ü" * 32 + "@b.example", utf8=True)
    with pytest.raises(AddressError):
        parse("ü" * 33 + "@b.example", utf8=True)


@pytest.mark.parametrize(
    ("domain", "ascii_form"),
    [
        ("Example.TEST", "example.test"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),  # RFC 5891: not "strasse"
        ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("[IPv6:2001:DB8::1]", "[ipv6:2001:db8::1]"),
    ],
)
def test_to_ascii(domain: str, ascii_form: str) -> None:
    assert to_ascii(domain) == ascii_form


@pytest.mark.parametrize(
    "domain",
    ["", ".", "a..b", "ü..b", "-ü.b", "ü-.b", "a.b.", "ü.b.", "℀.example", "a。b", "ü b", "\u0301a.example",
     "ü\u200d.example", "üü--a.example", "ü" * 64, ".".join(["ü" * 20] * 12), "☃.example", "ü@b", "x" * 64, "ü\0"],
)  # fmt: skip
def test_not_a_domain(domain: str) -> None:
    with pytest.raises(AddressError) as refused:
        to_ascii(domain)
    assert refused.value.status == "5.1.2"


def test_parts() -> None:
    assert split('"a@b"@c.example') == ('"a@b"', "c.example")
    assert split("") == ("", "")
    assert split("postmaster") == ("postmaster", "")
    assert domain_of("a@bücher.example") == "xn--bcher-kva.example"
    assert domain_of("a@b.example") == "b.example"
    assert domain_of("") == domain_of("postmaster") == ""
    assert domain_of("a@[IPv6:::1]") == "[ipv6:::1]"


def test_comparison() -> None:
    assert fold("Alice@b.example") == "alice@b.example"
    assert same("Alice@B.example", "aLICE@b.EXAMPLE")
    assert same("u@bücher.example", "u@xn--bcher-kva.example")
    assert same("u\u0308@b.example", "ü@b.example")
    assert not same("a@b.example", "a@c.example")
    assert not same("ss@b.example", "ß@b.example")
    assert fold("") == ""
    assert fold("postmaster") == "postmaster"


@pytest.mark.parametrize(
    ("local", "delimiter", "parts"),
    [
        ("alice+x", "+", ("alice", "x")),
        ("alice+x+y", "+", ("alice", "x+y")),
        ("alice+", "+", ("alice", "")),
        ("alice", "+", ("alice", "")),
        ("+x", "+", ("+x", "")),
        ("alice+x", "", ("alice+x", "")),
        ("alice--x", "--", ("alice", "x")),
        ('"alice+x y"', "+", ('"alice+x y"', "")),
    ],
)
def test_subaddress(local: str, delimiter: str, parts: tuple[str, str]) -> None:
    assert subaddress(local, delimiter) == parts


# Valid by RFC 5321 for the suite: plain, valid but unknown to DNS, valid with unusual elements.
VALID = {"ISEMAIL_VALID_CATEGORY", "ISEMAIL_DNSWARN", "ISEMAIL_RFC5321"}
DISAGREE = {
    # RFC 4291 2.2 lets :: stand for one group, and there is only one host it can mean.
    "71": "an IPv6 literal whose :: stands for a single group",
}


def _suite() -> list[tuple[str, str, bool]]:
    if not SUITE.exists():
        return []
    found = []
    for test in ET.parse(SUITE).getroot().iter("test"):
        text = "".join(chr(ord(c) - 0x2400) if "\u2400" <= c < "\u2420" else c for c in test.findtext("address") or "")
        found.append((test.get("id", ""), text, test.findtext("category") in VALID))
    return found


@pytest.mark.skipif(not SUITE.exists(), reason="the isemail suite is not here")
def test_isemail_suite() -> None:
    wrong = set()
    cases = _suite()
    for number, text, valid in cases:
        try:
            parse(text)
            parse_path(f"<{text}>", utf8=False)
            accepted = True
        except AddressError:
            accepted = False
        if accepted != valid:
            wrong.add(number)
    assert len(cases) > 150
    assert wrong == set(DISAGREE)


ODD = st.lists(st.sampled_from([*'ab.@<>"\\[]:+- ,\0\r\nüß。', "IPv6:", "\u202e", "\udc80", "1"]), max_size=24).map(
    "".join
)


@given(ODD | st.text(max_size=40), st.booleans())
@example('"\\a b"@b', False)
def test_garbage_gives_an_address_or_the_one_error(text: str, utf8: bool) -> None:
    for call in (lambda: parse(text, utf8=utf8), lambda: parse_path(f"<{text}>", utf8=utf8)[0]):
        try:
            address = call()
        except AddressError as error:
            assert str(error).isascii()  # noqa: PT017
            continue
        assert not set(address) & set("\0\r\n\t\u202e\udc80")
        assert utf8 or address.isascii()


ATOM = st.text(st.sampled_from("aZ1!#ü例-+"), min_size=1, max_size=4)
LOCAL = st.one_of(
    st.lists(ATOM, min_size=1, max_size=3).map(".".join),
    st.text(st.sampled_from('aü1 .@<>,"\\'), max_size=12).map(
        lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    ),
    st.lists(st.sampled_from(["\\a", '\\"', "\\\\", "x", "\\.", "ü"])).map(
        lambda parts: '"' + "".join(parts[:12]) + '"'
    ),
)


@given(LOCAL, st.sampled_from(["b.example", "BÜCHER.example", "[192.0.2.1]", "例え.テスト"]))
def test_the_canonical_form_is_its_own(local: str, domain: str) -> None:
    once = parse(f"{local}@{domain}", utf8=True)
    assert parse(once, utf8=True) == once
    assert parse_path(f"<{once}>", utf8=True) == (once, "")
    assert fold(fold(once)) == fold(once)
    assert domain_of(once) == to_ascii(split(once)[1])


@given(st.text(st.characters(min_codepoint=0x80), min_size=1, max_size=20))
def test_an_a_label_is_always_a_host_name(label: str) -> None:
    try:
        name = to_ascii(f"{label}.example")
    except AddressError:
        return
    assert name.isascii()
    assert name == to_ascii(name)
