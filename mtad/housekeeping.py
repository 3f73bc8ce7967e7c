"""What the daemon does again and again by itself: forget what is over, and show that it is alive."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from mtad import service
from mtad.accounts.blocks import Blocks
from mtad.accounts.suppressions import Suppressions
from mtad.config import Config
from mtad.events import Events
from mtad.mail.envelope import Clock
from mtad.outbound.suspensions import Suspensions
from mtad.queue.store import Store, StoreError


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
