"""What every command of mtactl has: its options, its words on standard error, and passwords that are never in argv."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO

import click

from mtactl.errors import EX_DATAERR, CallError
from mtad.control.operation import Kind

PASSWORD_LINE_MAX = 4096

METAVARS: Mapping[Kind, str] = {
    "count": "N",
    "duration": "AGE",
    "path": "FILE",
    "domain": "DOMAIN",
    "user": "USER",
    "id": "ID",
    "address": "ADDRESS",
    "compare": "COMPARISON",
    "quota": "N",
    "fingerprint": "FINGERPRINT",
    "lines": "FILE",
    "key": "FILE",
    "moment": "TIME",
}
"""What stands for a value of each kind in the help."""


@dataclass(slots=True)
class Options:
    """What every command takes, in front of it or behind it."""

    root: str = ""
    socket: str = ""
    json: bool = False
    debug: bool = False
    no_pager: bool = False


def read_password(fd: int | None, *, again: bool = True) -> str:
    """A password from a descriptor, the terminal, or one line of standard input. Never from argv."""
    if fd is None and sys.stdin.isatty():
        given: str = click.prompt(
            "Password", hide_input=True, confirmation_prompt="Again" if again else False, err=True
        )
        return given
    try:
        stream: IO[bytes] = sys.stdin.buffer if fd is None else open(fd, "rb", closefd=False)  # noqa: SIM115
        line = stream.readline(PASSWORD_LINE_MAX)
        password = line.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise CallError(f"cannot read the password: {error.strerror}", EX_DATAERR) from None
    except UnicodeDecodeError:
        raise CallError("the password is not UTF-8", EX_DATAERR) from None
    if not password:
        raise CallError("there is no password on standard input", EX_DATAERR)
    return password


def say(text: str) -> None:
    from mtad.mail.text import clean

    for line in text.split("\n"):
        print(f"mtactl: {clean(line, 2000)}", file=sys.stderr)
