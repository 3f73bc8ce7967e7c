"""What happened goes to the store now and then: never on the way of a mail, and nothing when nothing happened."""

from collections.abc import Mapping

from mtad.events import Events
from mtad.mail.envelope import Clock
from mtad.queue.history import TALLIED, HistoryStore, Tally

# Which counters a tally sums up: how their names begin, and what must be in their labels.
_SUMS: Mapping[str, tuple[str, str]] = {
    "accepted": ("mtad_accepted_recipients_total", ""),
    "delivered": ("mtad_delivery_attempts_total", 'result="delivered"'),
    "deferred": ("mtad_delivery_attempts_total", 'result="deferred"'),
    "failed": ("mtad_delivery_attempts_total", 'result="failed"'),
    "refused": ("mtad_refused_total", ""),
    "sign_in_failed": ("mtad_auth_total", 'result="failed"'),
}


def sums(counters: Mapping[str, int]) -> dict[str, int]:
    """What is tallied, of all counters. Pure."""
    totals = dict.fromkeys(TALLIED, 0)
    for key, count in list(counters.items()):
        for name, (family, label) in _SUMS.items():
            if key.startswith(family) and label in key:
                totals[name] += count
    return totals


class Chronicle:
    def __init__(self, store: HistoryStore, events: Events, clock: Clock) -> None:
        self._store = store
        self._events = events
        self._clock = clock
        self._counted = sums(events.counters)

    async def flush(self) -> None:
        """Store what was not yet. StoreError: it is tried again the next time."""
        events, counted = self._events.unkept(), sums(self._events.counters)
        if not events and counted == self._counted:
            return
        more = {name: counted[name] - self._counted[name] for name in TALLIED}
        await self._store.keep_events(events, Tally(int(self._clock()), **more))
        self._events.kept(len(events))
        self._counted = counted
