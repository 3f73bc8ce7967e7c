"""What a terminal is shown while a command works, and nobody else."""

import io
import os
import pty
import sys
from collections.abc import Iterator

import pytest

from mtactl.progress import working


def test_a_terminal_is_told_that_it_goes_on_until_the_first_row(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        seen = b""

        def rows() -> Iterator[int]:
            nonlocal seen
            while seen.count(b"working, 0s\x1b[K\r") < 2:  # it is waited for, however fast the machine
                seen += os.read(master, 100)
            yield from (1, 2)

        assert list(working(rows(), 0.01)) == [1, 2]
        terminal.write("end")
    while not seen.endswith(b"end"):
        seen += os.read(master, 100)
    assert seen.endswith(b"\x1b[K\r\x1b[Kend")
    os.close(master)


def test_what_failed_is_no_longer_worked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()

    def rows() -> Iterator[int]:
        yield from ()
        raise LookupError("gone")

    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with pytest.raises(LookupError, match="gone"):
            list(working(rows(), 60.0))
    os.close(master)


def test_nobody_else_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert list(working(iter((1, 2)), 0.0)) == [1, 2]
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]
