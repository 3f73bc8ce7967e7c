import email
import email.policy
from dataclasses import replace
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.mail.dsn import RETURN_MAX, DsnInput, DsnRecipient, build, returns_body
from mtad.mail.reply import Reply

SUITE = Path(__file__).resolve().parents[3] / "shared" / "suites" / "dsn-expected"
NOW = 1_795_332_843.0
NO_USER = Reply(550, "5.1.1", "<b@b.example>: no such user", host="mx.b.example", stage="rcpt")
LATER = Reply(451, "4.4.1", "Connection timed out")
OK = Reply(250, "2.0.0", "ok", host="mx.b.example")
HEAD = b"From: a@a.example\r\nTo: b@b.example\r\nSubject: hello\r\nMessage-ID: <1@a.example>\r\n\r\n"
FAILED = DsnRecipient("b@b.example", "failed", NO_USER, orcpt="rfc822;B+2Bx@b.example", last_attempt_at=NOW - 5)
DELAYED = DsnRecipient("c@c.example", "delayed", LATER, last_attempt_at=NOW - 5, will_retry_until=NOW + 86400)
REPORT = DsnInput(
    id="3kf9x2m7q0w2",
    hostname="mail.a.example",
    to="a@a.example",
    message_id="3kf9x2m7q0w1",
    arrived_at=NOW - 60,
    now=NOW,
    recipients=(FAILED,),
    header_id="<1@a.example>",
    envid="QQ+2Bq",
    head=HEAD,
    body=b"hello there\r\n.dot\r\n",
)


def date(at: float) -> str:
    return format_datetime(datetime.fromtimestamp(at, UTC))


def parsed(report: DsnInput) -> Any:
    """The report as the standard library reads it, after a look at its octets."""
    head, body = build(report)
    assert head.endswith(b"\r\n\r\n")
    assert b"\r\n\r\n" not in head[:-4]
    for octets in (head, body):
        assert octets.endswith(b"\r\n")
        assert octets.count(b"\r") == octets.count(b"\n") == octets.count(b"\r\n")
        assert b"\0" not in octets
        assert max(map(len, octets.split(b"\r\n"))) <= 998
    message = email.message_from_bytes(head + body, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    assert len(parts(message)) == 3
    return message


def parts(message: Any) -> list[Any]:
    return list(message.get_payload())


def kinds(message: Any) -> list[str]:
    return [part.get_content_type() for part in parts(message)]


def fields(report: DsnInput) -> list[dict[str, str]]:
    """The groups of the second part: about the mail, then one for each recipient."""
    _, body = build(report)
    mark = b"--=_" + report.id.encode()
    octets = body.split(mark)[2].partition(b"\r\n\r\n")[2]
    groups = octets.decode().replace("\r\n ", " ").strip("\r\n").split("\r\n\r\n")
    return [dict(line.split(": ", 1) for line in group.split("\r\n")) for group in groups]


def words(report: DsnInput) -> str:
    return str(parts(parsed(report))[0].get_content()).replace("\r\n", "\n")


def test_the_head() -> None:
    message = parsed(REPORT)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert message["From"] == "Mail Delivery System <mailer-daemon@mail.a.example>"
    assert [to.addr_spec for to in message["To"].addresses] == ["a@a.example"]
    assert message["Subject"] == "Your mail could not be delivered"
    assert message["Message-ID"] == "<3kf9x2m7q0w2@mail.a.example>"
    assert message["In-Reply-To"] == message["References"] == "<1@a.example>"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["MIME-Version"] == "1.0"
    assert message["Date"] == date(NOW)
    assert kinds(message) == ["text/plain", "message/delivery-status", "message/rfc822"]


def test_it_is_deterministic_and_seven_bit() -> None:
    assert build(REPORT) == build(REPORT)
    assert b"".join(build(REPORT)).isascii()


def test_the_fields_for_programs() -> None:
    assert fields(REPORT) == [
        {"Reporting-MTA": "dns; mail.a.example", "Original-Envelope-Id": "QQ+q", "Arrival-Date": date(NOW - 60)},
        {
            "Original-Recipient": "rfc822; B+x@b.example",
            "Final-Recipient": "rfc822; b@b.example",
            "Action": "failed",
            "Status": "5.1.1",
            "Remote-MTA": "dns; mx.b.example",
            "Diagnostic-Code": "smtp; 550 5.1.1 <b@b.example>: no such user",
            "Last-Attempt-Date": date(NOW - 5),
            "Final-Log-ID": "3kf9x2m7q0w1",
        },
    ]


def test_the_standard_library_reads_the_status_part() -> None:
    blocks = parts(parts(parsed(replace(REPORT, recipients=(FAILED, DELAYED))))[1])
    assert [block["Action"] for block in blocks] == [None, "failed", "delayed"]
    assert blocks[2]["Will-Retry-Until"] == date(NOW + 86400)


def test_the_words_for_people() -> None:
    text = words(REPORT)
    assert "Your mail could not be delivered to:\n\n  <b@b.example>\n" in text
    assert "mx.b.example said: 550 5.1.1 <b@b.example>: no such user" in text
    assert "There is no such mailbox at b.example. Check the address" in text
    assert "It will not be tried again." in text
    assert "3kf9x2m7q0w1" in text


def test_a_delay() -> None:
    report = replace(REPORT, recipients=(DELAYED,))
    about = fields(report)[1]
    assert about["Action"] == "delayed"
    assert about["Status"] == "4.4.1"
    assert about["Diagnostic-Code"] == "x-mtad; 451 4.4.1 Connection timed out"
    assert about["Will-Retry-Until"] == date(NOW + 86400)
    assert "Remote-MTA" not in about
    assert "Original-Recipient" not in about
    assert parsed(report)["Subject"] == "Your mail is delayed"
    assert kinds(parsed(report))[2] == "text/rfc822-headers"
    assert f"It will be tried until {date(NOW + 86400)}." in " ".join(words(report).split())


@pytest.mark.parametrize(
    ("action", "subject"),
    [
        ("delivered", "Your mail was delivered"),
        ("relayed", "Your mail was passed on"),
        ("expanded", "Your mail was delivered to a list"),
    ],
)
def test_success(action: Any, subject: str) -> None:
    report = replace(REPORT, recipients=(DsnRecipient("b@b.example", action, OK),))
    assert parsed(report)["Subject"] == subject
    assert (fields(report)[1]["Action"], fields(report)[1]["Status"]) == (action, "2.0.0")
    assert "refusal" not in words(report)


def test_several_outcomes_in_one_report() -> None:
    report = replace(REPORT, recipients=(DELAYED, FAILED, DsnRecipient("d@d.example", "delivered", OK)))
    assert [group.get("Action") for group in fields(report)] == [None, "delayed", "failed", "delivered"]
    assert parsed(report)["Subject"] == "Your mail could not be delivered"
    text = words(report)
    assert text.index("<b@b.example>") < text.index("<c@c.example>") < text.index("<d@d.example>")


@pytest.mark.parametrize(
    ("action", "given_status", "shown"),
    [
        ("failed", "5.7.1", "5.7.1"), ("failed", "4.4.7", "4.4.7"), ("failed", "2.0.0", "5.0.0"),
        ("failed", "", "5.0.0"),
        ("failed", "5.1", "5.0.0"), ("failed", "9.9.9", "5.0.0"), ("delayed", "5.1.1", "4.0.0"),
        ("delayed", "4.2.2", "4.2.2"),
        ("delivered", "", "2.0.0"), ("relayed", "4.0.0", "2.0.0"), ("delivered", "2.1.5", "2.1.5"),
    ],
)  # fmt: skip
def test_a_status_never_contradicts_the_action(action: Any, given_status: str, shown: str) -> None:
    report = replace(REPORT, recipients=(DsnRecipient("b@b", action, Reply(550, given_status, "x")),))
    assert fields(report)[1]["Status"] == shown


def test_the_address_that_was_written_is_named() -> None:
    report = replace(REPORT, recipients=(replace(FAILED, original="team@a.example"),))
    assert "<b@b.example> (you wrote to <team@a.example>)" in words(report)


# What is given back.


@pytest.mark.parametrize(
    ("ret", "action", "size", "whole"),
    [
        ("", "failed", 10, True), ("FULL", "failed", 10, True), ("HDRS", "failed", 10, False),
        ("FULL", "delayed", 10, False),
        ("FULL", "delivered", 10, False), ("FULL", "failed", RETURN_MAX, True), ("", "failed", RETURN_MAX + 1, False),
    ],
)  # fmt: skip
def test_the_body_comes_back_only_when_wanted_and_small(ret: str, action: Any, size: int, whole: bool) -> None:
    assert returns_body(ret, [action], size) == whole
    body = b"the body\r\n" + (b"x" * 62 + b"\r\n") * 2000
    body = body[: max(size - len(HEAD), 12) - 2] + b"\r\n"
    report = replace(REPORT, ret=ret, body=body, recipients=(replace(FAILED, action=action),))
    returned = parts(parsed(report))[2]
    assert returned.get_content_type() == ("message/rfc822" if whole else "text/rfc822-headers")
    assert (b"the body" in build(report)[1]) == whole
    assert (body in build(report)[1]) == whole
    assert HEAD in build(report)[1]


def test_a_huge_head_is_cut_at_a_line() -> None:
    head = b"".join(b"X-%06d: %s\r\n" % (n, b"y" * 50) for n in range(5000)) + b"\r\n"
    body = build(replace(REPORT, head=head))[1]
    assert len(body) < RETURN_MAX + 4096
    parsed(replace(REPORT, head=head))


def test_eight_bit_mail_is_declared() -> None:
    report = replace(REPORT, body="größe\r\n".encode())
    head, body = build(report)
    assert head.isascii()
    assert (
        b"Content-Type: message/rfc822\r\nContent-Description: Undelivered mail\r\nContent-Transfer-Encoding: 8bit"
        in body
    )
    assert "größe".encode() in body
    report = replace(REPORT, head="Subject: größe\r\n\r\n".encode(), ret="HDRS")
    assert kinds(parsed(report)) == ["text/plain", "message/delivery-status", "message/global-headers"]


def test_lines_that_are_too_long_do_not_come_back() -> None:
    report = replace(REPORT, body=b"x" * 999 + b"\r\n")
    assert kinds(parsed(report))[2] == "text/rfc822-headers"
    report = replace(REPORT, head=b"Subject: " + b"x" * 2000 + b"\r\n\r\n")
    assert kinds(parsed(report))[2] == "text/rfc822-headers"


def test_a_boundary_in_the_mail_is_avoided() -> None:
    plain = replace(REPORT, body=b"--=_3kf9x2m7q0w2\r\n--=_3kf9x2m7q0w2x--\r\n")
    assert kinds(parsed(plain)) == ["text/plain", "message/delivery-status", "message/rfc822"]
    assert parsed(plain).get_boundary() == "=_3kf9x2m7q0w2xx"


# UTF-8 (RFC 6533).


def test_a_sender_in_utf8_gets_a_report_in_utf8() -> None:
    report = replace(
        REPORT,
        to="jürgen@bücher.example",
        recipients=(replace(FAILED, address="ü@b.example", orcpt="utf-8;ü@b.example"),),
        head="Subject: größe\r\n\r\n".encode(),
    )
    message = parsed(report)
    assert kinds(message) == ["text/plain", "message/global-delivery-status", "message/global"]
    assert not build(report)[0].isascii()
    about = fields(report)[1]
    assert about["Final-Recipient"] == about["Original-Recipient"] == "utf-8; ü@b.example"
    assert "<ü@b.example>" in words(report)


def test_an_ascii_sender_gets_seven_bits_whatever_the_recipient() -> None:
    recipient = DsnRecipient(
        "ü@b.example", "failed", replace(NO_USER, text="Postfach ü unbekannt"), orcpt="utf-8;\\x{FC}@b"
    )
    report = replace(REPORT, recipients=(recipient,))
    assert b"".join(build(report)).isascii()
    about = fields(report)[1]
    assert about["Final-Recipient"] == "utf-8; \\x{FC}@b.example"
    assert about["Diagnostic-Code"] == "smtp; 550 5.1.1 Postfach \\xfc unbekannt"
    assert parts(parsed(report))[0]["Content-Transfer-Encoding"] == "quoted-printable"
    assert "Postfach ü unbekannt" in words(report)
    assert "<ü@b.example>" in words(report)


# Hostile input.

TEXT = st.text(st.characters() | st.sampled_from("\r\n\0\x1b\u202e:<>-=ü\\+"), max_size=40) | st.just("ü" * 1200)
LINES = st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\r", b"").replace(b"\n", b"")), max_size=6).map(
    lambda lines: b"".join(line + b"\r\n" for line in lines)
)


@given(TEXT, TEXT, LINES, st.sampled_from(["failed", "delayed", "relayed"]), st.booleans())
def test_hostile_text_makes_no_fields_and_no_parts(text: str, to: str, body: bytes, action: Any, wide: bool) -> None:
    recipient = DsnRecipient(
        text,
        action,
        Reply(550, text, text, host=text, stage=text),
        orcpt=f"{text};{text}",
        original=text,
        last_attempt_at=NOW,
    )
    report = replace(
        REPORT,
        to="ü" if wide else to,
        message_id=text,
        header_id=text,
        envid=text,
        recipients=(recipient, recipient),
        body=body,
    )
    head, _ = build(report)
    parsed(report)
    names = [line.split(b":")[0] for line in head.split(b"\r\n") if line and not line.startswith(b"\t")]
    assert names == [
        b"From", b"To", b"Subject", b"Date", b"Message-ID", b"Auto-Submitted", b"MIME-Version", b"Content-Type",
    ]  # fmt: skip
    about = fields(report)
    assert len(about) == 3
    allowed = {"Original-Recipient", "Final-Recipient", "Action", "Status", "Remote-MTA", "Diagnostic-Code",
               "Last-Attempt-Date", "Final-Log-ID", "Will-Retry-Until"}  # fmt: skip
    assert set(about[1]) <= allowed


# The shape of reports that other systems write.

REQUIRED = {"reporting-mta", "arrival-date", "original-recipient", "final-recipient", "action", "status", "remote-mta",
            "diagnostic-code", "last-attempt-date"}  # fmt: skip


def _examples() -> list[Path]:
    return (
        sorted(path for path in SUITE.rglob("*") if path.is_file() and path.name != "SOURCE") if SUITE.exists() else []
    )


@pytest.mark.skipif(not SUITE.exists(), reason="the example reports are not here")
def test_others_write_the_same_shape() -> None:
    seen = 0
    for path in _examples():
        octets = path.read_bytes()
        if octets.startswith(b"From "):
            octets = octets.partition(b"\n")[2]
        example: Any = email.message_from_bytes(octets)
        if (
            example.get_content_type() != "multipart/report"
            or kinds(example)[0] != "text/plain"
            or len(parts(example)) != 3
        ):
            continue  # RFC 6522 3: the words come first
        seen += 1
        first, second, third = kinds(example)
        text = parts(example)[1].as_string()
        action = "delayed" if "Action: delayed" in text else "failed"
        wide = "global" in second
        ours = replace(
            REPORT,
            to="ü@a.example" if wide else "a@a.example",
            recipients=(replace(FAILED, action=action),),
            ret="FULL" if third == "message/rfc822" else "HDRS",
        )
        assert kinds(parsed(ours)) == [first, second, third]
        theirs = {line.split(":")[0].lower() for line in text.partition("\n\n")[2].splitlines() if ":" in line}
        mine = {name.lower() for group in fields(ours) for name in group}
        assert theirs & REQUIRED <= mine
        assert parsed(ours)["Auto-Submitted"] is not None
    assert seen >= 3
