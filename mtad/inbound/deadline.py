"""How long a peer may take, with one timer for a connection.

The deadline moves at each step of the peer, and mostly away; so the timer is seldom set anew. It fires rarely, looks at
the deadline, and sleeps on.
"""

import asyncio
import math
from collections.abc import Callable

LOOK_S = 10.0  # the longest sleep of the timer, so short that deadlines are seldom nearer


class Deadline:
    """Calls `expired` when the time is over. Times are the loop's."""

    __slots__ = ("_ends_at", "_expired", "_loop", "_timer", "_timer_at", "at")

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[], None]) -> None:
        self._loop = loop
        self._expired = expired
        self.at = math.inf
        self._ends_at = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def end(self, seconds: float) -> None:
        """From now on, nothing that is allowed goes beyond this."""
        self._ends_at = self._loop.time() + seconds

    def allow(self, seconds: float) -> None:
        """So long for the next step."""
        self.at = min(self._loop.time() + seconds, self._ends_at)
        if self._timer is None or self.at < self._timer_at:
            self._sleep()

    def lift(self) -> None:
        """There is none until the next `allow`."""
        self.at = math.inf

    def cancel(self) -> None:
        """For good. Who is told is let go, so that nobody waits for the garbage collector."""
        self._expired = _nobody
        if self._timer is not None:
            self._timer.cancel()

    def _sleep(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = min(self.at, self._loop.time() + LOOK_S)
        self._timer = self._loop.call_at(self._timer_at, self._tick)

    def _tick(self) -> None:
        if self._loop.time() < self.at:
            self._sleep()
        else:
            self._expired()


def _nobody() -> None:
    pass
