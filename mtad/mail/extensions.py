"""THE table of SMTP extensions: what each is called, who is offered it, with which value, and the parameters it brings.

EHLO is built from it, and the parser of MAIL and RCPT knows only what it offers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

BY_MIN_S = 10
"""The shortest time in which a mail can be asked to be delivered or returned (RFC 2852 4.1, min-by-time)."""


@dataclass(frozen=True, slots=True)
class Offers:
    """One kind of peer at one moment of its session, and the limits that hold for it."""

    size_max_bytes: int = 0  # 0 = no fixed limit
    recipients_max: int = 0  # 0 = not announced
    hold_max_s: float = 0.0  # 0 = mail is not held
    starttls: bool = False  # it may be started now
    auth: tuple[str, ...] = ()  # the mechanisms that may be used now
    secure: bool = False  # TLS is active
    submission: bool = False  # the author's side: a user, or a program of this host
    here: bool = False  # a program of this host


class Extension(NamedTuple):
    """A row of the table."""

    keyword: str
    mail: tuple[str, ...] = ()  # parameters of MAIL
    rcpt: tuple[str, ...] = ()  # parameters of RCPT
    offered: Callable[[Offers], object] = lambda _: True
    value: Callable[[Offers, float], str] = lambda _offers, _now: ""


def _release(offers: Offers, now: float) -> str:
    """RFC 4865 4: the longest wait, and the latest moment."""
    latest = datetime.fromtimestamp(now + offers.hold_max_s, UTC)
    return f"{offers.hold_max_s:.0f} {latest:%Y-%m-%dT%H:%M:%SZ}"


EXTENSIONS = (
    Extension("PIPELINING"),  # RFC 2920
    Extension("SIZE", ("SIZE",), value=lambda offers, _: str(offers.size_max_bytes)),  # RFC 1870
    Extension("8BITMIME", ("BODY",)),  # RFC 6152
    Extension("ENHANCEDSTATUSCODES"),  # RFC 2034
    Extension("SMTPUTF8", ("SMTPUTF8",)),  # RFC 6531
    Extension("DSN", ("RET", "ENVID"), ("NOTIFY", "ORCPT")),  # RFC 3461
    Extension("CHUNKING"),  # RFC 3030
    Extension("BINARYMIME", ("BODY",)),  # RFC 3030
    Extension("MT-PRIORITY", ("MT-PRIORITY",)),  # RFC 6710
    Extension(  # RFC 9422
        "LIMITS",
        offered=lambda offers: offers.recipients_max,
        value=lambda offers, _: f"RCPTMAX={offers.recipients_max}",
    ),
    Extension(  # RFC 4865
        "FUTURERELEASE",
        ("HOLDFOR", "HOLDUNTIL"),
        offered=lambda offers: offers.submission and offers.hold_max_s,
        value=_release,
    ),
    Extension(  # RFC 2852
        "DELIVERBY", ("BY",), offered=lambda offers: offers.submission, value=lambda _offers, _now: str(BY_MIN_S)
    ),
    Extension("STARTTLS", offered=lambda offers: offers.starttls),  # RFC 3207
    # RFC 8689; what does not leave this host needs no TLS.
    Extension("REQUIRETLS", ("REQUIRETLS",), offered=lambda offers: offers.secure or offers.here),
    Extension("AUTH", offered=lambda offers: offers.auth, value=lambda offers, _: " ".join(offers.auth)),  # RFC 4954
    Extension("XKEY", ("XKEY",), offered=lambda offers: offers.here),  # ours: a mail said twice is taken once
)


def ehlo_lines(hostname: str, offers: Offers, now: float) -> bytes:
    """The whole reply to EHLO, in one piece."""
    offered = [extension for extension in EXTENSIONS if extension.offered(offers)]
    words = [f"{extension.keyword} {extension.value(offers, now)}".rstrip(" ") for extension in offered]
    lines = [f"250-{word}\r\n" for word in [hostname, *words][:-1]] + [f"250 {words[-1]}\r\n"]
    return "".join(lines).encode("utf-8", "replace")


def _parameters(said: Callable[[Extension], tuple[str, ...]]) -> dict[str, Callable[[Offers], object]]:
    """Parameter -> whether a peer may use it. Where two extensions bring one (BODY), both are for everybody."""
    return {keyword: extension.offered for extension in reversed(EXTENSIONS) for keyword in said(extension)}


MAIL_PARAMETERS = _parameters(lambda extension: extension.mail)
# RFC 4954 5: it may come from whoever passes a mail on, and need not be believed.
MAIL_PARAMETERS["AUTH"] = lambda _: True
RCPT_PARAMETERS = _parameters(lambda extension: extension.rcpt)
