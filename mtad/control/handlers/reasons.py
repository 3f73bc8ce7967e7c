"""Why mail waits that has no reply of its own to tell: one look at the sites, for a mail or for a whole listing."""

import os
import shlex
from collections.abc import Sequence
from functools import lru_cache

from mtad.control.admin import Admin
from mtad.control.handlers import rows, waiting
from mtad.control.handlers.waiting import Around
from mtad.outbound.site import Site
from mtad.queue.store import Why

WHYS_MAX = 4096


class Reasons:
    """As things stood at `now`. `busy` holds for all that is due, "" when it could be tried."""

    def __init__(self, admin: Admin, now: float) -> None:
        self._sites, self._now = admin.sites, now
        self._start = start(admin)
        self._running, self._workers = sum(site.running for site in admin.sites.every()), admin.config.delivery.workers
        self._why = lru_cache(WHYS_MAX)(self._of)  # a long listing asks for the same ones page by page
        busy = waiting.busy(Around(busy=self._running, workers=self._workers))
        self.busy = "" if busy is None else busy.words

    def __bool__(self) -> bool:
        """Whether there may be more to say of mail that waits."""
        return self._sites.closes_any or any(map(self._crowded, self._sites.every()))

    def _crowded(self, site: Site) -> bool:
        slot_at = self._sites.slot_at(site)
        return slot_at > self._now or (site.running >= self._sites.room(site, self._now) > 0 and not site.local)

    def around(self, domain: str, user: str) -> Around:
        """How the site of a recipient is served, and how busy we are."""
        site = self._sites.seen(domain)
        closed = self._sites.closed(site or Site(domain), domain, user, self._now)
        if site is None or site.local:
            return Around(closed, busy=self._running, workers=self._workers, start=self._start)
        room, slot_at = self._sites.room(site, self._now), self._sites.slot_at(site)
        return Around(closed, site.name, site.running, room, slot_at, self._running, self._workers, self._start)

    def of(self, pairs: Sequence[tuple[str, str]]) -> list[Why]:
        """What is to be told of the mail for these domains, by these users."""
        return [one for domain, user in pairs if (one := self._why(domain, user)).shut or one.due]

    def _of(self, domain: str, user: str) -> Why:
        around = self.around(domain, user)
        if around.closed is not None:
            return Why(domain, user, rows.reason(around.closed.reply), until=around.closed.until)
        crowded = waiting.crowded(around, self._now)
        return Why(domain, user, due="" if crowded is None else crowded.words)


def start(admin: Admin) -> str:
    """The command that starts the daemon, "" while it runs."""
    if not admin.offline:
        return ""
    paths = admin.config.paths
    root = os.path.dirname(paths.config)
    return f"mtad run --root {shlex.quote(root)}" if paths.data == f"{root}/data" else "systemctl start mtad"
