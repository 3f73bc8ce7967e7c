"""The octets of mails where the store's loop has them: the last ones in memory, the large ones as files, each judged
before it is sent. What a body is in the database: mtad.queue.cycle."""

import asyncio
import hashlib
import os
import time
from collections.abc import Sequence

from mtad.mail.envelope import Content, NewMessage
from mtad.queue import files
from mtad.queue.contents import Contents, Sound
from mtad.queue.cycle import Settled
from mtad.queue.store import Damaged, Settlement, StoreError


class Bodies:
    def __init__(self, spool: str) -> None:
        self._spool = spool
        self._contents = Contents()
        self._sound = Sound()

    def check_place(self, new: NewMessage) -> None:
        """StoreError when a body in a file lies where no sweep would look for it."""
        if isinstance(new.body, str) and new.body != f"{self._spool}/{new.message.id}":
            raise StoreError(f"the body of message {new.message.id} lies in a wrong place")

    def remember(self, new: NewMessage) -> None:
        """It was stored just now."""
        if isinstance(new.body, str):
            self._sound.note(new.message.id, time.monotonic())
        self._contents.put(new.message.id, Content(new.head, new.body))

    def forget(self, message_id: str) -> None:
        """It is another one a moment from now, or none."""
        self._contents.drop(message_id)

    def settled(self, settlement: Settlement, settled: Settled) -> bool:
        """Take notice of it. Whether its file is to be deleted."""
        if settled.done:
            for new in settlement.spawn:
                self.remember(new)
        if settled.closed:
            self._contents.drop(settlement.job.message.id)
            self._sound.drop(settlement.job.message.id)
        return settled.file

    async def delete(self, message_ids: Sequence[str]) -> None:
        """Their files. Not durable: a sweep would find what comes back."""
        await asyncio.to_thread(files.delete, self._spool, message_ids)

    def kept(self, message_id: str) -> Content | None:
        """What is still in memory."""
        return self._contents.get(message_id)

    async def judged(self, message_id: str, found: tuple[bytes, bytes | None, int, bytes] | None) -> Content:
        """What the database has of it (mtad.queue.operate.Operate.body), with its file. Damaged, or StoreError."""
        if found is None:
            raise Damaged(f"message {message_id} has no body")
        head, data, size_bytes, digest = found
        if data is None:
            return Content(head, await self._sound_file(message_id, head, size_bytes, digest))
        if len(head) + len(data) != size_bytes or (digest and digest_of(head, data) != digest):
            raise Damaged(f"the body of message {message_id} is damaged")
        return Content(head, data)

    async def _sound_file(self, message_id: str, head: bytes, size_bytes: int, digest: bytes) -> str:
        """The path of a body file that is what it was when it was accepted."""
        path, now = f"{self._spool}/{message_id}", time.monotonic()
        try:
            have = os.stat(path, follow_symlinks=False).st_size
            if have != size_bytes - len(head):
                raise Damaged(f"the body of message {message_id} is damaged: {have} octets in {path}")
            if digest and not self._sound.known(message_id, now):
                if await asyncio.to_thread(files.digest, path, head) != digest:
                    raise Damaged(f"the body of message {message_id} is damaged: {path} was changed")
                self._sound.note(message_id, now)
        except FileNotFoundError:
            raise Damaged(f"the body of message {message_id} is gone: there is no {path}") from None
        except OSError as error:
            raise StoreError(f"the body of message {message_id} cannot be read: {error.strerror}") from None
        return path


def size_of(new: NewMessage) -> int:
    """Octets that go into the database."""
    return len(new.head) + (0 if isinstance(new.body, str) else len(new.body))


def digest_of(head: bytes, body: bytes) -> bytes:
    """As in Message.digest."""
    digest = hashlib.sha256(body)
    digest.update(head)
    return digest.digest()
