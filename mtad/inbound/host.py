"""What a dialogue needs of the house: settings, services, and the words that are the same for every peer."""

from copy import copy
from dataclasses import replace

from mtad.accounts.directory import Directory
from mtad.accounts.users import Users
from mtad.config import Config
from mtad.events import Events
from mtad.inbound.accept import Acceptor
from mtad.inbound.auth import MECHANISMS
from mtad.inbound.guard import Guard
from mtad.inbound.policy import Networks
from mtad.mail.envelope import Peer, Source
from mtad.mail.extensions import Offers, ehlo_lines

RECIPIENTS_MAX_HERE = 10_000  # of one mail from a program of this host; sendmail knows the number too


class Host:
    """Made once per configuration; a reload makes a new one, which new connections get."""

    def __init__(
        self,
        config: Config,
        acceptor: Acceptor,
        directory: Directory,
        users: Users,
        events: Events,
        guard: Guard,
        *,
        tls: bool,
    ) -> None:
        """`tls`: there is a certificate."""
        self.config = config
        self.limits = config.limits
        self.domain = config.domains[0] if config.domains else config.hostname
        self.acceptor = acceptor
        self.clock = acceptor.clock
        self.directory = directory
        self.users = users
        self.events = events
        self.guard = guard
        self.trusted = Networks(config.access.trusted_networks)
        self.proxies = Networks(config.listen.proxy_from)
        self.strict = config.smtp.early_talkers == "refuse"
        self.normalize = config.smtp.bare_newline == "normalize"
        self.greeting = f"220 {config.hostname} ESMTP\r\n".encode()
        self.helo = f"250 {config.hostname}\r\n".encode()
        self._tls = tls
        self._offers: dict[tuple[Source, bool, bool], Offers] = {}
        self._ehlo: dict[Offers, bytes] = {}
        self._hour = 0

    def with_acceptor(self, acceptor: Acceptor) -> "Host":
        """The same with another acceptor: for mail whose id and time are given."""
        other = copy(self)
        other.acceptor = acceptor
        return other

    def offers_tls(self, peer: Peer) -> bool:
        return self._tls and not peer.tls and peer.source in ("smtp", "submission")

    def offers(self, peer: Peer) -> Offers:
        """AUTH is offered only where a password cannot be overheard, and never to other servers."""
        key = (peer.source, bool(peer.tls), bool(peer.user))
        offers = self._offers.get(key)
        if offers is None:
            here, user = peer.source in ("local", "maildrop"), peer.source in ("submission", "submissions")
            offers = self._offers[key] = Offers(
                size_max_bytes=self.limits.message_size_bytes,
                recipients_max=RECIPIENTS_MAX_HERE if here else self.limits.recipients,
                hold_max_s=self.limits.hold_max_s,
                starttls=self.offers_tls(peer),
                auth=MECHANISMS if user and peer.tls and not peer.user else (),
                secure=bool(peer.tls),
                submission=here or user,
                here=here,
            )
        return offers

    def ehlo(self, peer: Peer, now: float, mechanisms: tuple[str, ...] = MECHANISMS) -> bytes:
        """The reply; `mechanisms` are those of its channel. It names a moment in the future, which is worked out once
        an hour."""
        hour = int(now // 3600)
        if hour != self._hour:
            self._hour = hour
            self._ehlo.clear()
        offers = self.offers(peer)
        if offers.auth:
            offers = replace(offers, auth=mechanisms)
        reply = self._ehlo.get(offers)
        if reply is None:
            reply = self._ehlo[offers] = ehlo_lines(self.config.hostname, offers, hour * 3600.0)
        return reply
