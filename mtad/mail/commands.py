"""MAIL and RCPT as they must be said to one peer, given what it offers; and when they cannot be said at all."""

import re
from collections.abc import Mapping

from mtad.mail.address import AddressError, split, to_ascii
from mtad.mail.envelope import Envelope, Rcpt
from mtad.mail.reply import Reply

_SECONDS_MAX = 999_999_999  # nine digits (RFC 2852 4)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")

# A recipient whose address needs SMTPUTF8 at a peer without it.
UNSPEAKABLE = Reply(550, "5.6.7", "The host does not take internationalized addresses", stage="rcpt")

# A recipient more than the peer takes in one transaction (RFC 9422 4.2); the others come at once in the next.
NO_ROOM = Reply(452, "4.5.3", "The host takes no more recipients at once", stage="rcpt")


def refusal(
    envelope: Envelope,
    size_bytes: int,
    offers: Mapping[str, str],
    *,
    tls: bool,
    eight_bit: bool,
    utf8_head: bool,
    text: bool,
    now: float,
) -> Reply | None:
    """Why the peer cannot be given this mail, if so. `eight_bit`: it has octets above 127; `utf8_head`: in its head;
    `text`: DATA can carry it."""
    limit = offers.get("SIZE", "")[:20]
    if limit.isdecimal() and 0 < int(limit) < size_bytes:
        return _refusal(552, "5.3.4", f"The host takes at most {int(limit)} octets")
    if envelope.body == "BINARYMIME" and not (text or takes_binary(offers)):
        return _refusal(554, "5.6.1", "The host does not take binary content")
    if eight_bit and envelope.body != "7BIT" and "8BITMIME" not in offers:
        return _refusal(554, "5.6.3", "The host does not take 8-bit content")
    if envelope.smtputf8 and "SMTPUTF8" not in offers and (utf8_head or not _ascii(envelope.sender).isascii()):
        return _refusal(550, "5.6.7", "The host does not take internationalized mail")
    if envelope.requiretls and envelope.sender:  # a report may go without (RFC 8689 5)
        if not tls:
            return _refusal(550, "5.7.10", "The connection to the host is not encrypted")
        if "REQUIRETLS" not in offers:
            return _refusal(550, "5.7.30", "The host does not support REQUIRETLS")
    if envelope.by_mode == "R" and "DELIVERBY" in offers:
        least = offers["DELIVERBY"].partition(",")[0]
        if least.isdecimal() and len(least) <= 9 and envelope.by_at - now < int(least):
            return _refusal(554, "5.4.7", f"The host promises nothing within less than {int(least)} seconds")
    if _CONTROL.search(envelope.sender + envelope.ret + envelope.envid):
        return _refusal(553, "5.1.7", "Bad sender address")
    return None


def takes_binary(offers: Mapping[str, str]) -> bool:
    """Whether BODY=BINARYMIME can be said, which needs BDAT (RFC 3030)."""
    return "BINARYMIME" in offers and "CHUNKING" in offers


def limit(offers: Mapping[str, str], name: str) -> int:
    """A number of LIMITS (RFC 9422); 0 = the peer names none."""
    for word in offers.get("LIMITS", "").split():
        keyword, _, value = word.partition("=")
        if keyword.upper() == name and value.isdecimal() and len(value) <= 6:
            return int(value)
    return 0


def mail(envelope: Envelope, size_bytes: int, offers: Mapping[str, str], now: float) -> bytes:
    """MAIL with the parameters that the peer offers to understand."""
    utf8 = envelope.smtputf8 and "SMTPUTF8" in offers
    words = f"MAIL FROM:<{envelope.sender if utf8 else _ascii(envelope.sender)}>"
    if "SIZE" in offers:
        words += f" SIZE={size_bytes}"
    if envelope.body == "BINARYMIME" and takes_binary(offers):
        words += " BODY=BINARYMIME"
    elif envelope.body != "7BIT" and "8BITMIME" in offers:
        words += " BODY=8BITMIME"
    if utf8:
        words += " SMTPUTF8"
    if envelope.requiretls and "REQUIRETLS" in offers:
        words += " REQUIRETLS"
    if envelope.priority and "MT-PRIORITY" in offers:
        words += f" MT-PRIORITY={envelope.priority}"
    if envelope.by_mode and "DELIVERBY" in offers:
        left_s = max(-_SECONDS_MAX, min(int(envelope.by_at - now), _SECONDS_MAX))
        words += f" BY={left_s};{envelope.by_mode}{'T' if envelope.by_trace else ''}"
    if "DSN" in offers:
        if envelope.ret:
            words += f" RET={envelope.ret}"
        if envelope.envid:
            words += f" ENVID={envelope.envid}"
    return f"{words}\r\n".encode()


def rcpt(to: Rcpt, smtputf8: bool, offers: Mapping[str, str]) -> bytes:
    """RCPT; b"" when the address cannot be said to this peer (UNSPEAKABLE)."""
    utf8 = smtputf8 and "SMTPUTF8" in offers
    words = f"RCPT TO:<{to.address if utf8 else _ascii(to.address)}>"
    if "DSN" in offers:
        if to.notify:
            words += f" NOTIFY={to.notify}"
        if to.orcpt:
            words += f" ORCPT={to.orcpt}"
    if _CONTROL.search(words) or not (utf8 or words.isascii()):
        return b""
    return f"{words}\r\n".encode()


def _refusal(code: int, status: str, text: str) -> Reply:
    return Reply(code, status, text, stage="mail")


def _ascii(address: str) -> str:
    """The address with its domain as A-label: all that can be done for a peer without SMTPUTF8 (RFC 6531 3.2)."""
    if address.isascii():
        return address
    local, domain = split(address)
    try:
        return f"{local}@{to_ascii(domain)}"
    except AddressError:
        return address
