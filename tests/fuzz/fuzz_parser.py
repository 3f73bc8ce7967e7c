"""What a parser of outside octets is to the properties: how it is called, what it may raise, what it eats."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

CORPUS = Path(__file__).parent / "corpus"

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "25"))
"""Of each property and parser. `scripts/fuzz.sh` asks for many more."""

MANY = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)

Place = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Parser:
    """`refuses`: what it declares to raise. `places`: (before, after) of where repeated octets are put to see how the
    work grows. `pieces`: the same for octets that come cut into chunks. `limit`: callers give it no more octets."""

    name: str
    read: Callable[[bytes], object]
    refuses: tuple[type[Exception], ...] = ()
    seeds: tuple[bytes, ...] = ()
    places: tuple[Place, ...] = ((b"", b""),)
    pieces: Callable[[Sequence[bytes]], object] | None = None
    limit: int = 1 << 30

    def run(self, octets: bytes) -> object:
        """The result, or the kind of refusal. Anything else that is raised is a defect."""
        try:
            return self.read(octets[: self.limit])
        except self.refuses as error:
            return type(error)

    def beginnings(self) -> Sequence[bytes]:
        """What a search begins with: good input, and what did harm before. An octet in front of it where the search
        chooses the pieces."""
        found = [*self.seeds, *(path.read_bytes() for path in sorted((CORPUS / self.name).glob("*")))]
        return found if self.pieces is None else [size + octets for octets in found for size in (b"\0", b"\xff")]

    def run_pieces(self, chunks: Sequence[bytes]) -> object:
        assert self.pieces is not None
        try:
            return self.pieces(chunks)
        except self.refuses as error:
            return type(error)


def text(octets: bytes) -> str:
    """As a header or a command is decoded: octets that are no UTF-8 become lone surrogates."""
    return octets.decode("utf-8", "surrogateescape")


def readable(octets: bytes) -> str:
    return octets.decode("utf-8", "replace")


def cut(octets: bytes, at: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(octets) + 1) for place in at}), len(octets)]
    return [octets[start:end] for start, end in pairwise(edges)]


UNITS = (
    b"(", b")", b'"', b'"a" ', b",", b"a,", b";", b"a=b;", b"=?", b"=?utf-8?q?=41?= ", b"--b\r\n", b"\r\n ", b"\r\n",
    b"\n", b"\r", b".", b"\r\n.", b"a.", b"%", b"%{l}", b"[", b"{", b"[{", b'{"a":', b"<", b"<>", b"@", b"@a,", b":",
    b"a:", b"a: b\r\n", b" ", b"\t ", b"=", b"==", b"\\", b'\\"', b"/", b"a", b"a ", b"0", b"-", b"250-x\r\n", b"250 ",
    b"\0", b"\x80", b"\xc3\xa9", b"\xc3\xa9.", b"=41", b"AAAA", b"!", b"$", b"*", b"+", b"#\n", b"ip4:1.2.3.4 ",
)  # fmt: skip
"""Octets that make parsers look back, nest or split."""

GROWING = (
    UNITS
    if "FUZZ_EXAMPLES" in os.environ
    else (
        b"(", b'"', b",", b";", b"=?", b"--b\r\n", b"\r\n ", b"\n", b".", b"%", b"[", b"{", b"<", b"@", b"a: b\r\n",
        b" ", b"\\", b"=", b"\xc3\xa9",
    )
)  # fmt: skip
"""Those whose repetition is measured in every run."""

WORDS = (
    *UNITS,
    b"\r\n.\r\n", b"\n.\n", b"\r\n\r\n", b"xn--", b"IPv6:", b"::", b"v=", b"\xe2\x80\xae", b"\xed\xa0\x80", b"\xff",
    b"-1", b"99999999999999999999", b"1e400", b"NaN", b"null", b"../", b"\x1b[2J", b"\x7f", b"\xc0\x80", b"\xf4\x8f",
)  # fmt: skip


@st.composite
def mutants(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """Garbage, or a good input with some places damaged."""
    if not seeds or draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=300) | st.lists(st.sampled_from(WORDS), max_size=30).map(b"".join))
    octets = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 4))):
        at, gone = draw(st.integers(0, len(octets))), draw(st.integers(0, 4))
        new = draw(st.sampled_from(WORDS) | st.binary(max_size=6)) * draw(st.sampled_from([1, 1, 1, 2, 70, 300]))
        octets = octets[:at] + new + octets[at + gone :]
    return octets
