"""How much a call works: counted, not timed, where it runs as Python; by the processor's clock where it does not."""

import sys
import time
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any


def steps(call: Callable[[], object]) -> int:
    """Lines and calls that the interpreter runs, calls into C included."""
    count = 0

    def line(_frame: FrameType, _event: str, _argument: Any) -> Any:
        nonlocal count
        count += 1
        return line

    def called(_frame: FrameType, _event: str, _argument: Any) -> None:
        nonlocal count
        count += 1

    was = sys.gettrace(), sys.getprofile()
    sys.settrace(line)
    sys.setprofile(called)
    try:
        call()
    finally:
        sys.setprofile(was[1])
        sys.settrace(was[0])
    return count


def cpu_s(call: Callable[[], object]) -> float:
    """Seconds of this thread on a processor: what regular expressions and other C code need. Load does not count."""
    began = time.thread_time()
    call()
    return time.thread_time() - began


def peak_bytes(call: Callable[[], object]) -> int:
    """The most memory that was allocated at a time."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
