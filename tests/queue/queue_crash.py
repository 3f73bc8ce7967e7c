"""A process for the crash tests: each promise is printed once it was given. argv: which life, data root, body size."""

import asyncio
import resource
import signal
import sys
import time

from queue_mails import HEAD, NOW, OK, mail, outcome

from mtad.config import Paths
from mtad.mail.envelope import State
from mtad.queue.files import BodyWriter
from mtad.queue.sqlite import open_store
from mtad.queue.store import StoreError


async def one_life(root: str, large: bool) -> None:
    paths = Paths(f"{root}/mtad.toml", f"{root}/data", f"{root}/run")
    store = open_store(paths, time.time)
    new = mail(1)
    if large:
        writer = BodyWriter(paths.spool, new.message.id)
        writer.write(b"x" * 200_000)
        new = mail(1, body=writer.finish(), digest=b"", size_bytes=len(HEAD) + 200_000)
    await store.accept(new)
    print("accepted", flush=True)
    (job,) = await store.lease(NOW, NOW + 600, 1)
    print("leased", flush=True)
    await store.settle(outcome(job, State.DONE, OK))
    print("settled", flush=True)
    signal.raise_signal(signal.SIGKILL)


async def no_room(root: str) -> None:
    """The log cannot grow: nothing is promised, and the next mail finds a working store."""
    store = open_store(Paths(f"{root}/mtad.toml", f"{root}/data", f"{root}/run"), time.time)
    await store.accept(mail(1))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 1024, hard))
    results = await asyncio.gather(*(store.accept(mail(n)) for n in (2, 3, 4)), return_exceptions=True)
    print(sum(isinstance(result, StoreError) for result in results), "refused", flush=True)
    print("open:", (await store.stats(NOW)).messages, flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await store.accept(mail(5))
    print("accepted", flush=True)
    signal.raise_signal(signal.SIGKILL)


async def no_sync(root: str) -> None:
    """The disk fails to sync when told to, once: what was refused must not come back with the next life."""
    store = open_store(Paths(f"{root}/mtad.toml", f"{root}/data", f"{root}/run"), time.time)
    await store.accept(mail(1))
    print("accepted", flush=True)
    sys.stdin.readline()
    try:
        await store.accept(mail(2))
    except StoreError:
        print("refused", flush=True)
    signal.raise_signal(signal.SIGKILL)


if __name__ == "__main__":
    match sys.argv[1]:
        case "life":
            asyncio.run(one_life(sys.argv[2], sys.argv[3] == "large"))
        case "no-sync":
            asyncio.run(no_sync(sys.argv[2]))
        case "no-room":
            asyncio.run(no_room(sys.argv[2]))
