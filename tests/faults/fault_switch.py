"""The switch of `preload.c`: which call of a daemon is its last, which one fails, what time it is."""

import ctypes
import errno
import mmap
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

KINDS = ("pwrite", "write", "fsync", "rename", "link", "unlink", "send", "truncate")
EVERY = frozenset(KINDS)
_MODES = {"off": 0, "kill": 1, "tear": 2, "fail": 3, "fail on": 4}
_COUNT_ONLY = 0


class _Control(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_uint32) for name in ("mode", "mask", "error", "nosync")),
        *((name, ctypes.c_int64) for name in ("at", "count", "offset_s", "hit")),
        ("kinds", ctypes.c_int64 * len(KINDS)),
    ]


def missing() -> str:
    """Why there can be no switch here, "" when there can."""
    return "" if shutil.which("gcc") else "needs gcc to build the library that injects faults"


def library() -> Path:
    """The compiled preload.c, made once for this version of it."""
    source = Path(__file__).with_name("preload.c")
    made = Path(tempfile.gettempdir()) / f"mtad-faults-{os.getuid()}-{source.stat().st_mtime_ns}.so"
    if not made.exists():
        part = made.with_suffix(f".{os.getpid()}")
        subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", part, source, "-ldl"], check=True, capture_output=True)
        part.rename(made)
    return made


class Switch:
    """One daemon's. Its orders hold from the moment they are given, also while the daemon runs."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "switch"
        self._path.write_bytes(bytes(ctypes.sizeof(_Control)))
        with self._path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._control = _Control.from_buffer(self._map)

    def environ(self) -> Mapping[str, str]:
        """What the daemon must be started with."""
        return {"LD_PRELOAD": str(library()), "FAULTS_CONTROL": str(self._path)}

    def count(self, kinds: frozenset[str] = EVERY) -> None:
        """Count the calls from now on, and do nothing."""
        self._arm("kill", _COUNT_ONLY, kinds, 0)

    def kill(self, at: int, kinds: frozenset[str] = EVERY) -> None:
        """SIGKILL in place of the `at`-th call."""
        self._arm("kill", at, kinds, 0)

    def tear(self, at: int, kinds: frozenset[str] = EVERY) -> None:
        """SIGKILL in the middle of the `at`-th call: half of what is written gets there."""
        self._arm("tear", at, kinds, 0)

    def fail(self, at: int, error: int = errno.EIO, kinds: frozenset[str] = EVERY, *, on: bool = False) -> None:
        """The `at`-th call fails; with `on`, so do all after it."""
        self._arm("fail on" if on else "fail", at, kinds, error)

    def off(self) -> None:
        self._control.mode = 0

    def no_sync(self, *, on: bool = True) -> None:
        """fsync and fdatasync say that they did it."""
        self._control.nosync = int(on)

    def clock(self, offset_s: int) -> None:
        self._control.offset_s = offset_s

    @property
    def counted(self) -> int:
        return int(self._control.count)

    @property
    def hit(self) -> str:
        """The kind of call that was chosen, once it came; "" before."""
        return KINDS[self._control.hit - 1] if self._control.hit else ""

    def kinds(self) -> Mapping[str, int]:
        """How many calls of each kind."""
        return dict(zip(KINDS, self._control.kinds, strict=True))

    def _arm(self, mode: str, at: int, kinds: frozenset[str], error: int) -> None:
        control = self._control
        control.mode = 0
        control.at, control.count, control.hit, control.error = at, 0, 0, error
        control.mask = sum(1 << index for index, kind in enumerate(KINDS) if kind in kinds)
        control.kinds[:] = [0] * len(KINDS)
        control.mode = _MODES[mode]
