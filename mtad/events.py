"""One method per fact an operator wants to see: it writes one line and bumps a counter.

Lines begin with the message id where there is one and go on as key=value, in the shapes that readers of Postfix logs
(pflogsumm, fail2ban) know. All that came from outside is cleaned; values with blanks are quoted. No secret is ever
an argument here. Counters are named as in Prometheus text; every label comes from a bounded set.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from mtad.mail import logline
from mtad.mail.classify import classify
from mtad.mail.envelope import Attempt, Clock, Message, Peer, Recipient, State
from mtad.mail.event import DERIVED, READER_MAX, Event, Reader
from mtad.mail.logline import host_of, quoted, words_of
from mtad.mail.reply import Reply
from mtad.mail.text import clean

_TRACE_LINES = 60
_TROUBLE_S = 60.0
_TROUBLES_MAX = 50
_UNKEPT_MAX = 5000  # events that wait to be stored
_RECIPIENTS_TOLD = 100  # of a message, to who reads along
_STAGES = frozenset(
    ["connect", "helo", "ehlo", "lhlo", "starttls", "auth", "mail", "rcpt", "data", "final", "vrfy", "command", "quit"]
)
_MECHANISMS = frozenset(["PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "EXTERNAL"])


class Events:
    """`write` gets one complete line without its end; `debug` adds the lines of connections."""

    def __init__(self, clock: Clock, write: Callable[[str], None], *, debug: bool = False) -> None:
        self.counters: dict[str, int] = {}
        self._clock = clock
        self._write = write
        self._debug = debug
        self._readers: list[Reader] = []
        self._troubles: dict[str, float] = {}  # of the store, and when that was told
        self._unkept: deque[Event] = deque(maxlen=_UNKEPT_MAX)

    @contextmanager
    def reader(self, room: int = READER_MAX) -> Iterator[Reader]:
        """Read along: gets every event from now on, as far as there is room."""
        reader = Reader(room)
        self._readers.append(reader)
        try:
            yield reader
        finally:
            self._readers.remove(reader)

    def unkept(self) -> Sequence[Event]:
        """What is not stored yet, and in no other row: the newest so many."""
        return list(self._unkept)

    def kept(self, count: int) -> None:
        """So many of the first of those are stored."""
        for _ in range(min(count, len(self._unkept))):
            self._unkept.popleft()

    # The daemon

    def started(self, version: str, root: str = "") -> None:
        self._tell("daemon", f"started version={quoted(version)}" + (f", data={quoted(root)}" if root else ""))

    def stopped(self, reason: str = "") -> None:
        self._tell("daemon", "stopped" + (f" reason={quoted(reason)}" if reason else ""))

    def warned(self, text: str) -> None:
        """Something is odd but works."""
        self._tell("warning", f"warning: {clean(text)}")

    def listening(self, source: str, address: str) -> None:
        self._tell("daemon", f"listening {source} on {quoted(address)}")

    def config_reloaded(self, path: str = "") -> None:
        self._count('mtad_config_reloads_total{result="ok"}')
        self._tell("daemon", "configuration reloaded" + (f" file={quoted(path)}" if path else ""))

    def config_refused(self, problems: Iterable[str]) -> None:
        """The old settings stay in force. One line for each problem."""
        self._count('mtad_config_reloads_total{result="refused"}')
        for problem in problems:
            self._tell("error", f"configuration refused: {clean(problem)}")

    def store_trouble(self, cause: str) -> None:
        """What does not go away is told once in _TROUBLE_S."""
        self._count("mtad_store_errors_total")
        now = self._clock()
        if 0 <= now - self._troubles.get(cause, -_TROUBLE_S) < _TROUBLE_S:
            return
        if len(self._troubles) >= _TROUBLES_MAX:
            self._troubles.clear()
        self._troubles[cause] = now
        self._tell("error", f"error: store: {clean(cause)}")

    def internal_error(self, where: str, exc: BaseException) -> str:
        """Log the traceback under an id and return it: the only thing a peer may be told. `where` is a constant."""
        import traceback

        self._count(f'mtad_internal_errors_total{{where="{_label(where)}"}}')
        number = sum(count for key, count in self.counters.items() if key.startswith("mtad_internal_errors_total"))
        error = f"e{int(self._clock() * 1000):x}-{number}"
        self._tell("error", f"{error}: internal error in {quoted(where)}: {type(exc).__name__}: {clean(str(exc))}")
        lines = "".join(traceback.format_exception(exc)).splitlines()
        for line in lines[-_TRACE_LINES:]:
            self._write(f"{error}: | {clean(line)}")
        return error

    # Sessions

    def connected(self, peer: Peer) -> None:
        self._count(f'mtad_connections_total{{source="{peer.source}"}}')
        if self._debug:
            self._write(f"connect from {host_of(peer)}, source={peer.source}")

    def disconnected(self, peer: Peer, cause: str = "") -> None:
        if self._debug:
            self._write(f"disconnect from {host_of(peer)}" + (f", cause={quoted(cause)}" if cause else ""))

    def refused(self, peer: Peer, stage: str, reply: Reply, subject: str = "") -> None:
        """A command got a reply that is no success. `subject` is what it was about: an address, a command."""
        sender = subject if stage == "mail" and "@" in subject else ""
        stage = stage if stage in _STAGES else "command"
        code = reply.code if 400 <= reply.code < 600 else 0
        self._count(f'mtad_refused_total{{stage="{stage}",code="{code}"}}')
        line = f"NOQUEUE: reject: {stage.upper()} from {host_of(peer)}: {words_of(reply)}"
        if subject:
            line += f"; subject={quoted(subject)}"
        if peer.helo:
            line += f", helo={quoted(peer.helo)}"
        if peer.user:
            line += f", user={quoted(peer.user)}"
        line += f", cause={quoted(reply.cause)}" if reply.cause else ""
        self._tell(
            "refused",
            line,
            ip=peer.ip,
            user=peer.user,
            sender=sender,
            to=(subject,) if "@" in subject and not sender else (),
        )

    def auth_ok(self, peer: Peer, user: str) -> None:
        self._count('mtad_auth_total{result="ok"}')
        self._tell("sign-in", f"auth from {host_of(peer)}, user={quoted(user)}", ip=peer.ip, user=user)

    def auth_failed(self, peer: Peer, user: str, mechanism: str) -> None:
        self._count('mtad_auth_total{result="failed"}')
        mechanism = mechanism if mechanism in _MECHANISMS else "unknown"
        line = f"warning: {host_of(peer)}: SASL {mechanism} authentication failed: user={quoted(user)}"
        self._tell("sign-in-failed", line, ip=peer.ip, user=user)

    def blocked(self, client: str, reason: str, for_s: float) -> None:
        """We made a block of our own: this client is kept out for so long."""
        self._count("mtad_blocks_total")
        line = f"blocked client={quoted(client)}, for={for_s:.0f}s, reason={quoted(reason)}"
        self._tell("blocked", line, ip=client)

    def tls_failed(self, peer: Peer | str, cause: str) -> None:
        """A handshake failed; `peer` is the relay's name when we are the client."""
        side = "client" if isinstance(peer, str) else "server"
        self._count(f'mtad_tls_failures_total{{side="{side}"}}')
        host = clean(peer, 200) if isinstance(peer, str) else host_of(peer)
        ip = "" if isinstance(peer, str) else peer.ip
        self._tell("tls", f"warning: {host}: TLS failed: {clean(cause)}", ip=ip)

    def tls_loaded(self, path: str, names: Sequence[str], expires_at: float) -> None:
        """A certificate was read again and is in use from now on."""
        self._count('mtad_tls_loads_total{result="ok"}')
        names_text, day = " ".join(names), datetime.fromtimestamp(expires_at, UTC).date().isoformat()
        self._tell("tls", f"tls: certificate={quoted(path)}, names={quoted(names_text)}, expires={day}")

    def tls_refused(self, cause: str) -> None:
        """Certificates cannot be used; those of before stay in use."""
        self._count('mtad_tls_loads_total{result="refused"}')
        self._tell("tls", f"tls: certificates refused, the old ones are in use: {clean(cause)}")

    def tls_policy_failed(self, relay: str, origin: str, result: str, words: str, why: str) -> None:
        """A host did not show the TLS that it must, so it got no mail. `origin` and `result` are of closed sets."""
        self._count(f'mtad_tls_policy_failures_total{{origin="{_label(origin)}",result="{_label(result)}"}}')
        self._tell("tls", f"warning: {clean(relay, 200)}: no mail without {quoted(why or origin)}: {clean(words)}")

    def policy_fetched(self, domain: str, policy_id: str, mode: str, max_age_s: int) -> None:
        """A domain's MTA-STS policy is new here, or another one than before."""
        self._count('mtad_sts_policies_total{result="ok"}')
        self._tell("tls", f"mta-sts: domain={quoted(domain)}, mode={mode}, id={quoted(policy_id)}, max_age={max_age_s}")

    def policy_failed(self, domain: str, result: str, cause: str) -> None:
        """It announces a policy that cannot be had. One from before, if any, holds on."""
        self._count(f'mtad_sts_policies_total{{result="{_label(result)}"}}')
        self._tell("tls", f"warning: mta-sts: domain={quoted(domain)}, result={result}, cause={quoted(cause)}")

    def tls_report_sent(self, domain: str, to: str, message_id: str) -> None:
        """A TLSRPT report was queued as a mail, or taken by an HTTPS server (then without an id)."""
        self._count('mtad_tls_reports_total{result="ok"}')
        line = f"tls report: domain={quoted(domain)}, to={quoted(to)}"
        self._tell("tls", f"{message_id}: {line}" if message_id else line)

    def tls_report_failed(self, domain: str, to: str, cause: str) -> None:
        self._count('mtad_tls_reports_total{result="failed"}')
        self._tell("tls", f"warning: tls report: domain={quoted(domain)}, to={quoted(to)}, cause={quoted(cause)}")

    # Messages

    def accepted(self, message: Message, recipients: Sequence[Recipient]) -> None:
        """The message is durable."""
        peer = message.peer
        self._count(f'mtad_accepted_total{{source="{peer.source}"}}')
        self._count("mtad_accepted_bytes_total", message.size_bytes)
        self._count("mtad_accepted_recipients_total", len(recipients))
        line = logline.accepted(message, len(recipients))
        self._write(line)
        if self._readers:
            to = tuple([recipient.address for recipient in recipients[:_RECIPIENTS_TOLD]])
            self._pass_on(Event(self._clock(), "accepted", line, message.id, message.sender, to, peer.ip, peer.user))

    def repeated(self, message_id: str, peer: Peer, key: str) -> None:
        """A program submitted the message a second time, under the key of the first."""
        self._count("mtad_repeated_total")
        line = f"{message_id}: repeated, client={host_of(peer)}, key={quoted(key)}"
        self._tell("accepted", line, message=message_id, ip=peer.ip, user=peer.user)

    def attempt(self, message: Message, recipient: Recipient, attempt: Attempt, state: State) -> None:
        """One try of one recipient and the state it left it in."""
        reply = attempt.reply
        status, result = logline.outcome(reply, state)
        error = classify(reply)
        self._count(f'mtad_delivery_attempts_total{{transport="{_transport(attempt.relay)}",result="{result}"}}')
        if error:
            self._count(f'mtad_delivery_errors_total{{class="{error}"}}')
        line = logline.attempt(message, recipient, attempt, status, error)
        self._write(line)
        if self._readers:
            peer = message.peer
            to = (recipient.address,)
            self._pass_on(Event(self._clock(), result, line, message.id, message.sender, to, peer.ip, peer.user))

    def quarantined(self, message_id: str, why: str) -> None:
        """The store does not have the octets that were accepted."""
        self._count("mtad_quarantined_total")
        self._tell("error", f"error: {message_id}: held: {clean(why)}", message=message_id)

    def expired(self, message: Message, recipient: Recipient) -> None:
        """Given up after the last try: it was too old."""
        self._count("mtad_expired_total")
        line = (
            f"{message.id}: to=<{clean(recipient.address)}>, from=<{clean(message.sender)}>, "
            f"tries={recipient.tries}, status=expired, returned to sender"
        )
        self._tell(
            "expired",
            line,
            message=message.id,
            sender=message.sender,
            to=(recipient.address,),
            ip=message.peer.ip,
            user=message.peer.user,
        )

    # Sites

    def breaker_opened(self, site: str, cause: str, seen: int, for_s: float) -> None:
        """Nothing is sent to the site until a probe, which goes in `for_s`. Also told when a probe failed."""
        self._count("mtad_site_breaker_opened_total")
        self._tell(
            "site", f"site {quoted(site)}: breaker open, cause={quoted(cause)}, seen={seen}, probe in {for_s:.0f}s"
        )

    def breaker_closed(self, site: str, after_s: float) -> None:
        self._count("mtad_site_breaker_closed_total")
        self._tell("site", f"site {quoted(site)}: breaker closed, after {after_s:.0f}s")

    def site_blocked(self, site: str, cause: str) -> None:
        """Its words say that it wants no mail of ours for a while."""
        self._count("mtad_site_blocks_total")
        self._tell("site", f"site {quoted(site)}: temporary block, cause={quoted(cause)}")

    def warmup_reached(self, site: str, sent: int) -> None:
        self._count("mtad_site_warmup_reached_total")
        self._tell("site", f"site {quoted(site)}: warm-up limit reached, sent={sent} today")

    def suspended(self, kind: str, value: str, until_at: float, reason: str) -> None:
        """An operator did that; `until_at` 0 is until it is removed."""
        self._count(f'mtad_suspensions_total{{kind="{_label(kind)}",change="made"}}')
        until = datetime.fromtimestamp(until_at, UTC).isoformat(timespec="seconds") if until_at else "removed"
        self._tell("site", f"suspended {kind}={quoted(value)}, until={until}, reason={quoted(reason)}")

    def resumed(self, kind: str, value: str, why: str) -> None:
        """A suspension is over: its time is, or an operator removed it."""
        self._count(f'mtad_suspensions_total{{kind="{_label(kind)}",change="ended"}}')
        self._tell("site", f"suspension ended {kind}={quoted(value)}, why={quoted(why)}")

    def report_made(self, of: str, new_id: str, to: str) -> None:
        """A report about message `of` was queued for `to`."""
        self._count("mtad_reports_total")
        self._tell("report", logline.report(of, new_id, to), message=of, to=(to,))

    def double_bounce(self, message_id: str, cause: str = "") -> None:
        """A report, or other mail from the null sender, could not be delivered: nobody is told."""
        self._count("mtad_double_bounces_total")
        line = f"{message_id}: double bounce, no report is sent" + (f", cause={quoted(cause)}" if cause else "")
        self._tell("warning", line, message=message_id)

    def suppressed(self, user: str, address: str, for_s: float) -> None:
        """Mail of this user to the address came back too often: it is not tried any more."""
        self._count("mtad_suppressions_total")
        line = f"suppressed to=<{clean(address)}>, user={quoted(user)}, for={for_s:.0f}s"
        self._tell("suppressed", line, to=(address,), user=user)

    def maildrop_bad(self, name: str, cause: str) -> None:
        self._count("mtad_maildrop_bad_total")
        self._tell("warning", f"warning: maildrop file {quoted(name)}: {clean(cause)}")

    # Signing keys

    def dkim_stage(self, domain: str, selector: str, stage: str) -> None:
        """A key came into another stage of its life."""
        self._count(f'mtad_dkim_stages_total{{stage="{_label(stage)}"}}')
        self._tell("dkim", f"dkim: domain={quoted(domain)}, selector={quoted(selector)}, stage={quoted(stage)}")

    def dkim_pushed(self, domain: str, records: int) -> None:
        """So many records of a domain's keys were set or removed in DNS."""
        self._count('mtad_dkim_pushes_total{result="ok"}')
        self._tell("dkim", f"dkim: domain={quoted(domain)}, records={records}, DNS was updated")

    def dkim_push_failed(self, domain: str, cause: str) -> None:
        self._count('mtad_dkim_pushes_total{result="failed"}')
        self._tell("dkim", f"warning: dkim: domain={quoted(domain)}, DNS was not updated: {clean(cause)}")

    # Operators

    def operator(self, caller: str, operation: str, selector: str, reason: str, changed: int) -> None:
        """The audit line of a changing verb: who, what, why, how many. `operation` is a name of the table."""
        self._count(f'mtad_operations_total{{operation="{_label(operation)}"}}')
        self._tell("operator", logline.operator(caller, operation, selector, reason, changed))

    def _tell(
        self,
        kind: str,
        line: str,
        *,
        message: str = "",
        sender: str = "",
        to: tuple[str, ...] = (),
        ip: str = "",
        user: str = "",
    ) -> None:
        """The line of an event, which is kept where no other row tells of it."""
        self._write(line)
        keep = kind not in DERIVED
        if keep or self._readers:
            event = Event(self._clock(), kind, line, message, clean(sender), tuple(map(clean, to)), ip, clean(user))
            if keep:
                self._unkept.append(event)
            self._pass_on(event)

    def _pass_on(self, event: Event) -> None:
        for reader in self._readers:
            reader.tell(event)

    def _count(self, key: str, by: int = 1) -> None:
        self.counters[key] = self.counters.get(key, 0) + by


def _label(text: str) -> str:
    """A word that is fit for a label: lower-case letters, digits and a little between them."""
    return "".join(char if char.isascii() and (char.isalnum() or char in "._-") else "_" for char in text[:60].lower())


def _transport(relay: str) -> str:
    for name in ("maildir", "lmtp", "discard", "reject"):
        if relay.startswith(name):
            return name
    return "smtp" if "[" in relay else "none"
