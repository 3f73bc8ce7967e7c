"""Where the octets of a mail wait until it is accepted: in memory, beyond INLINE_MAX_BYTES in a file of `data/queue`.

Every octet is looked at once: the body is hashed for the digest, and for DKIM where it will be signed, on its way in.
"""

import asyncio
import errno
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mtad.dkim.keys import SigningKey
from mtad.dkim.sign import BodyHash
from mtad.mail import headers
from mtad.mail.digest import feed
from mtad.mail.reply import LOCAL_ERROR, Refused, Reply
from mtad.queue.files import INLINE_MAX_BYTES, BodyWriter

_CHUNKS_MAX = 256

_MAILBOX_LINE = re.compile(rb">?From (?![ \t]*:)")  # "From : a@b.test" is a field (RFC 5322 4.5)

HEADER_TOO_BIG = Reply(552, "5.3.4", "Message header is too big", stage="final")
NO_ROOM = Reply(452, "4.3.1", "Insufficient system storage", stage="final")


class Digest(Protocol):
    """A running SHA-256."""

    def update(self, octets: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Received:
    """What came after DATA, as it will be stored but for what `accept` writes into the head.

    `digest` has seen the body. `body_hash` is that of DKIM, b"" when there are no `keys` to sign with.
    """

    id: str
    head: bytes
    body: bytes | str  # octets, or the path of a durable file
    body_bytes: int
    digest: Digest
    keys: tuple[SigningKey, ...]
    body_hash: bytes


KeysFor = Callable[[bytes], tuple[SigningKey, ...]]
"""The keys that will sign a mail with this head."""


class Spool:
    """The octets of one mail. `write` them, then `finish`; or `discard` at any point. `write` never raises: what went
    wrong is in `refused`, and the rest of the mail is drained without being kept."""

    def __init__(self, directory: str, head_max: int, new_id: Callable[[], str], keys_for: KeysFor) -> None:
        self.refused: Reply | None = None
        self.id = ""
        self._directory = directory
        self._head_max = head_max
        self._new_id = new_id
        self._keys_for = keys_for
        self._chunks: list[bytes] = []  # until there is a writer
        self._size = 0  # of the chunks
        self._writer: BodyWriter | None = None
        self._head = b""
        self._digest: Digest
        self._keys: tuple[SigningKey, ...] = ()
        self._body_hash: BodyHash | None = None
        self._body_bytes = 0

    def write(self, content: bytes) -> None:
        if self.refused is not None:
            return
        if self._writer is not None:
            self._take_body(content)
            return
        self._chunks.append(content)
        self._size += len(content)
        if len(self._chunks) == _CHUNKS_MAX:  # who sends single octets must not make an object of each
            self._chunks = [b"".join(self._chunks)]
        if self._size > INLINE_MAX_BYTES:
            self._spill()

    async def finish(self) -> Received:
        """Everything has come. A large body is on stable storage when this returns. Raises Refused."""
        body: bytes | str
        if self._writer is None:
            self.id = self._new_id()
            body = self._begin_body(b"".join(self._chunks))
            self._chunks = []
            self._hash(body)
        if self.refused is not None:
            raise Refused(self.refused)
        if self._writer is not None:
            try:
                body = await asyncio.to_thread(self._writer.finish)
            except OSError as error:
                raise Refused(_no_storage(error)) from error
            self._writer = None  # the file has its name; who deletes it now is the store
        return Received(
            self.id,
            self._head,
            body,
            self._body_bytes,
            self._digest,
            self._keys,
            self._body_hash.digest() if self._body_hash is not None else b"",
        )

    def discard(self) -> None:
        """Forget it. Nothing happens after `finish`."""
        self._chunks = []
        if self._writer is not None:
            self._writer.discard()
            self._writer = None

    def _spill(self) -> None:
        """Too large for memory: cut off the head and give the body a file."""
        octets = b"".join(self._chunks)
        self._chunks = [octets]
        if headers.end_of_head(octets) < 0:
            if len(octets) > self._head_max:
                self._refuse(HEADER_TOO_BIG)
            return
        self.id = self._new_id()
        body = self._begin_body(octets)
        self._chunks = []
        if self.refused is not None:
            return
        try:
            self._writer = BodyWriter(self._directory, self.id)
        except OSError as error:
            self._refuse(_no_storage(error))
            return
        self._take_body(body)

    def _begin_body(self, octets: bytes) -> bytes:
        """Set the head aside; the first octets of the body."""
        head, body = split(octets)
        self._head = head
        self._digest = hashlib.sha256()
        if len(head) > self._head_max:
            self._refuse(HEADER_TOO_BIG)
            return body
        self._keys = self._keys_for(head)
        self._body_hash = BodyHash() if self._keys else None
        return body

    def _take_body(self, octets: bytes) -> None:
        assert self._writer is not None
        self._hash(octets)
        try:
            self._writer.write(octets)
        except OSError as error:
            self._refuse(_no_storage(error))

    def _hash(self, octets: bytes) -> None:
        self._body_bytes += len(octets)
        feed(self._digest, octets)
        if self._body_hash is not None:
            self._body_hash.update(octets)

    def _refuse(self, reply: Reply) -> None:
        self.refused = reply
        self.discard()


def split(octets: bytes) -> tuple[bytes, bytes]:
    """(head, body). The head is fields only: it ends where a line is no field, as if the empty line had been there, and
    a mailbox line ("From x Mon ...") before it is dropped. Text without any field is all body."""
    if _MAILBOX_LINE.match(octets):
        octets = octets[octets.find(b"\n") + 1 :]
    head, body = headers.split(octets)
    if not headers.malformed(head):
        return head, body
    end = 0
    for field in headers.fields(head):
        if field.start != end:
            break
        end = field.end
    return octets[:end] + b"\r\n", octets[end:]


def _no_storage(error: OSError) -> Reply:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return (NO_ROOM if full else LOCAL_ERROR).because(f"spool: {error}")
