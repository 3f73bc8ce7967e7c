"""Text that is longer than the terminal goes through a pager, begun when that is known: short text stays as it is."""

import io
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TextIO, cast

_DEFAULT = "less"
_LINES = 24  # of a terminal that does not say
_LESS = "FRX"  # colours as they are, and nothing to quit where it fits


def program(environ: Mapping[str, str]) -> Sequence[str]:
    """The pager to use: $MTACTL_PAGER, $PAGER, less. None for "", "cat", what is not installed, and a terminal without
    a cursor."""
    named = environ.get("MTACTL_PAGER", environ.get("PAGER", _DEFAULT))
    try:
        words = shlex.split(named)
    except ValueError:
        return ()
    usable = words and words != ["cat"] and environ.get("TERM", "dumb") != "dumb" and shutil.which(words[0])
    return words if usable else ()


@contextmanager
def paged(terminal: TextIO, environ: Mapping[str, str], *, off: bool = False) -> Iterator[TextIO]:
    """Where to write what may be long."""
    command = () if off else program(environ)
    if not command:
        yield terminal
        return
    page = _Page(terminal, command, environ)
    try:
        yield cast("TextIO", page)
    finally:
        page.end()


class _Page(io.TextIOBase):
    """Keeps lines until they are more than the terminal has; then all go to the pager."""

    def __init__(self, terminal: TextIO, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self._terminal = terminal
        self._command = command
        self._environ = {"LESS": _LESS, **environ}
        self._kept: list[str] = []
        self._lines = 0
        self._running: subprocess.Popen[str] | None = None
        try:
            self._height = os.get_terminal_size(terminal.fileno()).lines or _LINES
        except OSError:
            self._height = _LINES

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._terminal.encoding

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._terminal.fileno()

    def write(self, text: str) -> int:
        if self._running is not None and self._running.stdin is not None:
            self._running.stdin.write(text)
            return len(text)
        self._kept.append(text)
        self._lines += text.count("\n")
        if self._lines >= self._height:
            self._begin()
        return len(text)

    def _begin(self) -> None:
        self._running = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            env=self._environ,
            text=True,
            encoding=self._terminal.encoding,
            errors="backslashreplace",
        )
        assert self._running.stdin is not None
        self._running.stdin.write("".join(self._kept))
        self._kept.clear()

    def end(self) -> None:
        """Show what was kept, or wait until the reader leaves the pager."""
        if self._running is None:
            self._terminal.write("".join(self._kept))
            return
        if self._running.stdin is not None:
            self._running.stdin.close()
        while True:
            try:
                self._running.wait()
                return
            except KeyboardInterrupt:
                continue  # it is the pager's: it searches, or stops reading
