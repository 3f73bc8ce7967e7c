"""Message ids: 12 characters that sort by time, are easy to read aloud, and are never given twice.

An id is a 60-bit number in Crockford's base 32, lower case (no i, l, o, u): 41 bits of milliseconds since 2020-01-01
UTC (enough until 2089) above 19 bits that start at random within each millisecond and count up.
"""

from collections.abc import Callable
from typing import Protocol

LENGTH = 12
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = tuple(high + low for high in _ALPHABET for low in _ALPHABET)
PAIRS = "".join(_PAIRS)
"""For who writes ids without Python: the pair of characters for each 10 bits of a number, one after the other."""

_PAIR_VALUES = {pair: value for value, pair in enumerate(_PAIRS)}
_DIGITS = {char: value for value, char in enumerate(_ALPHABET)}
_EPOCH_MS = 1_577_836_800_000  # 2020-01-01T00:00:00Z
_LOW_BITS = 19
_END = 1 << 60


class Rng(Protocol):
    """What is needed of a random.Random."""

    def getrandbits(self, k: int, /) -> int: ...


class Ids:
    """Makes ids, strictly increasing within the process even when the clock stands still or steps back.

    `after` is the newest id that already exists ("" = none): ids stay unique across a restart with a clock set back.
    """

    def __init__(self, clock: Callable[[], float], rng: Rng, after: str = "") -> None:
        self._clock = clock
        self._rng = rng
        self._last = to_int(after) if after else -1

    def newest_at(self) -> float:
        """The time in the newest id there is; 0 without one."""
        return ((self._last >> _LOW_BITS) + _EPOCH_MS) / 1000 if self._last >= 0 else 0.0

    def new(self) -> str:
        ms = max(int(self._clock() * 1000) - _EPOCH_MS, 0)
        n = ms << _LOW_BITS | self._rng.getrandbits(_LOW_BITS)
        if n >> _LOW_BITS <= self._last >> _LOW_BITS:
            n = self._last + 1
        self._last = n
        return from_int(n)


def file_seed(name: str, uid: int, inode: int, mtime_ns: int, what: str) -> str:
    """The seed of the id of the mail in a file of the maildrop: the same each time, for whoever looks at that file."""
    return f"{name} {uid} {inode} {mtime_ns} {what}"


def from_int(n: int) -> str:
    """The id of a number. ValueError unless 0 <= n < 2**60."""
    if not 0 <= n < _END:
        raise ValueError("an id has 60 bits")
    p = _PAIRS
    return p[n >> 50] + p[n >> 40 & 1023] + p[n >> 30 & 1023] + p[n >> 20 & 1023] + p[n >> 10 & 1023] + p[n & 1023]


def to_int(id: str) -> int:  # noqa: A002  (the word of the domain)
    """The number of an id, exactly as `new` writes it. ValueError for anything else."""
    if len(id) != LENGTH:
        raise ValueError("an id has 12 characters")
    v = _PAIR_VALUES
    try:
        return v[id[:2]] << 50 | v[id[2:4]] << 40 | v[id[4:6]] << 30 | v[id[6:8]] << 20 | v[id[8:10]] << 10 | v[id[10:]]
    except KeyError:
        raise ValueError("not an id") from None


def first_at(at: float) -> int:
    """The least number of an id made at that time."""
    return max(int(at * 1000) - _EPOCH_MS, 0) << _LOW_BITS


def prefix_range(prefix: str) -> tuple[int, int]:
    """(low, end): an id begins with `prefix` when low <= number < end. ValueError for an empty or impossible prefix."""
    if not 1 <= len(prefix) <= LENGTH:
        raise ValueError("a prefix of an id has 1 to 12 characters")
    n = 0
    for char in prefix:
        digit = _DIGITS.get(char)
        if digit is None:
            raise ValueError("not an id")
        n = n << 5 | digit
    shift = 5 * (LENGTH - len(prefix))
    return n << shift, (n + 1) << shift
