"""All scenarios by name, with the sizes of the short and the long run."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import fault_kills
import fault_limits
import fault_links
import fault_order
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
    "order": Scenario("flushed before the word (strace)", fault_order.order, 4, (4,)),
    "disk": Scenario("no room on the disk", fault_limits.disk_full, 1, (5,)),
    "inodes": Scenario("no inodes", fault_limits.inodes_full, 1, (5,)),
    "descriptors": Scenario("no file descriptors", fault_limits.no_descriptors, 1, (10,)),
    "readonly": Scenario("a disk that is read-only", fault_limits.read_only, 1, (20,)),
    "held": Scenario("the database held by somebody else", fault_limits.held_database, 1, (10,)),
    "memory": Scenario("no memory", fault_limits.no_memory, 1, (20,)),
    "second": Scenario("a second daemon on the same data", fault_limits.second_daemon, 2, (50,)),
    "cuts": Scenario("connections cut", fault_links.cut_connections, 50, (2000,)),
    "link": Scenario("the link goes down", fault_links.link_down, 2, (50,)),
}
