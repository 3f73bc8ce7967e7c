"""No octets make a parser work or allocate out of proportion: what is twice as long may cost twice as much, not four
times. Repeated at every place where a parser could look back, nest or split."""

import math
import os
from functools import partial
from itertools import pairwise

import pytest
from fuzz_parser import GROWING, Parser
from fuzz_work import cpu_s, peak_bytes, steps
from test_fuzz_parsers import by_name

DOUBLINGS = int(os.environ.get("FUZZ_DOUBLINGS", "2"))
"""How often the input is doubled from FIRST on; `scripts/fuzz.sh` asks for 8."""

FIRST = 256
EXPONENT_MAX = 1.5
LARGE = 1 << 15
CPU_MAX_S = 0.7
"""For LARGE octets, and far from both sides: what is linear needs 0.05 s at most, and a regular expression that looks
back from each octet many seconds."""


def inputs(parser: Parser, size: int) -> dict[bytes, bytes]:
    return {
        before[:20] + unit: before + unit * (size // len(unit)) + after
        for before, after in parser.places
        for unit in GROWING
    }


@by_name
def test_work_grows_with_the_input(parser: Parser) -> None:
    sizes = [FIRST << n for n in range(DOUBLINGS + 1)]
    made = [inputs(parser, size) for size in sizes]
    parser.run(next(iter(made[0].values())))  # what is imported or compiled once is not counted
    for name in made[0]:
        work = [steps(partial(parser.run, octets[name])) for octets in made]
        # The last two doublings: what is refused when short and read when long jumps once, what is quadratic each time.
        exponents = [math.log2(more / less) for less, more in pairwise(work)][-2:]
        assert min(exponents) < EXPONENT_MAX, f"{name!r}: {work} steps for {sizes} octets"


@by_name
def test_large_input_takes_little_time(parser: Parser) -> None:
    for name, octets in inputs(parser, LARGE).items():
        took = cpu_s(partial(parser.run, octets))
        assert took < CPU_MAX_S, f"{name!r}: {took:.1f} s"


@pytest.mark.parametrize("unit", [b"a", b"a,", b"[", b"\r\n ", b"a: b\r\n", b"="])
@by_name
def test_memory_grows_with_the_input(parser: Parser, unit: bytes) -> None:
    before, after = parser.places[0]
    small, large = (before + unit * (size // len(unit)) + after for size in (1 << 12, 1 << 14))
    parser.run(small)
    needed = [peak_bytes(partial(parser.run, octets)) for octets in (small, large)]
    assert needed[1] - needed[0] < 300 * (1 << 14), f"{needed} octets"
    assert needed[1] < 8 * needed[0] + 200_000, f"{needed} octets"
