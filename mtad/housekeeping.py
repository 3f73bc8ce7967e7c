"""What the daemon does again and again by itself: forget what is over, see to its certificates, show that it lives."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from mtad import service
from mtad.accounts.blocks import Blocks
from mtad.accounts.suppressions import Suppressions
from mtad.config import Config, Tls
from mtad.events import Events
from mtad.mail.envelope import Clock
from mtad.outbound.suspensions import Suspensions
from mtad.queue.store import Store, StoreError
from mtad.tls import certificates
from mtad.tls.certificates import Certificate
from mtad.tls.contexts import ServerContext, server_context

EXPIRY_TOLD_EVERY_S = 86400.0


class Housekeeping:
    def __init__(
        self,
        store: Store,
        blocks: Blocks,
        suppressions: Suppressions,
        suspensions: Suspensions,
        events: Events,
        clock: Clock,
    ) -> None:
        self._store = store
        self._blocks = blocks
        self._suppressions = suppressions
        self._suspensions = suspensions
        self._events = events
        self._clock = clock

    async def sweep(self, config: Config) -> None:
        """Forget what is kept no longer."""
        keep = config.keep
        await self._store.sweep(self._clock(), keep.history_s, keep.trash_s, audit_s=keep.audit_s)
        await self._blocks.sweep()
        await self._suppressions.sweep(config.delivery)
        for over in await self._suspensions.sweep():
            self._events.resumed(over.kind, over.value, "its time is over")

    async def every(self, interval_s: float, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """At once and then again and again; a failure waits for the next turn."""
        while True:
            try:
                await work()
            except StoreError as error:
                self._events.store_trouble(str(error))
            except Exception as error:  # noqa: BLE001  (the daemon lives on)
                self._events.internal_error(work.__name__, error)
            await asyncio.sleep(interval_s)

    async def watchdog(self) -> None:
        """Alive means that the loop turns and the writer answers."""
        interval_s = service.watchdog_interval_s()
        while interval_s > 0:
            with contextlib.suppress(StoreError, TimeoutError):
                async with asyncio.timeout(interval_s):
                    await self._store.next_due(self._clock())
                    service.notify("WATCHDOG=1")
            await asyncio.sleep(interval_s)


class OwnCertificates:
    """The files of our certificates: read, looked at for newer ones, and told of before they end."""

    def __init__(self, events: Events, clock: Clock) -> None:
        self.problem = ""  # why those that were to be read again are not in use
        self._events = events
        self._clock = clock
        self._files: certificates.Stamps = ()  # as they were when they were last read
        self._told_at = clock()  # at the start, the settings tell it

    def read(self, tls: Tls) -> ServerContext | None:
        """None: there are none. Blocking; raises TlsError."""
        self._files = certificates.stamps(certificates.files(tls))
        return server_context(tls)

    async def renewed(self, tls: Tls) -> bool:
        """Whether the files are others since, and nobody is writing them now."""
        seen = await asyncio.to_thread(certificates.stamps, certificates.files(tls))
        return certificates.renewed(self._files, seen, self._clock())

    def tell(self, used: Sequence[Certificate]) -> None:
        """Once a day, which ones end soon."""
        now = self._clock()
        if abs(now - self._told_at) >= EXPIRY_TOLD_EVERY_S:
            self._told_at = now
            for sentence in certificates.expiring(used, now):
                self._events.warned(sentence)
