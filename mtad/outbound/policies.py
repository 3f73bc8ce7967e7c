"""MTA-STS policies of other domains: fetched when mail first needs one, kept in the store, renewed before they end."""

import asyncio
import math
import ssl
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol, get_args

from mtad.config import Config
from mtad.dns.resolver import DnsTemporary, NoData, NoSuchName, Resolver
from mtad.events import Events
from mtad.mail.envelope import Clock
from mtad.outbound.route import public
from mtad.queue.store import StoreError
from mtad.tls import https, mta_sts
from mtad.tls.contexts import TlsError, client_context
from mtad.tls.mta_sts import Known, Malformed, Mode
from mtad.tls.tlsrpt import Fault

POLICIES_MAX = 10_000  # in memory and in the store; the one that was used longest ago goes
FAILURES_MAX = 10_000
AGAIN_S = 300.0  # after a fetch that failed (RFC 8461 3.3)
ANOTHER_S = 60.0  # after any fetch, whatever id is announced by then: ids may be made up for each question
USED_S = 30 * 86400.0  # what no mail asked for in so long is not renewed
RENEWED_AT_ONCE = 4
FETCH_S = 60.0
PATH = "/.well-known/mta-sts.txt"


class PolicyStore(Protocol):
    async def load_policies(self) -> Sequence[Known]: ...

    async def save_policies(self, policies: Sequence[Known]) -> None:
        """Add them, or replace those of the same domains. Durable."""

    async def delete_policies(self, domains: Sequence[str]) -> None: ...


def _sound(one: Known) -> bool:
    return one.policy.mode in get_args(Mode) and math.isfinite(one.fetched_at) and math.isfinite(one.used_at)


class Policies:
    """`port` is that of HTTPS."""

    def __init__(
        self, config: Config, resolver: Resolver, store: PolicyStore, events: Events, clock: Clock, port: int = 443
    ) -> None:
        self._store = store
        self._events = events
        self._clock = clock
        self._port = port
        self._known: OrderedDict[str, Known] = OrderedDict()  # the one used last is the last
        self._failed: OrderedDict[str, tuple[float, str, Fault]] = OrderedDict()  # when, for which id, and why
        self._fetching: dict[str, asyncio.Task[Known | Fault]] = {}
        self._saving: set[asyncio.Task[None]] = set()
        self.reload(config, resolver)

    def reload(self, config: Config, resolver: Resolver) -> None:
        self._config = config
        self._resolver = resolver
        self._context: ssl.SSLContext | None = None

    async def load(self) -> None:
        """Those of before. Raises StoreError."""
        found = [one for one in await self._store.load_policies() if _sound(one)]  # what is not is fetched again
        self._known = OrderedDict((one.domain, one) for one in sorted(found, key=lambda one: one.used_at))

    def list(self) -> Sequence[Known]:
        return sorted(self._known.values(), key=lambda one: one.domain)

    async def policy(self, domain: str) -> Known | Fault | None:
        """What holds for this domain now. A Fault: it announces a policy, but none could be had, so none holds.

        A policy that was fetched holds for as long as it said, whatever DNS and its server say since (RFC 8461 5.1).
        """
        announced = await self._announced(domain)
        now = self._clock()
        known = self._known.get(domain)
        if known is not None and not known.holds(now):
            known = None
        if known is not None and (announced in ("", known.id) or now - known.fetched_at < ANOTHER_S):
            self._known[domain] = replace(known, used_at=now)
            self._known.move_to_end(domain)
            return known
        if not announced:
            return None
        found = await self._fetch(domain, announced)
        return known if isinstance(found, Fault) and known is not None else found

    async def renew(self) -> None:
        """Fetch again what is in use and no longer fresh; forget what is over. Raises StoreError."""
        now = self._clock()
        over = [one.domain for one in self._known.values() if not one.holds(now)]
        for domain in over:
            del self._known[domain]
        if over:
            await self._store.delete_policies(over)
        stale = [one for one in self._known.values() if one.stale(now) and now - one.used_at < USED_S]
        for start in range(0, len(stale), RENEWED_AT_ONCE):
            await asyncio.gather(*(self._renew(one) for one in stale[start : start + RENEWED_AT_ONCE]))

    async def close(self) -> None:
        """Wait for what is being written; give up what is being fetched."""
        for task in self._fetching.values():
            task.cancel()
        await asyncio.gather(*self._fetching.values(), *self._saving, return_exceptions=True)

    # --- inside

    async def _renew(self, known: Known) -> None:
        await self._fetch(known.domain, await self._announced(known.domain) or known.id)

    async def _announced(self, domain: str) -> str:
        """The id in DNS; "" when there is none that can be understood, or no answer."""
        try:
            return mta_sts.record_id(await self._resolver.txt(f"_mta-sts.{domain}"))
        except (DnsTemporary, NoSuchName, NoData, Malformed):
            return ""

    async def _fetch(self, domain: str, policy_id: str) -> Known | Fault:
        """One fetch at a time for a domain, and none soon after one that failed."""
        failed = self._failed.get(domain)
        if failed is not None:
            at, failed_id, fault = failed
            if 0 <= self._clock() - at < (AGAIN_S if policy_id == failed_id else ANOTHER_S):
                return fault
        task = self._fetching.get(domain)
        if task is None:
            task = asyncio.create_task(self._fetched(domain, policy_id))
            self._fetching[domain] = task
            task.add_done_callback(lambda _: self._fetching.pop(domain, None))
        return await asyncio.shield(task)

    async def _fetched(self, domain: str, policy_id: str) -> Known | Fault:
        got = await self._get(domain)
        now = self._clock()
        if isinstance(got, Fault):
            self._failed[domain] = (now, policy_id, got)
            self._failed.move_to_end(domain)
            while len(self._failed) > FAILURES_MAX:
                self._failed.popitem(last=False)
            self._events.policy_failed(domain, got.result, got.cause or got.words)
            return got
        self._failed.pop(domain, None)
        before = self._known.get(domain)
        known = Known(domain, policy_id, got, now, before.used_at if before is not None else now)
        if before is None or before.policy != got:
            self._events.policy_fetched(domain, policy_id, got.mode, got.max_age_s)
        self._known[domain] = known
        gone = [self._known.popitem(last=False)[0]] if len(self._known) > POLICIES_MAX else []
        saving = asyncio.create_task(self._save(known, gone))
        self._saving.add(saving)
        saving.add_done_callback(self._saving.discard)
        return known

    async def _save(self, known: Known, gone: Sequence[str]) -> None:
        """It holds already; written down, it will after a restart too."""
        try:
            await self._store.save_policies([known])
            if gone:
                await self._store.delete_policies(gone)
        except StoreError as error:
            self._events.store_trouble(str(error))

    async def _get(self, domain: str) -> mta_sts.Policy | Fault:
        host = f"mta-sts.{domain}"
        try:
            addresses = await self._resolver.addresses(host)
            if not self._config.delivery.allow_private_addresses:
                addresses = tuple(address for address in addresses if public(address))
            context = await self._trusted()
            answer = await https.request(
                host,
                addresses,
                PATH,
                context,
                port=self._port,
                max_bytes=mta_sts.POLICY_MAX_BYTES,
                timeout_s=FETCH_S,
            )
        except (DnsTemporary, NoSuchName, NoData) as error:
            return Fault("sts-policy-fetch-error", f"{host} has no address", str(error))
        except TlsError as error:
            return Fault("sts-policy-fetch-error", f"{host} could not be asked", str(error))
        except https.HttpsError as error:
            if error.certificate:
                return Fault("sts-webpki-invalid", f"The certificate of {host} cannot be verified", str(error))
            return Fault("sts-policy-fetch-error", f"{host} gave no policy", str(error))
        if answer.status != 200:
            return Fault("sts-policy-fetch-error", f"{host} answered {answer.status}")
        if answer.media_type != "text/plain":
            return Fault("sts-policy-invalid", f"The policy of {host} is not text/plain", answer.media_type)
        try:
            return mta_sts.parse_policy(answer.body)
        except Malformed as error:
            return Fault("sts-policy-invalid", f"The policy of {host} is malformed: {error}")

    async def _trusted(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = await trusted(self._config)
        return self._context


async def trusted(config: Config) -> ssl.SSLContext:
    """The context of an HTTPS client. In a thread: it reads the authorities."""
    return await asyncio.to_thread(partial(client_context, "verify", ca_file=config.tls.server_ca))
