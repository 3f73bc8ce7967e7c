"""From "the final dot was read" to "it is durable": judge the trace, write our fields, sign, commit; only then 250."""

from collections.abc import Callable, Iterator
from copy import copy

from mtad import faults
from mtad.accounts.directory import Directory
from mtad.config import Config
from mtad.dkim.keys import Keys, SigningKey
from mtad.dkim.policy import signer
from mtad.dkim.signer import Signer
from mtad.events import Events
from mtad.inbound import policy, stamps
from mtad.inbound.quota import Quotas
from mtad.inbound.spool import NO_ROOM, Received, Spool
from mtad.mail import address as mail_address
from mtad.mail import headers
from mtad.mail.envelope import Clock, Envelope, Message, NewMessage, Peer, Recipient
from mtad.mail.ident import Ids
from mtad.mail.reply import LOCAL_ERROR, Refused, Reply
from mtad.queue import files
from mtad.queue.store import KeyTaken, Selector, Store, StoreError

RECIPIENTS_MAX = 10_000  # of one mail, after aliases
RECIPIENTS_MAX_HERE = 100_000  # the same for programs of this host, who may have been told 0 already

LOOP = Reply(554, "5.4.6", "Too many hops: this mail is in a loop", stage="final")
KEY_TAKEN = Reply(554, "5.5.4", "This key was used for a mail with another sender or recipients", stage="final")
TOO_MANY_TARGETS = Reply(452, "4.5.3", "Too many recipients after aliases", stage="final")

# Programs of this host: they write login names for addresses.
_HERE = frozenset({"local", "maildrop"})

# What a submitter may write and nobody else may see or believe (RFC 5322 3.6.3, RFC 5321 4.4).
_ALL_STATES = ("ready", "active", "deferred", "held", "done", "failed", "trashed")
_PRIVATE = frozenset({b"bcc", b"resent-bcc", b"return-path", b"content-length"})


class Acceptor:
    """Accepts mail for the whole house. Stateless between mails; safe to share by all dialogues of one loop."""

    def __init__(
        self,
        config: Config,
        store: Store,
        directory: Directory,
        keys: Keys,
        events: Events,
        ids: Ids,
        clock: Clock,
        *,
        came_in: Callable[[float], None] = lambda at: None,
        signer: Signer | None = None,
    ) -> None:
        """`came_in` tells whoever delivers that a mail is durable, made at that time. Without a `signer` it has one of
        its own."""
        self._config = config
        self._store = store
        self._directory = directory
        self._keys = keys
        self._events = events
        self._ids = ids
        self.clock = clock
        self._came_in = came_in
        self._signer = signer or Signer()
        self._trusted = policy.Networks(config.access.trusted_networks)
        self.quotas = Quotas(store, clock, config.limits)
        self._stamp_clock = clock
        self._date = (0, "")  # the current second and its text

    def for_drop(self, ids: Ids, written_at: float) -> "Acceptor":
        """The same for a mail that was written down earlier: with its own id, and its own time in the head."""
        other = copy(self)
        other._ids = ids
        other._stamp_clock = lambda: written_at
        return other

    async def accepted_from(self, message_id: str) -> Peer | None:
        """Who brought this message; None when there is none. Raises StoreError."""
        rows = await self._store.select(Selector(ids=(message_id,), states=_ALL_STATES), self.clock(), limit=1)
        return rows[0].message.peer if rows else None

    async def keep_report(self, report: NewMessage, of: str) -> None:
        """Store a report of the daemon's own about `of`. Durable. Raises StoreError."""
        await self._store.accept(report)
        self._came_in(report.message.accepted_at)
        self._events.report_made(of, report.message.id, report.recipients[0].address)

    def spool(self, peer: Peer, sender: str) -> Spool:
        """A place for the octets of one mail."""
        signs = self._keys.any() and policy.standing(peer, self._trusted) != "stranger"

        def keys_for(head: bytes) -> tuple[SigningKey, ...]:
            return self._keys_for(head, sender, bare=peer.source in _HERE) if signs else ()

        return Spool(self._config.paths.spool, self._config.limits.header_size_bytes, self._ids.new, keys_for)

    async def accept(self, envelope: Envelope, peer: Peer, received: Received) -> Reply:
        """Durable when the reply is 250; nothing was stored when it is not. Raises nothing but bugs."""
        now = self.clock()
        message_id = received.id
        try:
            if headers.count_received(received.head) > self._config.limits.received:
                raise Refused(LOOP)
            if peer.user and self._config.submission.check_from == "refuse":
                self._check_authors(peer, received.head)
            recipients = tuple(self._recipients(envelope, peer, message_id, now))
        except Refused as refused:
            self._forget(received)
            return refused.reply
        head = await self._head(envelope, peer, received)
        received.digest.update(head)
        message = Message(
            id=message_id,
            sender=envelope.sender,
            size_bytes=len(head) + received.body_bytes,
            accepted_at=now,
            expires_at=max(now, envelope.hold_until) + self._config.delivery.expire_s,
            peer=peer,
            body=envelope.body,
            smtputf8=envelope.smtputf8,
            ret=envelope.ret,
            envid=envelope.envid,
            requiretls=envelope.requiretls,
            header_id=headers.message_id(head),
            subject=headers.subject(head),
            digest=received.digest.digest(),
            priority=envelope.priority,
            hold_until=envelope.hold_until,
            by_at=envelope.by_at,
            by_mode=envelope.by_mode,
            by_trace=envelope.by_trace,
            tls_optional=not envelope.requiretls and stamps.wants_no_tls(head),
            signed=" ".join([f"{key.domain}/{key.selector}" for key in received.keys]) if received.keys else "",
        )
        try:
            stored_id = await self._store.accept(NewMessage(message, recipients, head, received.body, envelope.key))
        except KeyTaken:
            self._forget(received)
            return KEY_TAKEN
        except StoreError as error:
            # Else each mail that a full disk refuses leaves it fuller. In doubt the sweep deletes what no row names.
            if not error.doubtful:
                self._forget(received)
            self._events.store_trouble(str(error))
            return (NO_ROOM if error.full else LOCAL_ERROR).because(str(error))
        faults.point("accept.before_reply")
        if stored_id != message_id:
            self._forget(received)
            self._events.repeated(stored_id, peer, envelope.key)
            return Reply(250, "2.0.0", f"{stored_id} queued already")
        self._came_in(now)
        self._events.accepted(message, recipients)
        return Reply(250, "2.0.0", f"{message_id} queued")

    def _forget(self, received: Received) -> None:
        """No row will name its body."""
        if isinstance(received.body, str):
            files.delete(self._config.paths.spool, (received.id,))

    def _check_authors(self, peer: Peer, head: bytes) -> None:
        who = policy.standing(peer, self._trusted)
        refusal = policy.judge_authors(who, peer, head, self._directory.may_send)
        if refusal is not None:
            raise Refused(refusal)

    async def _head(self, envelope: Envelope, peer: Peer, received: Received) -> bytes:
        """The header block as it is stored and sent."""
        hostname = self._config.hostname
        at = self._now_text()
        head = received.head
        if peer.source != "smtp":  # fresh from its author's side: ours to complete (RFC 6409 8)
            head = headers.remove(head, _PRIVATE)
            if peer.source in _HERE:
                head = stamps.qualify(head, self._config.domains[0])
            head = stamps.missing(head, envelope.sender, hostname, received.id, at) + head
        if received.keys:
            head = await self._signer.sign_all(received.keys, head, received.body_hash, int(self._stamp_clock())) + head
        return stamps.received(envelope, peer, hostname, received.id, at) + head

    def _keys_for(self, head: bytes, sender: str, *, bare: bool) -> tuple[SigningKey, ...]:
        """All active keys that sign for the author's domain (RFC 6376: the author is in From). `bare`: a login name
        without a domain is one of ours."""
        authors = headers.first_addresses(head, b"from") if headers.has(head, b"from") else [sender]
        try:
            author = authors[0] if authors else ""
            if bare and author and "@" not in author:
                domain = self._config.domains[0]
            else:
                domain = mail_address.domain_of(author)
        except mail_address.AddressError:
            return ()
        keys = self._keys
        by = signer(domain, self._config.dkim.rules, self._directory.ours, keys.signs) if domain else ""
        return keys.keys(by)

    def _recipients(self, envelope: Envelope, peer: Peer, message_id: str, now: float) -> Iterator[Recipient]:
        """One row per final address. Aliases can name an address twice: it gets one mail."""
        limit = RECIPIENTS_MAX_HERE if peer.source in _HERE else RECIPIENTS_MAX
        seen: set[str] = set()
        n, next_at = 0, max(now, envelope.hold_until)
        for rcpt in envelope.recipients:
            targets = self._directory.expand(rcpt.address) or (rcpt.address,)
            notify = rcpt.notify
            if len(targets) > 1 and "SUCCESS" in notify:
                # RFC 3461 5.2.7.2: the success to report is the expansion. It has a row and an outcome of its own.
                n += 1
                yield Recipient(
                    message_id, n, rcpt.address, rcpt.address, "", next_at=next_at, notify="SUCCESS", orcpt=rcpt.orcpt
                )
                notify = ",".join(word for word in notify.split(",") if word != "SUCCESS") or "NEVER"
            for target in targets:
                key = mail_address.fold(target)
                if key in seen:
                    continue
                if len(seen) == limit:
                    raise Refused(TOO_MANY_TARGETS)
                seen.add(key)
                n += 1
                yield Recipient(
                    message_id=message_id,
                    n=n,
                    address=target,
                    original=rcpt.address,
                    domain=mail_address.domain_of(target),
                    next_at=next_at,
                    notify=notify,
                    orcpt=rcpt.orcpt,
                )

    def _now_text(self) -> str:
        now = self._stamp_clock()
        if self._date[0] != int(now):
            self._date = (int(now), headers.date(now))
        return self._date[1]
