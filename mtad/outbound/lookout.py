"""When the queue is looked at next: at once when somebody says so, else at the earliest time that anybody named.

A look finds out what will be due and when, but not of what is leased: that comes back later, due at a time of its own.
Who gives it back names that time here. So nothing waits for a look that was planned without knowing of it.
"""

import asyncio
import math

from mtad.mail.envelope import Clock


class Lookout:
    """For one who looks, in turns of `begin`, a look, and `rest`; and for many who `wake` it or tell what is `due`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._woken = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None
        self._rings_at = math.inf  # by the loop's clock, which is never set

    def wake(self) -> None:
        """Look now. Cheap, safe to call for every mail; not forgotten when it comes in the middle of a look."""
        self._woken.set()

    def due(self, at: float) -> None:
        """Something is due then: look at that time, if not before. A time of the past is now."""
        loop = asyncio.get_running_loop()
        wait_s = max(at - self._clock(), 0.0)
        if loop.time() + wait_s >= self._rings_at:
            return
        self._silence()
        self._rings_at = loop.time() + wait_s
        self._alarm = loop.call_later(wait_s, self.wake)

    def begin(self) -> None:
        """A look begins: what was said before is heeded by it."""
        self._woken.clear()
        self._silence()

    async def rest(self, wait_s: float) -> None:
        """After a look, for so long at most."""
        self.due(self._clock() + wait_s)
        await self._woken.wait()
        self._silence()

    def _silence(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._rings_at = math.inf
