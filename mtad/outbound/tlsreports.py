"""What TLS came to on our connections, counted and reported daily to the domains that ask (TLSRPT, RFC 8460).

Counting is a step of a table in memory, for it happens on the way of the mail; now and then the counts go to the store.
What the reports themselves meet with is not counted: they are mail that asked for delivery in any case.
"""

import asyncio
import hashlib
import ssl
from collections.abc import Callable, Sequence
from typing import Protocol
from urllib.parse import unquote, urlsplit
from zlib import crc32

from mtad.config import Config
from mtad.dkim.canonical import BodyHash
from mtad.dkim.keys import Keys
from mtad.dkim.sign import sign_all
from mtad.dns.resolver import DnsTemporary, NoData, NoSuchName, Resolver
from mtad.events import Events
from mtad.mail import address as addresses
from mtad.mail import headers
from mtad.mail.envelope import Clock, Message, NewMessage, Peer, Recipient
from mtad.mail.ident import Ids
from mtad.outbound.policies import trusted
from mtad.outbound.route import Host, public
from mtad.tls import https, tlsrpt
from mtad.tls.contexts import TlsError
from mtad.tls.tlsrpt import Counted, Fault, Report, Tally

DAY_S = 86400
SPREAD_S = 4 * 3600  # reports go out within so long after midnight, each domain's at its own time
GIVEN_UP_DAYS = 3
AT_ONCE = 8
MAIL = "mailto:"


class ReportStore(Protocol):
    async def accept(self, new: NewMessage) -> str: ...

    async def count_tls(self, counted: Sequence[Counted]) -> None:
        """Add to what is counted. Durable."""

    async def tls_days(self, before: int) -> Sequence[tuple[int, str]]:
        """The days before this one that have something to report, with the domain."""

    async def tls_counted(self, day: int, domain: str) -> Sequence[Counted]: ...

    async def forget_tls(self, day: int, domain: str) -> None:
        """Durable."""


class TlsReports:
    def __init__(
        self,
        config: Config,
        store: ReportStore,
        resolver: Resolver,
        keys: Keys,
        events: Events,
        ids: Ids,
        clock: Clock,
        came_in: Callable[[float], None],
        port: int = 443,
    ) -> None:
        self._store = store
        self._keys = keys
        self._events = events
        self._ids = ids
        self._clock = clock
        self._came_in = came_in
        self._port = port
        self._tally = Tally()
        self.reload(config, resolver)

    def reload(self, config: Config, resolver: Resolver) -> None:
        self._config = config
        self._resolver = resolver
        self._context: ssl.SSLContext | None = None

    def seen(self, host: Host, sender_ip: str, fault: Fault | None) -> None:
        """What TLS came to on one connection."""
        need = host.tls
        if fault is not None:
            if fault.cause and fault is not need.fault:
                self._events.tls_failed(host.relay, fault.cause)
            if need.level != "may":
                self._events.tls_policy_failed(host.relay, need.origin, fault.result, fault.words, need.why)
        if need.report is not None and self._config.delivery.tls_reports:
            self._tally.add(int(self._clock() // DAY_S), need.report, host.name, sender_ip, host.address, fault)

    async def flush(self) -> None:
        """Keep what was counted. Raises StoreError: then it is kept in memory."""
        counted = self._tally.take()
        if not counted:
            return
        try:
            await self._store.count_tls(counted)
        except BaseException:
            self._tally.put_back(counted)
            raise

    async def send(self) -> int:
        """Report on the days that are over; how many reports went. Raises StoreError.

        A crash between report and forgetting repeats the report, under the same id.
        """
        now = self._clock()
        due = [
            (day, domain)
            for day, domain in await self._store.tls_days(int(now // DAY_S))
            if now >= (day + 1) * DAY_S + crc32(f"{self._config.hostname} {domain}".encode()) % SPREAD_S
        ]
        sent = 0
        for start in range(0, len(due), AT_ONCE):
            sent += sum(await asyncio.gather(*(self._report(*one) for one in due[start : start + AT_ONCE])))
        return sent

    # --- inside

    async def _report(self, day: int, domain: str) -> bool:
        """Report and forget, or forget what nobody asks for; what failed stays for the next time."""
        again = int(self._clock() // DAY_S) - day <= GIVEN_UP_DAYS
        records: tuple[bytes, ...] = ()
        try:
            records = await self._resolver.txt(f"_smtp._tls.{domain}")
        except (NoSuchName, NoData):
            pass
        except DnsTemporary:
            if again:
                return False
        reached = False
        targets = tlsrpt.report_targets(records) if self._config.delivery.tls_reports else ()
        if targets:
            contact = f"postmaster@{self._config.domains[0]}"
            counted = await self._store.tls_counted(day, domain)
            made = tlsrpt.report(domain, day, counted, self._config.hostname, contact)
            reached = await self._deliver(made, targets)
            if not reached and again:
                return False
        await self._store.forget_tls(day, domain)
        return reached

    async def _deliver(self, made: Report, targets: Sequence[str]) -> bool:
        """To every target; whether one of them has it."""
        reached = [await self._post(made, target) for target in targets if not target.startswith(MAIL)]
        to = _addresses(targets)
        if to:
            reached.append(await self._send(made, to))
        return any(reached)

    async def _send(self, made: Report, to: Sequence[str]) -> bool:
        keys = self._keys.keys(self._config.domains[0])
        if not keys:
            # Who gets reports believes only those that are signed (RFC 8460 3).
            why = f"there is no DKIM key of {self._config.domains[0]}: mtactl dkim generate"
            self._events.tls_report_failed(made.domain, ", ".join(to), why)
            return False
        now = self._clock()
        head, body = tlsrpt.mail(made, to, made.contact, headers.date(now))
        body_hash = BodyHash()
        body_hash.update(body)
        head = sign_all(keys, head, body_hash.digest(), int(now)) + head
        new_id = self._ids.new()
        message = Message(
            id=new_id,
            sender=made.contact,
            size_bytes=len(head) + len(body),
            accepted_at=now,
            expires_at=now + self._config.delivery.expire_s,
            peer=Peer("internal"),
            header_id=headers.message_id(head),
            subject=headers.subject(head),
            digest=hashlib.sha256(body + head).digest(),
            tls_optional=True,
        )
        recipients = tuple(
            Recipient(new_id, n, address, address, addresses.domain_of(address), next_at=now, notify="NEVER")
            for n, address in enumerate(to, 1)
        )
        await self._store.accept(NewMessage(message, recipients, head, body))
        self._came_in(message.accepted_at)
        self._events.tls_report_sent(made.domain, ", ".join(to), new_id)
        return True

    async def _post(self, made: Report, target: str) -> bool:
        try:
            url = urlsplit(target)
            host, port = url.hostname or "", url.port or self._port
            path = (url.path or "/") + (f"?{url.query}" if url.query else "")
            found = await self._resolver.addresses(host)
            if not self._config.delivery.allow_private_addresses:
                found = tuple(address for address in found if public(address))
            if self._context is None:
                self._context = await trusted(self._config)
            answer = await https.request(
                host,
                found,
                path,
                self._context,
                port=port,
                body=made.octets,
                media_type="application/tlsrpt+gzip",
            )
        except (DnsTemporary, NoSuchName, NoData, TlsError, https.HttpsError, ValueError) as error:
            self._events.tls_report_failed(made.domain, target, str(error))
            return False
        if not 200 <= answer.status < 300:
            self._events.tls_report_failed(made.domain, target, f"answered {answer.status}")
            return False
        self._events.tls_report_sent(made.domain, target, "")
        return True


def _addresses(targets: Sequence[str]) -> tuple[str, ...]:
    """Of the "mailto:" targets those that are addresses; without the options behind them."""
    found = []
    for target in targets:
        if target.startswith(MAIL):
            text = unquote(target.removeprefix(MAIL).partition("?")[0].partition("!")[0])
            try:
                address = addresses.parse(text, utf8=False)
            except addresses.AddressError:
                continue
            found.append(address)
    return tuple(dict.fromkeys(found))
