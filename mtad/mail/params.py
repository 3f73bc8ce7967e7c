"""The parameters of MAIL and RCPT, and xtext.

RFC 5321 4.1.2 (grammar), 1870 (SIZE), 6152 and 3030 (BODY), 6531 (SMTPUTF8), 3461 (RET, ENVID, NOTIFY, ORCPT),
4954 (AUTH), 8689 (REQUIRETLS), 6710 (MT-PRIORITY), 4865 (HOLDFOR, HOLDUNTIL), 2852 (BY), and XKEY, which is ours.
Keywords compare in upper case; values keep their own case.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mtad.mail.envelope import BodyType, ByMode
from mtad.mail.extensions import BY_MIN_S, MAIL_PARAMETERS, RCPT_PARAMETERS, Offers
from mtad.mail.reply import Refused, Reply

ENVID_MAX = 100  # RFC 3461 4.4
ORCPT_MAX = 500  # RFC 3461 4.2
KEY_MAX = 200

_KEYWORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_VALUE = re.compile(r"[!-<>-~\u00a0-\ud7ff\ue000-\U0010ffff]+")  # RFC 6531 3.3 adds the non-ASCII
_SIZE = re.compile(r"[0-9]{1,20}")
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-Fa-f]{2})*")
_UNITEXT = re.compile(r"(?:[!-*,-<>-~\u00a0-\U0010ffff]|\+[0-9A-Fa-f]{2}|\\x\{[0-9A-F]{2,6}\})*")  # RFC 6533 3
_HEX = re.compile(r"\+([0-9A-Fa-f]{2})")
_TO_ENCODE = re.compile(rb"[^!-*,-<>-~]")
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9-]{1,32}")
_NOTIFY = ("SUCCESS", "FAILURE", "DELAY")
_PRIORITY = re.compile(r"0|-?[1-9]")
_SECONDS = re.compile(r"[0-9]{1,9}")
_CLOCK = r"[0-9]{2}:[0-9]{2}"
_MOMENT = re.compile(
    rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T{_CLOCK}:[0-9]{{2}}(?:\.[0-9]{{1,6}})?(?:Z|[+-]{_CLOCK})", re.IGNORECASE
)
_BY = re.compile(r"([+-]?[0-9]{1,9});([RN])(T?)", re.IGNORECASE)


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
    priority: int = 0  # this and what follows as in envelope.Envelope
    hold_until: float = 0.0
    by_at: float = 0.0
    by_mode: ByMode = ""
    by_trace: bool = False
    key: str = ""


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


def mail_params(text: str, offers: Offers, now: float) -> MailParams:
    """The parameters of MAIL, of those that are offered. `now` makes times of delays.

    Refused with 501 5.5.4 (malformed), 555 5.5.4 (unknown keyword), 552 5.3.4 (declared too big).
    """
    if not text:
        return _NO_MAIL_PARAMS
    found: dict[str, Any] = {}
    for keyword, value in parse_params(text):
        offered = MAIL_PARAMETERS.get(keyword)
        if offered is None or not offered(offers):
            raise _unknown(keyword)
        fields = _MAIL[keyword](value, offers, now)
        if not found.keys().isdisjoint(fields):
            raise _malformed("HOLDFOR and HOLDUNTIL exclude each other")
        found.update(fields)
    params = MailParams(**found)
    if params.by_mode and params.by_at <= params.hold_until:
        raise _malformed("BY is over before the mail is released")
    return params


def rcpt_params(text: str, offers: Offers) -> RcptParams:
    """The parameters of RCPT, of those that are offered. Refused with 501 5.5.4 (malformed) or 555 5.5.4 (unknown)."""
    if not text:
        return _NO_RCPT_PARAMS
    notify, orcpt = "", ""
    for keyword, value in parse_params(text):
        offered = RCPT_PARAMETERS.get(keyword)
        if offered is None or not offered(offers):
            raise _unknown(keyword)
        if keyword == "NOTIFY":
            notify = _notify(value)
        else:
            orcpt = _orcpt(value)
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


# One function for each parameter of MAIL: the fields of MailParams that it sets.

Fields = dict[str, Any]


def _size(value: str, offers: Offers, _now: float) -> Fields:
    if not _SIZE.fullmatch(value):
        raise _malformed("SIZE needs a number")
    if 0 < offers.size_max_bytes < int(value):
        raise Refused(Reply(552, "5.3.4", "Message is too big", stage="mail"))
    return {"size_bytes": int(value)}


def _body(value: str, _offers: Offers, _now: float) -> Fields:
    body = value.upper()
    if body not in ("7BIT", "8BITMIME", "BINARYMIME"):
        raise _malformed("BODY is unknown")
    return {"body": body}


def _ret(value: str, _offers: Offers, _now: float) -> Fields:
    if value.upper() not in ("FULL", "HDRS"):
        raise _malformed("RET is FULL or HDRS")
    return {"ret": value.upper()}


def _envid(value: str, _offers: Offers, _now: float) -> Fields:
    if not value or len(value) > ENVID_MAX or not _is_printable_xtext(value):
        raise _malformed("ENVID is malformed")
    return {"envid": value}


def _auth(value: str, _offers: Offers, _now: float) -> Fields:
    if value == "<>":
        return {"auth": value}
    try:
        plain = xtext_decode(value)
    except ValueError:
        plain = ""
    if not plain or not plain.isprintable():
        raise _malformed("AUTH is malformed")
    return {"auth": plain}


def _key(value: str, _offers: Offers, _now: float) -> Fields:
    if not value or len(value) > 3 * KEY_MAX or not _is_printable_xtext(value):
        raise _malformed("XKEY is malformed")
    return {"key": xtext_decode(value)}


def _flag(keyword: str) -> "_MailParam":
    def parse(value: str, _offers: Offers, _now: float) -> Fields:
        if value:
            raise _malformed(f"{keyword} has no value")
        return {keyword.lower(): True}

    return parse


def _priority(value: str, _offers: Offers, _now: float) -> Fields:
    if not _PRIORITY.fullmatch(value):
        raise _malformed("MT-PRIORITY is a number from -9 to 9")
    return {"priority": int(value)}


def _hold_for(value: str, offers: Offers, now: float) -> Fields:
    if not _SECONDS.fullmatch(value):
        raise _malformed("HOLDFOR is a number of seconds")
    return {"hold_until": _within(now + int(value), offers, now)}


def _hold_until(value: str, offers: Offers, now: float) -> Fields:
    try:
        at = datetime.fromisoformat(value.upper()).timestamp() if _MOMENT.fullmatch(value) else -1.0
    except (ValueError, OverflowError):
        at = -1.0
    if at < 0:
        raise _malformed("HOLDUNTIL is a moment like 2030-01-31T08:00:00Z")
    return {"hold_until": _within(at, offers, now)}


def _within(at: float, offers: Offers, now: float) -> float:
    if at > now + offers.hold_max_s:
        raise _malformed(f"Mail is held for at most {offers.hold_max_s:.0f} seconds")
    return at


def _by(value: str, _offers: Offers, now: float) -> Fields:
    found = _BY.fullmatch(value)
    if found is None:
        raise _malformed("BY is seconds;R or seconds;N, with T for a trace")
    wait_s, mode = int(found[1]), found[2].upper()
    if mode == "R" and wait_s < BY_MIN_S:
        raise _malformed(f"BY is at least {BY_MIN_S} seconds with R")
    return {"by_at": now + wait_s, "by_mode": mode, "by_trace": bool(found[3])}


_MailParam = Callable[[str, Offers, float], Fields]

_MAIL: dict[str, _MailParam] = {
    "AUTH": _auth,
    "BODY": _body,
    "BY": _by,
    "ENVID": _envid,
    "HOLDFOR": _hold_for,
    "HOLDUNTIL": _hold_until,
    "MT-PRIORITY": _priority,
    "REQUIRETLS": _flag("REQUIRETLS"),
    "RET": _ret,
    "SIZE": _size,
    "SMTPUTF8": _flag("SMTPUTF8"),
    "XKEY": _key,
}


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


def _orcpt(value: str) -> str:
    kind, semicolon, original = value.partition(";")
    if (
        not (semicolon and original and _ADDRESS_TYPE.fullmatch(kind))
        or len(value.encode("utf-8", "replace")) > ORCPT_MAX
        or not (_UNITEXT.fullmatch(original) if kind.lower() == "utf-8" else _is_printable_xtext(original))
    ):
        raise _malformed("ORCPT is malformed")
    return value


def _malformed(text: str) -> Refused:
    return Refused(Reply(501, "5.5.4", text))


def _unknown(keyword: str) -> Refused:
    return Refused(Reply(555, "5.5.4", f"{keyword[:40]} is not known"))
