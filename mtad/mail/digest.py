"""Hashing in the event loop's thread.

hashlib gives the interpreter lock away for 2048 octets and more. For a small mail the wait to come back, behind the
store's writer and a thread that signs, takes ten times as long as the hashing (measured: 68 us of 4, and 800 of 4 when
all mail is signed). So small pieces are fed in slices below that; while large ones are hashed, the others may work.
"""

from typing import Protocol

HOLD_BYTES = 2047  # HASHLIB_GIL_MINSIZE of CPython is one more
SMALL_BYTES = 16384


class Digest(Protocol):
    """What hashlib makes."""

    def update(self, octets: bytes, /) -> None: ...


def feed(digest: Digest, octets: bytes) -> None:
    """`digest.update(octets)`, keeping the interpreter lock where that is quicker."""
    if len(octets) > SMALL_BYTES:
        digest.update(octets)
        return
    for at in range(0, len(octets), HOLD_BYTES):
        digest.update(octets[at : at + HOLD_BYTES])
