"""Signatures beside the event loop: RSA takes most of a millisecond, in which other threads may run.

What comes up while all threads sign waits and is handed over together, so that a thread is not woken for each mail.
"""

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from mtad.dkim.keys import SigningKey
from mtad.dkim.sign import sign_all

THREADS_MAX = 4
PART_MAX = 8  # mails that a thread signs before the first of them goes on


@dataclass(frozen=True, slots=True, eq=False)
class _Mail:
    keys: Sequence[SigningKey]
    head: bytes
    body_hash: bytes
    now: int
    signed: asyncio.Future[bytes]


class Signer:
    """Belongs to one event loop. Its threads start with the first mail."""

    def __init__(self, threads: int = 0) -> None:
        """0: one for each processor that the event loop leaves."""
        self._threads = threads or min(max((os.cpu_count() or 1) - 1, 1), THREADS_MAX)
        self._executor = ThreadPoolExecutor(self._threads, "dkim")
        self._waiting: deque[_Mail] = deque()
        self._busy = 0

    async def sign_all(self, keys: Sequence[SigningKey], head: bytes, body_hash: bytes, now: int) -> bytes:
        """As `sign.sign_all`, whose bugs it raises. A caller that is cancelled is forgotten."""
        mail = _Mail(keys, head, body_hash, now, asyncio.get_running_loop().create_future())
        self._waiting.append(mail)
        self._start()
        return await mail.signed

    def close(self) -> None:
        """When nobody waits any more."""
        self._executor.shutdown(wait=False)

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting and self._busy < self._threads:
            part = [self._waiting.popleft() for _ in range(min(len(self._waiting), PART_MAX))]
            self._busy += 1
            self._executor.submit(self._sign, part, loop)

    def _sign(self, part: Sequence[_Mail], loop: asyncio.AbstractEventLoop) -> None:
        """In a thread."""
        outcomes: list[tuple[_Mail, bytes | Exception]] = []
        for mail in part:
            try:
                outcomes.append((mail, sign_all(mail.keys, mail.head, mail.body_hash, mail.now)))
            except Exception as error:  # noqa: BLE001  (goes to whoever asked)
                outcomes.append((mail, error))
        with contextlib.suppress(RuntimeError):  # the loop is gone, and with it all who waited
            loop.call_soon_threadsafe(self._signed, outcomes)

    def _signed(self, outcomes: Sequence[tuple[_Mail, bytes | Exception]]) -> None:
        self._busy -= 1
        self._start()
        for mail, outcome in outcomes:
            if mail.signed.done():  # cancelled meanwhile
                continue
            if isinstance(outcome, bytes):
                mail.signed.set_result(outcome)
            else:
                mail.signed.set_exception(outcome)
