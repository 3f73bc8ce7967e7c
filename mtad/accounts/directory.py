"""Who is here: what an address means to this host. Pure over the loaded users and aliases."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, assert_never

from mtad.accounts.aliases import Aliases
from mtad.accounts.srs import NotOurs, Srs, is_srs
from mtad.accounts.users import Users
from mtad.config import Config
from mtad.mail import address as addresses
from mtad.mail.envelope import Clock
from mtad.mail.reply import Refused, Reply

DEPTH_MAX = 50
TARGETS_MAX = 1000
ALWAYS = frozenset({"postmaster", "abuse"})  # RFC 5321 4.5.1, RFC 2142
TO_POSTMASTER = frozenset({"root", "mailer-daemon"})

_TOO_LARGE = Reply(451, "4.2.4", "Alias expansion is too large")
_BROKEN = Reply(451, "4.3.5", "This alias is out of order")


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A mailbox of ours. `address` is its own name: without sub-address, in the case of the user store."""

    address: str


@dataclass(frozen=True, slots=True)
class Forward:
    """An alias: mail goes to these addresses instead. One step; they may be aliases themselves.

    A target equal to the alias, or written with a backslash in the file, means the mailbox of that name and is given
    in `mailboxes`. With neither, the alias is out of order, and its mail is better late than returned.
    """

    targets: tuple[str, ...]
    mailboxes: tuple[str, ...] = ()
    report: bool = False  # no alias, but a sender of forwarded mail, back to which reports go


@dataclass(frozen=True, slots=True)
class Unknown:
    """Our domain, but nobody there by that name."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Not our domain."""


Resolution = Mailbox | Forward | Unknown | Elsewhere


class Step(NamedTuple):
    """One address on the way from an address to the final ones."""

    address: str
    depth: int  # 0: the one that was asked for
    resolution: Resolution
    final: tuple[str, ...]  # what mail goes to from here
    loop: bool = False  # it is being expanded already


class Directory:
    """Resolves canonical addresses. Make a new one after a change of settings or aliases; users are looked up live."""

    def __init__(self, config: Config, users: Users, aliases: Aliases, clock: Clock = time.time) -> None:
        self._users = users
        self._aliases = aliases
        self._srs = Srs(users.derived("srs"), clock)
        self._rewrites = config.delivery.srs
        self._domains = frozenset(config.domains)
        self._main = config.domains[0] if config.domains else config.hostname
        self._delimiter = config.local.delimiter
        self._catch_all = config.local.catch_all

    def ours(self, domain: str) -> bool:
        """Is this domain (A-label, lower case) one of ours?"""
        return domain in self._domains

    def resolve(self, address: str) -> Resolution:
        """One step: aliases before users, exact names before sub-addresses, catch_all last."""
        local, domain = addresses.split(address)
        if not domain:
            if local.lower() != "postmaster":
                return Unknown()
            domain = self._main
        else:
            try:
                domain = addresses.domain_of(address)
            except addresses.AddressError:
                return Elsewhere()
            if domain not in self._domains:
                return Elsewhere()
        if is_srs(local):
            try:
                return Forward((self._srs.reverse(local),), report=True)
            except NotOurs:
                return self._named(local, domain) or Unknown()
        base = addresses.subaddress(local, self._delimiter)[0]
        for name in (local,) if base == local else (local, base):
            found = self._named(name, domain)
            if found is not None:
                return found
        if base.lower() in ALWAYS:
            return Mailbox(f"{base.lower()}@{domain}")
        if base.lower() in TO_POSTMASTER:
            return Forward((f"postmaster@{domain}",))
        if self._catch_all and not addresses.same(self._catch_all, f"{local}@{domain}"):
            return Forward((self._catch_all,))
        broken = any(self._aliases.broken(name) for one in (local, base) for name in (f"{one}@{domain}", one))
        return Forward(()) if broken else Unknown()

    def expand(self, address: str) -> tuple[str, ...]:
        """All final addresses: mailboxes of ours and addresses elsewhere, each once, in the order of the aliases.

        () when the address itself is unknown; an unknown target of an alias stays in, so that its failure is reported.
        A loop ends at the address where it closes, as its mailbox. Raises Refused: 451 4.2.4 beyond DEPTH_MAX levels
        or TARGETS_MAX addresses, 451 4.3.5 at an alias that is out of order. Mail is rather late than lost.
        """
        match self.resolve(address):  # nearly all mail ends here
            case Mailbox(name):
                return (name,)
            case Elsewhere():
                return (address,)
            case _:
                pass
        found: dict[str, str] = {}
        for step in self.walk(address):
            for name in step.final:
                found.setdefault(addresses.fold(name), name)
            if len(found) > TARGETS_MAX:
                raise Refused(_TOO_LARGE.because(f"expanding {address}"))
        return tuple(found.values())

    def walk(self, address: str) -> Iterator[Step]:
        """The expansion step by step. Raises Refused as `expand` does."""
        expanded: set[str] = set()
        todo: list[tuple[str, int, frozenset[str]]] = [(address, 0, frozenset())]
        while todo:
            current, depth, path = todo.pop()
            key = addresses.fold(current)
            loop = key in path
            if key in expanded and not loop:
                continue
            if depth > DEPTH_MAX or len(expanded) > TARGETS_MAX:
                raise Refused(_TOO_LARGE.because(f"expanding {address}"))
            resolution = Mailbox(current) if loop else self.resolve(current)
            match resolution:
                case Mailbox(name):
                    yield Step(current, depth, resolution, (name,), loop)
                case Elsewhere():
                    yield Step(current, depth, resolution, (current,))
                case Unknown():
                    yield Step(current, depth, resolution, (current,) if depth else ())
                case Forward(targets, mailboxes):
                    expanded.add(key)
                    yield Step(current, depth, resolution, mailboxes)
                    if not targets and not mailboxes:
                        raise Refused(_BROKEN.because(f"{current} has no target that can be used"))
                    # The last one pushed is looked at first.
                    todo.extend((target, depth + 1, path | {key}) for target in reversed(targets))
                case never:
                    assert_never(never)

    def sender_for(self, sender: str, original: str, address: str) -> str:
        """The sender to write when mail of `sender` to `original` goes out to `address`: one of ours when an alias
        sends a stranger's mail on to another house, which would not take it from us in the stranger's name."""
        if not sender or not self._rewrites or original == address:
            return sender
        try:
            here, there, theirs = (addresses.domain_of(one) for one in (original, address, sender))
        except addresses.AddressError:
            return sender
        if here not in self._domains or there in self._domains or theirs in self._domains:
            return sender
        return self._srs.forward(sender, here)

    def may_send(self, user: str, address: str) -> bool:
        """May this user send as this address? The own one with its sub-addresses, aliases that lead to it, and what an
        operator granted: addresses, and "@domain". Raises Refused as `expand` does."""
        if addresses.same(address, user):
            return True
        stored = self._users.get(user)
        if stored is not None and self._granted(stored.profile.senders, address):
            return True
        try:
            return any(addresses.same(target, user) for target in self.expand(addresses.parse(address, utf8=True)))
        except addresses.AddressError:
            return False

    def _granted(self, senders: tuple[str, ...], address: str) -> bool:
        if not senders:
            return False
        try:
            domain = addresses.domain_of(address)
        except addresses.AddressError:
            return False
        return any(f"@{domain}" == one if one.startswith("@") else addresses.same(one, address) for one in senders)

    def _named(self, local: str, domain: str) -> Resolution | None:
        """The alias, or else the mailbox, of exactly this name."""
        address = f"{local}@{domain}"
        targets = self._aliases.expand(address)
        if targets is None:
            targets = self._aliases.expand(local)
        if targets is not None:
            return self._forward(address, targets)
        user = self._users.get(address)
        return None if user is None else Mailbox(user.name)

    def _forward(self, address: str, targets: tuple[str, ...]) -> Forward:
        """Complete bare names; set apart what means a mailbox."""
        onwards: list[str] = []
        mailboxes: list[str] = []
        for target in targets:
            literal = target.startswith("\\")
            name = target.removeprefix("\\")
            full = name if "@" in name else f"{name}@{self._main}"
            if addresses.same(full, address) or (literal and self._is_ours(full)):
                mailboxes.append(full)
            else:
                onwards.append(full)
        return Forward(tuple(onwards), tuple(mailboxes))

    def _is_ours(self, address: str) -> bool:
        return addresses.domain_of(address) in self._domains
