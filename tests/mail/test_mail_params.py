import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.mail.extensions import Offers
from mtad.mail.params import (
    MailParams,
    RcptParams,
    mail_params,
    parse_params,
    rcpt_params,
    xtext_decode,
    xtext_encode,
)
from mtad.mail.reply import Refused

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
STRANGER = Offers(size_max_bytes=1000)
USER = Offers(size_max_bytes=1000, hold_max_s=3600.0, secure=True, submission=True)
CALLS = (parse_params, lambda text: mail_params(text, USER, NOW), lambda text: rcpt_params(text, USER))


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
    for call in CALLS:
        with pytest.raises(Refused) as refused:
            call(text)
        assert (refused.value.reply.code, refused.value.reply.status) == (501, "5.5.4")


@pytest.mark.parametrize(
    ("text", "params"),
    [
        ("", MailParams()),
        ("SIZE=0", MailParams()),
        ("MT-PRIORITY=-9", MailParams(priority=-9)),
        ("mt-priority=0", MailParams()),
        ("HOLDFOR=60", MailParams(hold_until=NOW + 60)),
        ("HOLDUNTIL=2027-01-15T08:00:30Z", MailParams(hold_until=NOW + 30)),
        ("HOLDUNTIL=2027-01-15t10:00:30.5+02:00", MailParams(hold_until=NOW + 30.5)),
        ("HOLDUNTIL=1999-01-01T00:00:00Z", MailParams(hold_until=915148800.0)),
        ("BY=120;R", MailParams(by_at=NOW + 120, by_mode="R")),
        ("BY=-5;nt", MailParams(by_at=NOW - 5, by_mode="N", by_trace=True)),
        ("BY=90;R HOLDFOR=60", MailParams(hold_until=NOW + 60, by_at=NOW + 90, by_mode="R")),
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
    assert mail_params(text, USER, NOW) == params


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("SIZE=-1", 501), ("SIZE=x", 501), ("SIZE", 501), ("SIZE=" + "9" * 21, 501), ("SIZE=1e3", 501),
        ("SIZE=\u0661", 501),
        ("SIZE=1001", 552), ("SIZE=" + "9" * 20, 552),
        ("BODY=", 501), ("BODY=9BIT", 501), ("BODY", 501), ("BODY=BINARY", 501),
        ("SMTPUTF8=1", 501), ("RET=ALL", 501), ("RET", 501), ("ENVID", 501), ("ENVID=+", 501), ("ENVID=a+0Ab", 501),
        ("ENVID=a+C3+BC", 501), ("ENVID=ü", 501), ("ENVID=" + "x" * 101, 501),
        ("AUTH", 501), ("AUTH=+0D+0A", 501), ("AUTH=+ZZ", 501),
        ("REQUIRETLS", 555), ("NOTIFY=NEVER", 555), ("ORCPT=rfc822;a", 555), ("XFOO", 555),
        ("HOLDFOR=3", 555), ("BY=60;R", 555),
        ("MT-PRIORITY", 501), ("MT-PRIORITY=10", 501), ("MT-PRIORITY=+1", 501), ("MT-PRIORITY=-0", 501),
        ("X" * 2000, 555),
    ],
)  # fmt: skip
def test_mail_refused(text: str, code: int) -> None:
    with pytest.raises(Refused) as refused:
        mail_params(text, STRANGER, NOW)
    reply = refused.value.reply
    assert (reply.code, reply.status) == (code, "5.3.4" if code == 552 else "5.5.4")
    assert len(reply.wire()) < 512


@pytest.mark.parametrize(
    "text",
    [
        "HOLDFOR=", "HOLDFOR=-1", "HOLDFOR=1x", "HOLDFOR=3601", "HOLDFOR=9999999999", "HOLDUNTIL", "HOLDUNTIL=tomorrow",
        "HOLDUNTIL=2027-01-15T08:00:30", "HOLDUNTIL=2027-01-15T09:00:01Z", "HOLDUNTIL=2027-13-15T08:00:30Z",
        "HOLDUNTIL=2027-01-15T08:00:99Z", "HOLDUNTIL=0000-01-01T00:00:00Z", "HOLDFOR=5 HOLDUNTIL=2027-01-15T08:00:30Z",
        "BY", "BY=60", "BY=60;", "BY=60;X", "BY=60;RR", "BY=60;RTT", "BY=0;R", "BY=9;R", "BY=-60;R", "BY=1234567890;R",
        "BY=60;R HOLDFOR=60", "REQUIRETLS=yes",
    ],
)  # fmt: skip
def test_wishes_that_are_refused(text: str) -> None:
    with pytest.raises(Refused) as refused:
        mail_params(text, USER, NOW)
    assert (refused.value.reply.code, refused.value.reply.status) == (501, "5.5.4")


@pytest.mark.parametrize(
    ("text", "offers"),
    [
        ("REQUIRETLS", Offers(submission=True, hold_max_s=9)),
        ("HOLDFOR=1", Offers(submission=True)),
        ("HOLDFOR=1", Offers(hold_max_s=9)),
        ("BY=60;N", Offers(secure=True)),
    ],
)
def test_what_is_not_offered_is_unknown(text: str, offers: Offers) -> None:
    with pytest.raises(Refused) as refused:
        mail_params(text, offers, NOW)
    assert (refused.value.reply.code, refused.value.reply.status) == (555, "5.5.4")


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
    assert rcpt_params(text, STRANGER) == params


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
        rcpt_params(text, STRANGER)
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
    for call in CALLS:
        try:
            call(text)
        except Refused as refused:
            assert refused.reply.code in (501, 555)  # noqa: PT017
