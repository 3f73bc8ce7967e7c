"""ESMTP parameters of MAIL and RCPT, xtext, and the EHLO reply that offers them.

RFC 5321 4.1.2 (grammar), 1870 (SIZE), 6152 (BODY), 6531 (SMTPUTF8), 3461 (RET, ENVID, NOTIFY, ORCPT), 4954 (AUTH),
8689 (REQUIRETLS). Keywords compare in upper case; values keep their own case.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from mtad.mail.envelope import BodyType
from mtad.mail.reply import Refused, Reply

ENVID_MAX = 100  # RFC 3461 4.4
ORCPT_MAX = 500  # RFC 3461 4.2

_KEYWORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_VALUE = re.compile(r"[!-<>-~\u00a0-\ud7ff\ue000-\U0010ffff]+")  # RFC 6531 3.3 adds the non-ASCII
_SIZE = re.compile(r"[0-9]{1,20}")
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-Fa-f]{2})*")
_UNITEXT = re.compile(r"(?:[!-*,-<>-~\u00a0-\U0010ffff]|\+[0-9A-Fa-f]{2}|\\x\{[0-9A-F]{2,6}\})*")  # RFC 6533 3
_HEX = re.compile(r"\+([0-9A-Fa-f]{2})")
_TO_ENCODE = re.compile(rb"[^!-*,-<>-~]")
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9-]{1,32}")
_NOTIFY = ("SUCCESS", "FAILURE", "DELAY")


@dataclass(frozen=True, slots=True)
class MailParams:
    """What MAIL FROM said beside the path. `auth` is "" when it was not given, "<>" for nobody, else an address."""

    size_bytes: int = 0  # as declared; 0 = not
    body: BodyType = "7BIT"
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""
    auth: str = ""
    requiretls: bool = False


@dataclass(frozen=True, slots=True)
class RcptParams:
    """What RCPT TO said beside the path, in the forms of `envelope.Rcpt`."""

    notify: str = ""
    orcpt: str = ""


_NO_MAIL_PARAMS = MailParams()
_NO_RCPT_PARAMS = RcptParams()


def parse_params(text: str) -> tuple[tuple[str, str], ...]:
    """(KEYWORD, value) pairs; a keyword without "=" has the value "". Refused with 501 5.5.4 when it is malformed
    or a keyword comes twice."""
    found: dict[str, str] = {}
    for part in text.split(" "):
        if not part:
            continue
        keyword, equals, value = part.partition("=")
        if not _KEYWORD.fullmatch(keyword) or (equals and not _VALUE.fullmatch(value)):
            raise _malformed("Malformed parameter")
        keyword = keyword.upper()
        if keyword in found:
            raise _malformed(f"{keyword} is given twice")
        found[keyword] = value
    return tuple(found.items())


def mail_params(
    text: str, *, size_max: int = 0, dsn: bool = True, utf8: bool = True, binary: bool = False, requiretls: bool = False
) -> MailParams:
    """The parameters of MAIL. What was not offered (the flags) is unknown: 555 5.5.4. `size_max` 0 = no limit.

    Refused with 501 5.5.4 (malformed), 555 5.5.4 (unknown keyword), 552 5.3.4 (declared too big).
    """
    if not text:
        return _NO_MAIL_PARAMS
    size_bytes, body, smtputf8, ret, envid, auth, tls = 0, "7BIT", False, "", "", "", False
    for keyword, value in parse_params(text):
        match keyword:
            case "SIZE":
                if not _SIZE.fullmatch(value):
                    raise _malformed("SIZE needs a number")
                size_bytes = int(value)
                if 0 < size_max < size_bytes:
                    raise Refused(Reply(552, "5.3.4", "Message is too big", stage="mail"))
            case "BODY":
                body = value.upper()
                if body not in (("7BIT", "8BITMIME", "BINARYMIME") if binary else ("7BIT", "8BITMIME")):
                    raise _malformed("BODY is unknown")
            case "SMTPUTF8" if utf8:
                _no_value(keyword, value)
                smtputf8 = True
            case "RET" if dsn:
                ret = value.upper()
                if ret not in ("FULL", "HDRS"):
                    raise _malformed("RET is FULL or HDRS")
            case "ENVID" if dsn:
                if not value or len(value) > ENVID_MAX or not _is_printable_xtext(value):
                    raise _malformed("ENVID is malformed")
                envid = value
            case "AUTH":
                auth = value if value == "<>" else _auth(value)
            case "REQUIRETLS" if requiretls:
                _no_value(keyword, value)
                tls = True
            case _:
                raise _unknown(keyword)
    return MailParams(size_bytes, cast("BodyType", body), smtputf8, ret, envid, auth, tls)


def rcpt_params(text: str, *, dsn: bool = True, utf8: bool = True) -> RcptParams:
    """The parameters of RCPT. Refused with 501 5.5.4 (malformed) or 555 5.5.4 (unknown keyword)."""
    if not text:
        return _NO_RCPT_PARAMS
    notify, orcpt = "", ""
    for keyword, value in parse_params(text):
        match keyword:
            case "NOTIFY" if dsn:
                notify = _notify(value)
            case "ORCPT" if dsn:
                kind, semicolon, original = value.partition(";")
                wide = utf8 and kind.lower() == "utf-8"
                if (
                    not (semicolon and original and _ADDRESS_TYPE.fullmatch(kind))
                    or len(value.encode("utf-8", "replace")) > ORCPT_MAX
                    or not (_UNITEXT.fullmatch(original) if wide else _is_printable_xtext(original))
                ):
                    raise _malformed("ORCPT is malformed")
                orcpt = value
            case _:
                raise _unknown(keyword)
    return RcptParams(notify, orcpt)


def xtext_encode(text: str) -> str:
    """xtext of RFC 3461 4; what is not ASCII is encoded as its UTF-8 octets."""
    return _TO_ENCODE.sub(lambda found: b"+%02X" % found[0][0], text.encode("utf-8", "replace")).decode("ascii")


def xtext_decode(text: str) -> str:
    """The inverse of xtext_encode. ValueError when it is no xtext, or not UTF-8."""
    if not _XTEXT.fullmatch(text):
        raise ValueError("not xtext")
    if "+" not in text:
        return text
    return _HEX.sub(lambda found: chr(int(found[1], 16)), text).encode("latin-1").decode("utf-8")


def ehlo_lines(
    hostname: str,
    *,
    size: int,
    tls_offered: bool,
    auth: Sequence[str] = (),
    utf8: bool = True,
    dsn: bool = True,
    chunking: bool = False,
    requiretls: bool = False,
) -> bytes:
    """The whole reply to EHLO, in one piece. `size` in octets, 0 = no fixed limit; `auth`: mechanisms offered now."""
    offers = [hostname, "PIPELINING", f"SIZE {size}", "8BITMIME", "ENHANCEDSTATUSCODES"]
    if utf8:
        offers.append("SMTPUTF8")
    if dsn:
        offers.append("DSN")
    if chunking:
        offers += ["CHUNKING", "BINARYMIME"]
    if tls_offered:
        offers.append("STARTTLS")
    if requiretls:
        offers.append("REQUIRETLS")
    if auth:
        offers.append("AUTH " + " ".join(auth))
    lines = [f"250-{offer}\r\n" for offer in offers[:-1]] + [f"250 {offers[-1]}\r\n"]
    return "".join(lines).encode("utf-8", "replace")


def _is_printable_xtext(text: str) -> bool:
    """RFC 3461 4.2 and 4.4: what xtext hides must be printable ASCII too."""
    try:
        plain = xtext_decode(text)
    except ValueError:
        return False
    return plain.isascii() and plain.isprintable()


def _notify(value: str) -> str:
    words = value.upper().split(",")
    if words == ["NEVER"]:
        return "NEVER"
    if any(word not in _NOTIFY for word in words):
        raise _malformed("NOTIFY is NEVER, or a list of SUCCESS, FAILURE, DELAY")
    return ",".join(word for word in _NOTIFY if word in words)


def _auth(value: str) -> str:
    try:
        plain = xtext_decode(value)
    except ValueError:
        plain = ""
    if not plain or not plain.isprintable():
        raise _malformed("AUTH is malformed")
    return plain


def _no_value(keyword: str, value: str) -> None:
    if value:
        raise _malformed(f"{keyword} has no value")


def _malformed(text: str) -> Refused:
    return Refused(Reply(501, "5.5.4", text))


def _unknown(keyword: str) -> Refused:
    return Refused(Reply(555, "5.5.4", f"{keyword[:40]} is not known"))
