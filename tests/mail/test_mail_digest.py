"""Slices or not: the same hash."""

import hashlib

import pytest

from mtad.dkim.canonical import BodyHash
from mtad.mail.digest import HOLD_BYTES, SMALL_BYTES, feed

SIZES = (0, 1, HOLD_BYTES, HOLD_BYTES + 1, 3 * HOLD_BYTES + 7, SMALL_BYTES, SMALL_BYTES + 1)


@pytest.mark.parametrize("size", SIZES)
def test_as_if_given_at_once(size: int) -> None:
    octets = bytes(range(256)) * (size // 256 + 1)
    digest = hashlib.sha256()
    feed(digest, octets[:size])
    feed(digest, b"and more")
    assert digest.digest() == hashlib.sha256(octets[:size] + b"and more").digest()


@pytest.mark.parametrize("size", SIZES)
def test_a_body_hash_in_slices(size: int) -> None:
    body = (b"0123456789" * (size // 10 + 1))[:size]
    made = BodyHash()
    made.update(body)
    assert made.digest() == hashlib.sha256(body + b"\r\n" if body else b"").digest()


class Slices:
    """Who is told how much at once."""

    def __init__(self) -> None:
        self.longest = 0

    def update(self, octets: bytes, /) -> None:
        self.longest = max(self.longest, len(octets))


def test_small_ones_keep_the_lock_and_large_ones_do_not() -> None:
    small, large = Slices(), Slices()
    feed(small, b"x" * SMALL_BYTES)
    feed(large, b"x" * (SMALL_BYTES + 1))
    assert small.longest == HOLD_BYTES
    assert large.longest == SMALL_BYTES + 1
