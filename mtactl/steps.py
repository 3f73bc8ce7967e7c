"""What is done to make the names of sendmail ours: steps that can be shown before they are taken."""

from collections.abc import Callable
from dataclasses import dataclass

PATHS = {
    "/usr/sbin/sendmail": "mtad-sendmail",
    "/usr/lib/sendmail": "mtad-sendmail",
    "/usr/bin/mailq": "mtad-mailq",
    "/usr/bin/newaliases": "mtad-newaliases",
}


class Trouble(Exception):  # noqa: N818
    """It cannot be done; the words are for the operator. The steps before were done, and can be undone."""


@dataclass(frozen=True, slots=True)
class Step:
    words: str
    run: Callable[[], None]

    def __str__(self) -> str:
        return self.words
