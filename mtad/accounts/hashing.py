"""Threads for what passwords cost: few of them, for each works in memory of its own, and few who wait."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from mtad.mail.reply import Refused, Reply

THREADS = 2
WAITING_MAX = 64  # who wait for a thread; more are told to come back

_Result = TypeVar("_Result")


class HashingThreads:
    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="passwords")
        self._waiting = 0

    async def run(self, work: Callable[[], _Result]) -> _Result:
        """Do it there. Raises Refused (454) while too many wait."""
        if self._waiting >= WAITING_MAX:
            raise Refused(Reply(454, "4.7.0", "Too many sign-ins at this moment, please try again later"))
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """End the threads. What still waits is cancelled."""
        self._pool.shutdown(wait=False, cancel_futures=True)
