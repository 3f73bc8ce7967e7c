"""The operator's commands on a long queue, against Postfix's: list all of it, find and count in it, take it all out.

Postfix's side is `postqueue -p`, which is also all there is to find something with, and `postsuper -d -` with every id.

Postfix's queue is filled through its front door into the hold queue, ours through the store. Each command is a process
of its own that writes into a pipe.
"""

import asyncio
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hosts import BIN, SENDER_DOMAIN, Host, mtad, postfix
from peer_process import program

from mtad.config import Paths
from mtad.mail.envelope import Message, NewMessage, Peer, Recipient, State
from mtad.mail.ident import Ids
from mtad.queue.sqlite import open_store

HEAD = b"From: a@sender.test\r\nTo: b@remote.test\r\nSubject: bench\r\nMessage-ID: <1@sender.test>\r\n\r\n"
BODY = b"x" * 2000 + b"\r\n"
AT_ONCE = 500

Inject = Callable[[Host, int], None]


async def fill(base: Path, messages: int) -> None:
    """So many held messages of one recipient each."""
    store = open_store(Paths(f"{base}/mtad.toml", f"{base}/data", f"{base}/run"), time.time)
    ids = Ids(time.time, random.Random(1))
    size = len(HEAD) + len(BODY)
    for start in range(0, messages, AT_ONCE):
        now = time.time()
        news = []
        for number in range(start, min(start + AT_ONCE, messages)):
            one = ids.new()
            message = Message(
                one, f"a@{SENDER_DOMAIN}", size, now, now + 432000, Peer("smtp", "127.0.0.1", 25, "bench")
            )
            to = f"b{number}@remote.test"
            news.append(NewMessage(message, (Recipient(one, 1, to, to, "remote.test", State.HELD),), HEAD, BODY))
        await asyncio.gather(*(store.accept(new) for new in news))
    await store.close()


@contextmanager
def both(base: Path, nowhere: int, messages: int, inject: Inject) -> Iterator[tuple[Host, Host]]:
    """Both with a long queue that stands still."""
    base.mkdir(parents=True)
    with (
        postfix(base / "p", nowhere, held=True, dkim=False) as theirs,
        mtad(base / "m", nowhere, held=True, dkim=False, fill=lambda at: asyncio.run(fill(at, messages))) as mine,
    ):
        for start in range(0, messages, 5000):
            inject(theirs, min(5000, messages - start))
        yield mine, theirs


def _took(command: list[str], environ: dict[str, str], stdin: bytes = b"") -> float:
    began = time.perf_counter()
    done = subprocess.run(command, env=environ, input=stdin, capture_output=True, check=False)
    took = time.perf_counter() - began
    if done.returncode not in (0, 1):
        raise SystemExit(f"{command}: exit {done.returncode}: {done.stderr.decode()[:300]}")
    return took


@dataclass(frozen=True, slots=True)
class Compared:
    """Seconds of one command, ours and Postfix's, round by round."""

    name: str
    ours: list[float]
    theirs: list[float]


def measure(base: Path, nowhere: int, messages: int, rounds: int, inject: Inject) -> Iterator[Compared]:
    mtactl = str(BIN / "mtactl")
    mailq, delete = [program("postqueue"), "-p"], [program("postsuper"), "-d", "-"]
    with both(base, nowhere, messages, inject) as (mine, theirs):
        for name, command in (
            ("mailq", [str(BIN / "mtad-mailq")]),
            ("find one", [mtactl, "queue", "list", "--to", f"b{messages // 2}@remote.test"]),
            ("by domain", [mtactl, "queue", "list", "--group-by", "domain"]),
        ):
            times = [(_took(command, mine.environ), _took(mailq, theirs.environ)) for _ in range(rounds)]
            yield Compared(name, [one for one, _ in times], [two for _, two in times])
        listed = subprocess.run(mailq, env=theirs.environ, capture_output=True, text=True, check=True).stdout
        ids = [line.split()[0].rstrip("!*") for line in listed.splitlines() if line[:1].isalnum()]
        purge = _took([mtactl, "queue", "purge", "--all", "--yes"], mine.environ)
        restore = _took([mtactl, "queue", "restore", "--last"], mine.environ)
        gone = _took(delete, theirs.environ, "\n".join(ids).encode())
        yield Compared("purge", [purge], [gone])
        yield Compared("restore", [restore], [gone])
