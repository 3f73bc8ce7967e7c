"""The sites that mail goes to: how each is served, and why one is not served now.

State, bounded, and the little of it that a restart must not forget. The rules are in `mtad.queue.pace`.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import chain

from mtad.config import Config, SiteRule
from mtad.events import Events
from mtad.mail.classify import STAGE_OPERATOR
from mtad.mail.envelope import Clock
from mtad.mail.reply import Reply
from mtad.mail.text import clean
from mtad.outbound.site import Closed, Site, restored, stored
from mtad.outbound.sitemap import SiteMap
from mtad.outbound.suspensions import Suspensions
from mtad.queue import pace
from mtad.queue.pace import Pace, Sign, Warmup
from mtad.queue.retry import JITTER
from mtad.queue.sitestore import SiteStore, StoredSite
from mtad.queue.store import StoreError

TROUBLE_S = 2.0
SUSPENDED = "4.3.2"
BROKEN = "4.4.1"
ENOUGH = "4.7.0"


class Sites(SiteMap):
    """All sites of the running daemon."""

    def __init__(
        self,
        config: Config,
        store: SiteStore,
        suspensions: Suspensions,
        events: Events,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self.suspensions = suspensions
        self.changed: Callable[[], None] = lambda: None  # called when a site was reset
        super().__init__(config, clock)
        self._store = store
        self._events = events
        self._rng = rng
        self._dirty: dict[str, None] = {}
        self._changed = asyncio.Event()

    async def load(self) -> None:
        """What was known before the restart."""
        now = self._clock()
        for row in await self._store.load_sites():
            site = restored(row, now)
            if site is None:
                continue
            self._sites[site.name] = site
            self._bind(site, site.domains)
            if site.pace.open:
                self._shut[site.name] = site

    async def keep(self) -> None:
        """Write what changed, for as long as the task lives."""
        while True:
            await self._changed.wait()
            try:
                await self.save()
            except StoreError as error:
                self._events.store_trouble(str(error))
                await asyncio.sleep(TROUBLE_S)

    async def save(self) -> None:
        """What changed since the last time, durably. Raises StoreError; it is still to be written then."""
        self._changed.clear()
        names = list(self._dirty)
        rows = [StoredSite(name, stored(self._sites.get(name))) for name in names]
        self._dirty.clear()
        try:
            if rows:
                await self._store.save_sites(rows)
        except StoreError:
            self._dirty.update(dict.fromkeys(names))
            self._changed.set()
            raise

    # --- how much

    def ceiling(self, site: Site) -> int:
        rule = site.rule
        return rule.connections if rule is not None and rule.connections else self._config.delivery.max_per_domain

    def schedule(self, domain: str) -> Sequence[float]:
        """The pauses between tries."""
        return self.schedule_of(self.of(domain)) if self._config.delivery.sites else self._config.delivery.retry_s

    def schedule_of(self, site: Site) -> Sequence[float]:
        rule = site.rule
        return rule.retry_s if rule is not None and rule.retry_s else self._config.delivery.retry_s

    def left_today(self, site: Site, now: float) -> int:
        """Messages that a warm-up leaves for today; pace.QUOTA_MAX without one."""
        rule = site.rule
        return self._left(site, rule, now) if rule is not None and rule.per_day else pace.QUOTA_MAX

    def longest_wait_s(self) -> float:
        """The longest of all such pauses."""
        delivery = self._config.delivery
        return max(chain(delivery.retry_s, *(rule.retry_s for rule in delivery.sites)))

    def furthest_s(self) -> float:
        """How far ahead the next try can be by any of them."""
        return (1 + 2 * JITTER) * self.longest_wait_s()

    def room(self, site: Site, now: float) -> int:
        """How many jobs may be at work there."""
        if site.local:
            return self._config.delivery.max_per_domain
        most = pace.room(site.pace, now, self.ceiling(site))
        rule = site.rule
        if rule is not None and rule.per_day and most:
            most = min(most, site.running + self._left(site, rule, now))
        return most

    def slot_at(self, site: Site) -> float:
        """When its rate lets the next mail go; 0 without one."""
        return site.next_slot_at if site.rule is not None and site.rule.rate.count else 0.0

    def _left(self, site: Site, rule: SiteRule, now: float) -> int:
        """Messages that the warm-up leaves for today."""
        site.warmup = pace.today(site.warmup, now)
        return max(pace.quota(rule.per_day, rule.growth, site.warmup.step) - site.warmup.sent, 0)

    def begin(self, site: Site, now: float) -> None:
        """A job goes to work there."""
        site.running += 1
        rule = site.rule
        if rule is None or site.local:
            return
        if rule.rate.count:
            site.next_slot_at = max(site.next_slot_at, now) + pace.spacing_s(rule.rate)
        if rule.per_day:
            warmup = pace.today(site.warmup, now)
            site.warmup = Warmup(warmup.day, warmup.sent + 1, warmup.step)
            self._touch(site)
            if not self._left(site, rule, now):
                self._shut[site.name] = site
                if site.told != warmup.day:
                    site.told = warmup.day
                    self._events.warmup_reached(site.name, site.warmup.sent)

    def cancel(self, site: Site) -> None:
        """What `begin` said did not come to anything that the site noticed."""
        site.running -= 1
        self._uncount(site)

    def end(self, site: Site, replies: list[Reply], now: float) -> None:
        """A job is done there, with these replies."""
        site.running -= 1
        if site.local:
            return
        sign, reply = pace.weightiest(replies)
        if sign is not Sign.WORKS:
            self._uncount(site)
        before = site.pace
        cause, stated = ("", 0.0) if reply is None or sign is Sign.WORKS else (_cause(reply), pace.stated_s(reply))
        site.pace = after = pace.after(before, sign, now, self.ceiling(site), self._rng, cause, stated)
        if after is before:
            return
        if sign is Sign.BLOCKED:
            self._events.site_blocked(site.name, cause)
        if after.open:
            self._shut[site.name] = site
            self._touch(site)
            if after.probe_at != before.probe_at:
                self._events.breaker_opened(site.name, after.cause, after.seen, after.probe_at - now)
        elif before.open:
            self._touch(site)
            self._events.breaker_closed(site.name, now - before.opened_at)

    def reset(self, site: Site) -> None:
        """Forget what was learnt of a site, not what was sent to it today."""
        self._forget(site)
        self.changed()

    def reopen(self) -> int:
        """Close all breakers: somebody wants mail tried now. How many were open."""
        opened = [site for site in self._shut.values() if site.pace.open]
        for site in opened:
            self._forget(site)
        if opened:
            self.changed()
        return len(opened)

    def set_back(self, now: float) -> None:
        """The clock was set back: nothing waits for a time that was near when it was wrong."""
        for site in self._sites.values():
            one, rule = site.pace, site.rule
            if one.open:
                probe_at = min(one.probe_at, now + pace.STATED_MAX_S)
                site.pace = replace(one, opened_at=min(one.opened_at, now), probe_at=probe_at)
                self._touch(site)
            if rule is not None:
                site.next_slot_at = min(site.next_slot_at, now + pace.spacing_s(rule.rate))

    def _forget(self, site: Site) -> None:
        if site.pace.open:
            self._events.breaker_closed(site.name, self._clock() - site.pace.opened_at)
        site.pace = Pace()
        site.next_slot_at = 0.0
        self._touch(site)

    def _uncount(self, site: Site) -> None:
        if site.rule is not None and site.rule.per_day and site.warmup.sent:
            site.warmup = Warmup(site.warmup.day, site.warmup.sent - 1, site.warmup.step)
            self._touch(site)

    def _touch(self, site: Site) -> None:
        self._dirty[site.name] = None
        self._changed.set()

    # --- why not

    def closed(self, site: Site, domain: str, user: str, now: float) -> Closed | None:
        """Why mail of this user for this domain may not go to its site now."""
        one = self.suspensions.of(domain, site.names, user)
        if one is not None:
            what = {"user": "Mail of this user is", "site": "Mail to this site is", "domain": "Mail to this domain is"}
            reason = f": {one.reason}" if one.reason else ""
            words = f"{what[one.kind]} suspended{reason}"
            reply = Reply(451, SUSPENDED, words, stage=STAGE_OPERATOR, cause=f"by {one.made_by}")
            return Closed("suspended", one.until_at, reply, of_user=one.kind == "user")
        if site.local:
            return None
        if site.pace.open and now < site.pace.probe_at:
            words = clean(f"{site.pace.cause} (no mail goes to the site for now)", 500)
            return Closed("broken", site.pace.probe_at, Reply(451, BROKEN, words))
        rule = site.rule
        if rule is not None and rule.per_day and not self._left(site, rule, now):
            words = f"The {site.warmup.sent} mails that may go to this site today were sent"
            return Closed("warm-up", pace.next_day(now), Reply(451, ENOUGH, words))
        return None

    @property
    def closes_any(self) -> bool:
        """Whether there may be mail that may not go to its site now."""
        return bool(self._shut or self.suspensions)

    def why_not(self, domain: str, user: str, now: float) -> Closed | None:
        """The same for mail that waits in the queue, as far as the site of its domain is known."""
        if not self.closes_any:
            return None
        return self.closed(self.seen(domain) or Site(domain), domain, user, now)

    def closed_domains(self, now: float) -> set[str]:
        """The domains that nothing is to be leased for, as far as their sites are known."""
        found = self.suspensions.domains()
        suspended = self.suspensions.names()
        if suspended:
            for site in self._sites.values():
                if not suspended.isdisjoint(site.names):
                    found |= site.domains
        for name, site in list(self._shut.items()):
            if self.closed(site, "", "", now) is not None:
                found |= site.domains
            elif not site.pace.open:
                del self._shut[name]
        return found

    # --- for operators

    def every(self) -> Iterable[Site]:
        """All, those of this machine too."""
        return self._sites.values()

    def all(self) -> Sequence[Site]:
        """By name; those of this machine are none."""
        return [site for _, site in sorted(self._sites.items()) if not site.local and (site.hosts or site.pace.open)]


def _cause(reply: Reply) -> str:
    """What the site said, its code first; our own words have none, so that they do not look like a reply."""
    return clean((str(reply) if reply.host else reply.text).replace("\n", " "), pace.CAUSE_MAX)
