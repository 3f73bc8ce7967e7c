"""What a dialogue needs of the house: settings, services, and the words that are the same for every peer."""

from copy import copy

from mtad.accounts.directory import Directory
from mtad.accounts.users import Users
from mtad.config import Config
from mtad.events import Events
from mtad.inbound.accept import Acceptor
from mtad.inbound.auth import MECHANISMS
from mtad.inbound.policy import Networks
from mtad.mail.envelope import Peer
from mtad.mail.params import ehlo_lines


class Host:
    """Made once per configuration; a reload makes a new one, which new connections get."""

    def __init__(
        self, config: Config, acceptor: Acceptor, directory: Directory, users: Users, events: Events, *, tls: bool
    ) -> None:
        """`tls`: there is a certificate."""
        self.config = config
        self.limits = config.limits
        self.domain = config.domains[0] if config.domains else config.hostname
        self.acceptor = acceptor
        self.directory = directory
        self.users = users
        self.events = events
        self.trusted = Networks(config.access.trusted_networks)
        self.greeting = f"220 {config.hostname} ESMTP\r\n".encode()
        self.helo = f"250 {config.hostname}\r\n".encode()
        self._tls = tls
        # Four answers to EHLO are all there are: (TLS may start, AUTH may follow).
        self._ehlo = {
            (starttls, auth): ehlo_lines(
                config.hostname,
                size=config.limits.message_size_bytes,
                tls_offered=starttls,
                auth=MECHANISMS if auth else (),
            )
            for starttls in (False, True)
            for auth in (False, True)
        }

    def with_acceptor(self, acceptor: Acceptor) -> "Host":
        """The same with another acceptor: for mail whose id and time are given."""
        other = copy(self)
        other.acceptor = acceptor
        return other

    def offers_tls(self, peer: Peer) -> bool:
        return self._tls and not peer.tls and peer.source in ("smtp", "submission")

    def ehlo(self, peer: Peer) -> bytes:
        """AUTH is offered only where a password cannot be overheard, and never to other servers."""
        auth = bool(peer.tls) and not peer.user and peer.source in ("submission", "submissions")
        return self._ehlo[self.offers_tls(peer), auth]
