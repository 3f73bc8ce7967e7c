"""All scenarios by name, with the sizes of the short and the long run."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import fault_kills
from fault_result import Result


@dataclass(frozen=True)
class Scenario:
    """`long`: in pieces, each on new data."""

    what: str
    run: Callable[[Path, int, random.Random], Awaitable[Result]]
    short: int
    long: tuple[int, ...]


SCENARIOS: dict[str, Scenario] = {
    "kills": Scenario("kill -9 under load", fault_kills.kills, 10, (100,) * 10),
    "terms": Scenario("SIGTERM under load", fault_kills.terms, 4, (50, 50)),
    "reloads": Scenario("SIGHUP storm under load", fault_kills.reloads, 20, (200,)),
    "clock": Scenario("clock jumps", fault_kills.clock_jumps, 2, (8,)),
}
