import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.mail.params import (
    MailParams,
    RcptParams,
    ehlo_lines,
    mail_params,
    parse_params,
    rcpt_params,
    xtext_decode,
    xtext_encode,
)
from mtad.mail.reply import Refused


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("", ()),
        ("   ", ()),
        ("size=10", (("SIZE", "10"),)),
        ("BODY=8bitMIME  ENVID=QqQ SMTPUTF8", (("BODY", "8bitMIME"), ("ENVID", "QqQ"), ("SMTPUTF8", ""))),
        ("X-1=a+b;c", (("X-1", "a+b;c"),)),
        ("ORCPT=utf-8;ü@x", (("ORCPT", "utf-8;ü@x"),)),
    ],
)
def test_grammar(text: str, pairs: tuple[tuple[str, str], ...]) -> None:
    assert parse_params(text) == pairs


@pytest.mark.parametrize(
    "text",
    [
        "=",
        "=x",
        "SIZE=",
        "SIZE==1",
        "A=b=c",
        "-X=1",
        "a_b=1",
        "SIZE=1 size=2",
        "A\tB",
        "A=\x7f",
        "A=\0",
        "A=\r",
        "\u00fc=1",
        "SMTPUTF8 SMTPUTF8",
        "A=\udc80",
        "A=\x85",
    ],
)
def test_malformed(text: str) -> None:
    for call in (parse_params, mail_params, rcpt_params):
        with pytest.raises(Refused) as refused:
            call(text)
        assert (refused.value.reply.code, refused.value.reply.status) == (501, "5.5.4")


@pytest.mark.parametrize(
    ("text", "params"),
    [
        ("", MailParams()),
        ("SIZE=0", MailParams()),
        ("size=1000 body=8bitmime", MailParams(size_bytes=1000, body="8BITMIME")),
        ("SMTPUTF8", MailParams(smtputf8=True)),
        ("RET=hdrs ENVID=aB+2Bc", MailParams(ret="HDRS", envid="aB+2Bc")),
        ("AUTH=<>", MailParams(auth="<>")),
        ("AUTH=e+3Dmc2@example.com", MailParams(auth="e=mc2@example.com")),
        ("REQUIRETLS", MailParams(requiretls=True)),
        ("BODY=BINARYMIME", MailParams(body="BINARYMIME")),
        ("ENVID=" + "x" * 100, MailParams(envid="x" * 100)),
    ],
)
def test_mail(text: str, params: MailParams) -> None:
    assert mail_params(text, size_max=1000, binary=True, requiretls=True) == params


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("SIZE=-1", 501), ("SIZE=x", 501), ("SIZE", 501), ("SIZE=" + "9" * 21, 501), ("SIZE=1e3", 501),
        ("SIZE=\u0661", 501),
        ("SIZE=1001", 552), ("SIZE=" + "9" * 20, 552),
        ("BODY=", 501), ("BODY=9BIT", 501), ("BODY", 501), ("BODY=BINARYMIME", 501),
        ("SMTPUTF8=1", 501), ("RET=ALL", 501), ("RET", 501), ("ENVID", 501), ("ENVID=+", 501), ("ENVID=a+0Ab", 501),
        ("ENVID=a+C3+BC", 501), ("ENVID=ü", 501), ("ENVID=" + "x" * 101, 501),
        ("AUTH", 501), ("AUTH=+0D+0A", 501), ("AUTH=+ZZ", 501),
        ("REQUIRETLS", 555), ("NOTIFY=NEVER", 555), ("ORCPT=rfc822;a", 555), ("XFOO", 555), ("MT-PRIORITY=3", 555),
        ("X" * 2000, 555),
    ],
)  # fmt: skip
def test_mail_refused(text: str, code: int) -> None:
    with pytest.raises(Refused) as refused:
        mail_params(text, size_max=1000)
    reply = refused.value.reply
    assert (reply.code, reply.status) == (code, "5.3.4" if code == 552 else "5.5.4")
    assert len(reply.wire()) < 512


@pytest.mark.parametrize("text", ["SMTPUTF8", "RET=FULL", "ENVID=x"])
def test_what_is_not_offered_is_unknown(text: str) -> None:
    with pytest.raises(Refused) as refused:
        mail_params(text, dsn=False, utf8=False)
    assert refused.value.reply.code == 555


@pytest.mark.parametrize(
    ("text", "params"),
    [
        ("", RcptParams()),
        ("NOTIFY=never", RcptParams("NEVER")),
        ("NOTIFY=delay,Success,DELAY", RcptParams("SUCCESS,DELAY")),
        ("ORCPT=rfc822;Bob+2Bx@Example.com", RcptParams("", "rfc822;Bob+2Bx@Example.com")),
        ("orcpt=RFC822;a notify=FAILURE", RcptParams("FAILURE", "RFC822;a")),
        ("ORCPT=utf-8;ü@x.example", RcptParams("", "utf-8;ü@x.example")),
        ("ORCPT=utf-8;\\x{FC}@x.example", RcptParams("", "utf-8;\\x{FC}@x.example")),
        ("ORCPT=rfc822;" + "x" * 493, RcptParams("", "rfc822;" + "x" * 493)),
    ],
)
def test_rcpt(text: str, params: RcptParams) -> None:
    assert rcpt_params(text) == params


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("NOTIFY", 501), ("NOTIFY=", 501), ("NOTIFY=NEVER,DELAY", 501), ("NOTIFY=ALWAYS", 501),
        ("NOTIFY=,", 501), ("NOTIFY=DELAY,", 501),
        ("ORCPT", 501), ("ORCPT=a@b", 501), ("ORCPT=;a", 501), ("ORCPT=rfc822;", 501),
        ("ORCPT=rfc822;a+0D+0Ab", 501),
        ("ORCPT=rfc822;a+2", 501), ("ORCPT=rfc822;\u00fc@x", 501), ("ORCPT=r@c;a", 501),
        ("ORCPT=rfc822;" + "x" * 494, 501),
        ("SIZE=1", 555), ("RET=FULL", 555), ("X=1", 555),
    ],
)  # fmt: skip
def test_rcpt_refused(text: str, code: int) -> None:
    with pytest.raises(Refused) as refused:
        rcpt_params(text)
    assert (refused.value.reply.code, refused.value.reply.status) == (code, "5.5.4")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_xtext_round_trip(text: str) -> None:
    coded = xtext_encode(text)
    assert all("!" <= char <= "~" and char != "=" for char in coded)
    assert xtext_decode(coded) == text


@pytest.mark.parametrize("bad", ["+", "a+2", "+GG", "=", " ", "\u00fc", "+FF"])
def test_not_xtext(bad: str) -> None:
    with pytest.raises(ValueError):
        xtext_decode(bad)


WORDS = st.lists(
    st.sampled_from(
        ["SIZE", "BODY", "NOTIFY", "ORCPT", "AUTH", "ENVID", "=", " ", "+", "1", ";", ",", "NEVER", "\0", "ü", "\udc80"]
    )
).map("".join)


@given(WORDS | st.text())
def test_garbage_gives_a_refusal_only(text: str) -> None:
    for call in (parse_params, mail_params, rcpt_params):
        try:
            call(text)
        except Refused as refused:
            assert refused.reply.code in (501, 555)  # noqa: PT017


def test_ehlo() -> None:
    assert ehlo_lines("mx.example", size=1000, tls_offered=False) == (
        b"250-mx.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n"
        b"250-SMTPUTF8\r\n250 DSN\r\n"
    )
    full = ehlo_lines(
        "mx.example", size=0, tls_offered=True, auth=("PLAIN", "LOGIN"), chunking=True, requiretls=True
    ).splitlines()
    assert full[-1] == b"250 AUTH PLAIN LOGIN"
    assert {b"250-STARTTLS", b"250-CHUNKING", b"250-BINARYMIME", b"250-REQUIRETLS", b"250-SIZE 0"} <= set(full)
    bare = ehlo_lines("mx.example", size=0, tls_offered=False, utf8=False, dsn=False)
    assert bare.endswith(b"\r\n250 ENHANCEDSTATUSCODES\r\n")
