"""Delivery reports: what became of a mail, in plain words and in the fields of RFC 3464, 3461 and 6533.

A report is 7-bit clean unless the sender's own address is not (then it is an RFC 6533 report in UTF-8), or unless it
gives back a mail that is not. Whoever sends it derives BODY and SMTPUTF8 from the octets: SMTPUTF8 when the head is
not ASCII, 8BITMIME when the rest is not.
"""

import binascii
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from mtad.mail.classify import classify
from mtad.mail.errorclass import CLASSES
from mtad.mail.headers import date
from mtad.mail.params import xtext_decode
from mtad.mail.reply import Reply
from mtad.mail.text import clean

Action = Literal["failed", "delayed", "delivered", "relayed", "expanded"]

RETURN_MAX = 64 * 1024  # octets of the mail that are given back
_LINE_MAX = 998  # RFC 5322 2.1.1
_WIDTH = 72
_FOLD = 78
_KEPT = 512  # recipients whose part is kept: a report that grows is built again with each of them
_STATUS = re.compile(r"([245])\.[0-9]{1,3}\.[0-9]{1,3}")
_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,250}>")
_WIDE = re.compile(r"[^ -~]")


@dataclass(frozen=True, slots=True)
class DsnRecipient:
    """One recipient of the report. `reply` is the last that was said about it; `orcpt` is as it came (type;xtext).
    `cause` is what was said before time ran out, when `reply` is only that it did."""

    address: str
    action: Action
    reply: Reply
    orcpt: str = ""
    original: str = ""  # the address before aliases
    last_attempt_at: float = 0.0
    will_retry_until: float = 0.0  # for "delayed"
    cause: Reply | None = None


@dataclass(frozen=True, slots=True)
class DsnInput:
    """A report to be written. `id` is that of the report, `message_id` of the mail it is about; ids make it unique
    and deterministic. `body` may be left out where `returns_body` is false."""

    id: str
    hostname: str
    to: str
    message_id: str
    arrived_at: float
    now: float
    recipients: tuple[DsnRecipient, ...]
    header_id: str = ""
    envid: str = ""  # xtext, as it came
    ret: str = ""
    head: bytes = b""
    body: bytes = b""
    double: bool = False  # it is about a mail whose sender cannot be told, and goes to the postmaster


def returns_body(ret: str, actions: Sequence[str], size_bytes: int) -> bool:
    """Whether the report gives back the whole mail: only failures do (RFC 3461 4.3), small ones, unless RET=HDRS."""
    return ret != "HDRS" and "failed" in actions and size_bytes <= RETURN_MAX


def build(report: DsnInput) -> tuple[bytes, bytes]:
    """(head with its empty line, body) of the report: CRLF lines of at most 998 octets."""
    wide = not report.to.isascii()
    parts = [_notification(report, wide), _status_part(report, wide), _returned_part(report)]
    boundary = f"=_{report.id}"
    while any(boundary.encode() in part for part in parts):
        boundary += "x"
    mark = f"--{boundary}".encode()
    body = b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts) + mark + b"--\r\n"
    return _head(report, boundary), body


def _head(report: DsnInput, boundary: str) -> bytes:
    lines = [
        f"From: Mail Delivery System <mailer-daemon@{report.hostname}>",
        f"To: <{clean(report.to)}>",
        f"Subject: {_subject(report)}",
        f"Date: {date(report.now)}",
        f"Message-ID: <{report.id}@{report.hostname}>",
    ]
    if _MESSAGE_ID.fullmatch(report.header_id):
        lines += [f"In-Reply-To: {report.header_id}", f"References: {report.header_id}"]
    lines += [
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status;",
        f'\tboundary="{boundary}"',
        "",
        "",
    ]
    return _octets(lines, wide=True)


# The first part: for people.

_INTRO: dict[Action, str] = {
    "failed": "could not be delivered to:",
    "delayed": "has not been delivered yet to:",
    "delivered": "was delivered to:",
    "relayed": "was passed on to a system that does not report on delivery, for:",
    "expanded": "was delivered to a list, which sends no further reports, for:",
}
_OUTRO: dict[Action, str] = {
    "failed": "It will not be tried again.",
    "delayed": "You need not send it again. You hear of it once more only if it fails in the end.",
}
_SUBJECTS: dict[Action, str] = {
    "failed": "Your mail could not be delivered",
    "delayed": "Your mail is delayed",
    "delivered": "Your mail was delivered",
    "relayed": "Your mail was passed on",
    "expanded": "Your mail was delivered to a list",
}
_DOUBLE = "A report could not be delivered"
_ELSE = (
    "Nothing else happened to your mail. Recipients that are not named here have got it, are still being tried, or are"
    " named in another report."
)
_TO_POSTMASTER = (
    "This is for the postmaster: the sender of the mail below cannot be told, for it is a report itself, or nobody is"
    " there by that name. No other report is sent, and none about this one."
)
# What a plain class cannot say, by the detail of a status (RFC 3463) of ours.
_MEANING = {
    "6.1": "The receiving system cannot take binary content.",
    "6.3": "The receiving system cannot take mail with 8-bit text.",
    "6.7": "The receiving system cannot take addresses or headers in UTF-8.",
    "7.30": "The receiving system does not promise to pass the mail on encrypted only.",
    "7.10": "The receiving system demands an encryption that could not be had.",
}


def _subject(report: DsnInput) -> str:
    if report.double:
        return _DOUBLE
    actions = {recipient.action for recipient in report.recipients}
    return next((subject for action, subject in _SUBJECTS.items() if action in actions), "Report on your mail")


def _notification(report: DsnInput, wide: bool) -> bytes:
    lines = [f"This is the mail system at {report.hostname}.", ""]
    if report.double:
        lines += [*_wrapped(_TO_POSTMASTER), ""]
    for action, intro in _INTRO.items():
        concerned = [recipient for recipient in report.recipients if recipient.action == action]
        if not concerned:
            continue
        lines += [f"{'A mail' if report.double else 'Your mail'} {intro}", ""]
        for recipient in concerned:
            lines += _in_words(recipient, _length(report.now - report.arrived_at))
        if action in _OUTRO and not report.double:
            lines += [*_wrapped(_OUTRO[action]), ""]
    technical = [line for recipient in report.recipients for line in _technical(recipient)]
    if technical:
        lines += ["What was said, for those who look into it:", "", *technical]
    if not report.double:
        lines += [*_wrapped(_ELSE), ""]
    lines += [f"The mail came here on {date(report.arrived_at)} and was called {clean(report.message_id, 60)}."]
    octets = _octets([*lines, ""], wide=True)
    encoding = "7bit" if octets.isascii() else "8bit" if wide else "quoted-printable"
    if encoding == "quoted-printable":
        octets = binascii.b2a_qp(octets, istext=True)
    charset = "us-ascii" if encoding == "7bit" else "utf-8"
    return _part(f"text/plain; charset={charset}", "Notification", encoding) + octets


@lru_cache(maxsize=_KEPT)
def _in_words(recipient: DsnRecipient, age: str) -> Sequence[str]:
    """The address, and in plain words what happened and what to do."""
    original = recipient.original not in ("", recipient.address)
    who = f"  <{clean(recipient.address)}>" + (f" (you wrote to <{clean(recipient.original)}>)" if original else "")
    return who, *_indented(" ".join(_sentences(recipient, age))), ""


def _sentences(recipient: DsnRecipient, age: str) -> Iterator[str]:
    reply = recipient.reply
    domain = clean(recipient.address.rpartition("@")[2], 260)
    name = classify(reply) if recipient.action in ("failed", "delayed") else ""
    if name == "expired":
        yield f"The time for delivery ran out: it was tried for {age}."
        name = classify(recipient.cause) if recipient.cause is not None else ""
        reply = recipient.cause or reply
    if name and name != "expired":
        own = "" if reply.host else _MEANING.get(reply.status.partition(".")[2], "")
        yield own or CLASSES[name].explain(domain)
    elif recipient.action in ("failed", "delayed") and not name:
        yield "It could not be handed over so far." if recipient.action == "delayed" else "It could not be handed over."
    if recipient.action == "delayed" and recipient.will_retry_until:
        yield f"It will be tried until {date(recipient.will_retry_until)}."


@lru_cache(maxsize=_KEPT)
def _technical(recipient: DsnRecipient) -> Sequence[str]:
    reply = recipient.cause or recipient.reply
    if not reply.code:
        return ()
    said = _one_line(reply)
    words = _indented(f"{clean(reply.host, 200)} said: {said}" if reply.host else said)
    name = classify(reply)
    return f"  <{clean(recipient.address)}>", *words, *([f"    (class: {name})"] if name else []), ""


def _length(seconds: float) -> str:
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = round(seconds / length)
            return f"{count} {unit}{'s' * (count > 1)}"
    return "less than a minute"


def _indented(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, break_on_hyphens=False)


# The second part: for programs.


def _status_part(report: DsnInput, wide: bool) -> bytes:
    lines = [f"Reporting-MTA: dns; {report.hostname}"]
    if report.envid:
        lines.append(f"Original-Envelope-Id: {_decoded(report.envid)}")
    lines.append(f"Arrival-Date: {date(report.arrived_at)}")
    for recipient in report.recipients:
        lines.append("")
        lines += _recipient_fields(recipient, report.message_id, wide)
    octets = _octets([*lines, ""], wide=wide)
    kind = "message/global-delivery-status" if wide else "message/delivery-status"
    return _part(kind, "Delivery report", "7bit" if octets.isascii() else "8bit") + octets


@lru_cache(maxsize=_KEPT)
def _recipient_fields(recipient: DsnRecipient, message_id: str, wide: bool) -> Sequence[str]:
    return tuple(_fields(recipient, message_id, wide))


def _fields(recipient: DsnRecipient, message_id: str, wide: bool) -> Iterator[str]:
    kind, semicolon, original = recipient.orcpt.partition(";")
    if semicolon:
        yield f"Original-Recipient: {_typed(clean(kind, 32), _decoded(original), wide)}"
    yield f"Final-Recipient: {_typed('rfc822', clean(recipient.address), wide)}"
    yield f"Action: {recipient.action}"
    yield f"Status: {_status(recipient)}"
    reply = recipient.cause or recipient.reply
    if reply.host:
        yield f"Remote-MTA: dns; {clean(reply.host, 200)}"
    if reply.code:
        yield from _folded(f"Diagnostic-Code: {'smtp' if reply.host else 'x-mtad'}; {_one_line(reply)}")
    if recipient.last_attempt_at:
        yield f"Last-Attempt-Date: {date(recipient.last_attempt_at)}"
    yield f"Final-Log-ID: {clean(message_id, 60)}"
    if recipient.action == "delayed" and recipient.will_retry_until:
        yield f"Will-Retry-Until: {date(recipient.will_retry_until)}"


def _folded(line: str) -> list[str]:
    """On several lines that each but the first begin with a blank (RFC 5322 2.2.3); words are never cut."""
    return textwrap.wrap(line, _FOLD, subsequent_indent=" ", break_long_words=False, break_on_hyphens=False)


def _typed(kind: str, address: str, wide: bool) -> str:
    """type; address. What is not ASCII is of type utf-8, and in a 7-bit report in the form of RFC 6533 3."""
    if address.isascii() and kind.lower() != "utf-8":
        return f"{kind}; {address}"
    return "utf-8; " + (address if wide else _WIDE.sub(lambda found: f"\\x{{{ord(found[0]):X}}}", address))


def _status(recipient: DsnRecipient) -> str:
    """The enhanced code, replaced by a general one when it contradicts the action. "failed" may be 4 (given up)."""
    allowed = {"failed": "54", "delayed": "4"}.get(recipient.action, "2")
    found = _STATUS.fullmatch(recipient.reply.status)
    return recipient.reply.status if found and found[1] in allowed else f"{allowed[0]}.0.0"


# The third part: the mail itself.


def _returned_part(report: DsnInput) -> bytes:
    actions = [recipient.action for recipient in report.recipients]
    whole = report.head + report.body
    if returns_body(report.ret, actions, len(whole)) and _lines_fit(whole):
        kind = "message/rfc822" if report.head.isascii() else "message/global"
        encoding = "7bit" if whole.isascii() else "8bit"
        return _part(kind, "Undelivered mail", encoding) + whole
    head = _cut(report.head)
    kind = "text/rfc822-headers" if head.isascii() else "message/global-headers"
    return _part(kind, "Headers of the mail", "7bit" if head.isascii() else "8bit") + head


def _cut(head: bytes) -> bytes:
    """As much of the header block as may be given back, in whole lines, none too long."""
    kept = head[:RETURN_MAX].replace(b"\0", b"?")
    if len(head) > RETURN_MAX:
        kept = kept[: kept.rfind(b"\n") + 1]
    return kept if _lines_fit(kept) else b"\r\n".join(line[:_LINE_MAX] for line in kept.split(b"\r\n"))


def _lines_fit(octets: bytes) -> bool:
    return b"\0" not in octets and max(map(len, octets.split(b"\r\n"))) <= _LINE_MAX


# Octets.


def _part(content_type: str, description: str, encoding: str) -> bytes:
    return _octets(
        [
            f"Content-Type: {content_type}",
            f"Content-Description: {description}",
            f"Content-Transfer-Encoding: {encoding}",
            "",
            "",
        ],
        wide=False,
    )


def _octets(lines: list[str], *, wide: bool) -> bytes:
    encoded = (line.encode("utf-8", "replace") if wide else line.encode("ascii", "backslashreplace") for line in lines)
    return b"\r\n".join(line if len(line) <= _LINE_MAX else _shortened(line) for line in encoded)


def _shortened(line: bytes) -> bytes:
    """Cut between characters."""
    return line[:_LINE_MAX].decode("utf-8", "ignore").encode()


def _decoded(xtext: str) -> str:
    try:
        return clean(xtext_decode(xtext))
    except ValueError:  # an RFC 6533 form, or what an older release let in
        return clean(xtext)


def _one_line(reply: Reply) -> str:
    return clean(str(reply).replace("\n", " "))
