"""Who may send what to whom. Pure decisions; the dialogue asks, and says the reply.

We relay for those we know: local sockets, authenticated users, trusted networks. Everybody else reaches only our own
domains.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal, assert_never

from mtad.accounts.directory import Elsewhere, Forward, Mailbox, Resolution, Unknown
from mtad.mail import address as mail_address
from mtad.mail import headers
from mtad.mail.addrlist import addresses
from mtad.mail.envelope import Peer
from mtad.mail.reply import Reply

Standing = Literal["local", "user", "trusted", "stranger"]
"""What a peer is to us: a program of this host (socket, maildrop), authenticated, in a trusted network, anyone else."""

RELAY_DENIED = Reply(550, "5.7.1", "Relaying denied", stage="rcpt")
USER_UNKNOWN = Reply(550, "5.1.1", "No such user here", stage="rcpt")
ALIAS_BROKEN = Reply(451, "4.3.5", "This alias is out of order", stage="rcpt")
AUTHOR_DENIED = Reply(550, "5.7.1", "An address in From is not yours", stage="final")
SENDER_DENIED = Reply(553, "5.7.1", "Sender address is not yours", stage="mail")

AUTHORS_MAX_BYTES = 32 * 1024  # of one From field

MaySend = Callable[[str, str], bool]
"""(user, address): whether the user may send as this address."""

# How old mailers wrote "and then onwards to": percent hack, bang path, a second domain (RFC 5321 3.6, F.2).
_ROUTING = frozenset("%!@")


class Networks:
    """The trusted networks, parsed once. Answers are kept: an address is asked about at each of its connections."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks: Sequence[IPv4Network | IPv6Network] = tuple(ip_network(text, strict=False) for text in networks)
        self._contains = lru_cache(maxsize=4096)(self._look)

    def __contains__(self, ip: str) -> bool:
        return self._contains(ip)

    def _look(self, ip: str) -> bool:
        if not ip:
            return False
        address = ip_address(ip.partition("%")[0])
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)


def standing(peer: Peer, trusted: Networks) -> Standing:
    """Trust by network holds on the `smtp` listener only: the submission listeners are for users (RFC 6409 4.3)."""
    if peer.source in ("local", "maildrop", "internal"):
        return "local"
    if peer.user:
        return "user"
    if peer.source == "smtp" and peer.ip in trusted:
        return "trusted"
    return "stranger"


def judge_mail(who: Standing, peer: Peer, sender: str, may_send: MaySend) -> Reply | None:
    """May this peer use this sender? A user has what `may_send` says, and the null sender (receipts). It may raise
    Refused."""
    return None if who != "user" or not sender or may_send(peer.user, sender) else SENDER_DENIED


def judge_authors(who: Standing, peer: Peer, head: bytes, may_send: MaySend) -> Reply | None:
    """May this peer write this From? All addresses in all such fields of a user's mail must be the user's; a field with
    none, or too long to be read to its end, is nobody's. No field is fine: it is added. `may_send` may raise Refused.
    """
    if who != "user":
        return None
    if headers.longest(head, b"from") > AUTHORS_MAX_BYTES:
        return AUTHOR_DENIED
    for value in headers.values(head, b"from"):
        authors = addresses(value.decode("utf-8", "replace"))
        if not authors or not all(may_send(peer.user, address) for _, address in authors):
            return AUTHOR_DENIED
    return None


def judge_rcpt(who: Standing, peer: Peer, sender: str, address: str, resolution: Resolution) -> Reply | None:
    """May this peer send to this address? `resolution` is what the directory knows of it.

    The way back to the senders of forwarded mail (SRS) is for reports: who knows such an address, and may have forged
    the sender in it, must not get mail of his own through us.
    A file of the maildrop cannot be answered: an unknown user there is accepted, and fails with a report.
    """
    match resolution:
        case Elsewhere():
            return RELAY_DENIED if who == "stranger" else None
        case Forward(report=True) if who == "stranger" and sender:
            return RELAY_DENIED
        case Forward(targets=(), mailboxes=()):
            return ALIAS_BROKEN
        case Mailbox() | Forward():
            if who == "stranger" and not _ROUTING.isdisjoint(mail_address.split(address)[0]):
                return RELAY_DENIED
            return None
        case Unknown():
            return None if peer.source == "maildrop" else USER_UNKNOWN
        case _:
            assert_never(resolution)
