"""All scenarios by name, with the sizes of the short and the long run."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import fault_kills
import fault_points
import fault_power
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
    "points": Scenario("kill -9 at each call", fault_points.crash_points, 16, (1000,)),
    "torn": Scenario("kill -9 in the middle of a write", fault_points.torn_writes, 8, (1000,)),
    "failures": Scenario("a flush, write or rename fails", fault_points.failed_calls, 24, (1000,)),
    "power": Scenario("power cut", fault_power.power_cuts, 2, (20,) * 10),
    "normal": Scenario("power cut, synchronous=NORMAL", fault_power.control_normal, 20, (20,)),
    "nosync": Scenario("power cut, fsync does nothing", fault_power.control_no_sync, 20, (20,)),
    "terms": Scenario("SIGTERM under load", fault_kills.terms, 4, (50, 50)),
    "reloads": Scenario("SIGHUP storm under load", fault_kills.reloads, 20, (200,)),
    "clock": Scenario("clock jumps", fault_kills.clock_jumps, 2, (8,)),
}
