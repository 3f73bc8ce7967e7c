"""Whether everything is what it was written as, and mending what can be mended without a loss."""

import asyncio
import os
import tempfile
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress

from mtad.accounts.aliases import load_aliases
from mtad.config import Config, Paths
from mtad.control.admin import Admin, AdminStore, Args, Failed, Handler, Row
from mtad.dkim.keys import Keys
from mtad.inbound.maildrop import BAD
from mtad.queue import check as look
from mtad.queue import files, indexes
from mtad.queue.check import Finding, Seen
from mtad.queue.database import Lock
from mtad.queue.sqlite import open_store
from mtad.queue.store import Damaged, Hold, Selector, StoreError, StoreLocked


async def check(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    paths, seen = admin.config.paths, Seen()
    if admin.offline:
        found = await _stopped(admin, seen)
    else:
        found = await _working(admin, seen)
    found += await asyncio.to_thread(lambda: [*look.places(paths), *_files(admin.config)])
    lost = {one.subject for one in found if one.cure == "lose"}
    found = [one for one in found if not (one.cure == "close" and one.subject in lost)]
    left = 0
    async with aclosing(_mended(admin, found) if args["repair"] else _told(found)) as rows:
        async for row in rows:
            left += row["level"] == "error" and not row["done"]
            yield row
    yield {
        "level": "good" if not found else "seen",
        "what": f"{_count(seen.messages, 'message')} of the queue, {seen.files} of them in files",
        "fix": "",
        "done": "",
    }
    if left:
        raise Failed("Unsound", f"{_count(left, 'error')} found" + ("" if args["repair"] else "; see --repair"))


async def _working(admin: Admin, seen: Seen) -> list[Finding]:
    """A daemon's: in a copy."""
    paths, now = admin.config.paths, admin.clock()
    try:
        with tempfile.TemporaryDirectory(prefix=".check-", dir=paths.data) as scratch:
            copy = f"{scratch}/mta.db"
            await admin.store.backup(copy)
            found = await asyncio.to_thread(lambda: list(look.queue(copy, paths, seen, now)))
    except OSError as error:
        raise Failed("CannotCreate", f"no copy of the database for the check: {error.strerror or error}") from None
    return [one for one in found if one.cure != "hold" or await _still(admin.store, one.subject)]


async def _still(store: AdminStore, message_id: str) -> bool:
    """Whether it is damaged, and was not only delivered since the copy was made."""
    try:
        await store.content(message_id)
    except Damaged:
        return bool(await store.select(Selector(ids=(message_id,)), 0.0, limit=1))
    except StoreError:
        return True
    return False


async def _stopped(admin: Admin, seen: Seen) -> list[Finding]:
    paths = admin.config.paths
    try:
        lock = Lock(paths, create=False)
    except StoreLocked as error:
        raise Failed("Busy", str(error)) from None
    except StoreError as error:
        return [Finding("warning", str(error), "it is made when mtad starts")]
    try:
        return await asyncio.to_thread(lambda: list(look.queue(paths.database, paths, seen)))
    finally:
        lock.release()


def _files(config: Config) -> Iterator[Finding]:
    """Keys, aliases and the maildrop. Blocking."""
    for problem in Keys(config.paths.dkim).load():
        if "is open to others" not in problem:  # `places` told of that
            yield Finding("warning" if "bits are few" in problem else "error", problem, "see `mtactl dkim list`")
    for problem in load_aliases(config.local.aliases)[1]:
        yield Finding("warning", problem, "mend it, then `mtactl alias check`")
    with suppress(OSError):
        for name in sorted(os.listdir(f"{config.paths.maildrop}/{BAD}")):
            path = f"{config.paths.maildrop}/{BAD}/{name}"
            yield Finding("warning", f"{path} could not become a mail", "read it, then remove it")


async def _told(found: list[Finding]) -> AsyncGenerator[Row, None]:
    for one in found:
        yield _row(one)


async def _mended(admin: Admin, found: list[Finding]) -> AsyncGenerator[Row, None]:
    for one in found:
        if one.cure == "index":  # before anybody opens it
            yield await _anew(admin, one)
    async with _store(admin, needed=any(one.cure == "hold" for one in found)) as store:
        for one in found:
            if one.cure == "index":
                continue
            done = ""
            try:
                done = await _mend(admin, store, one)
            except (OSError, StoreError) as error:
                yield _row(one, fix=f"{one.fix} (not done: {getattr(error, 'strerror', None) or error})")
                continue
            if done:
                admin.events.operator(str(admin.caller), "check", one.subject, done, 1)
            yield _row(one, done=done)


async def _anew(admin: Admin, one: Finding) -> Row:
    """Give a stopped daemon's database new indexes."""
    if not admin.offline:
        return _row(one)
    paths = admin.config.paths
    try:
        lock = Lock(paths, create=False)
        try:
            kept = await asyncio.to_thread(indexes.mend, paths)
        finally:
            lock.release()
    except (OSError, StoreError) as error:
        return _row(one, fix=f"{one.fix} (not done: {getattr(error, 'strerror', None) or error})")
    done = f"made anew; the database of before is {kept}"
    admin.events.operator(str(admin.caller), "check", "", done, 1)
    return _row(one, done=done)


@asynccontextmanager
async def _store(admin: Admin, *, needed: bool) -> AsyncGenerator[AdminStore | None, None]:
    """The daemon's, or a stopped one's, opened for this."""
    if not admin.offline or not needed:
        yield None if admin.offline else admin.store
        return
    store = open_store(admin.config.paths, admin.clock)
    try:
        yield store
    finally:
        await store.close()


async def _mend(admin: Admin, store: AdminStore | None, one: Finding) -> str:
    """What was done, "" for nothing."""
    match one.cure:
        case "hold":
            assert store is not None
            await store.change(Selector(ids=(one.subject,)), Hold(), admin.clock())
            return "held"
        case "lose":
            await asyncio.to_thread(_lose, admin.config.paths, one.subject)
            return f"moved to {files.LOST}"
        case "close":
            await asyncio.to_thread(_close, one.subject)
            return "closed"
        case _:
            return ""


def _lose(paths: Paths, path: str) -> None:
    os.rename(path, files.lost(paths.data, os.path.basename(path)))


def _close(path: str) -> None:
    """Never through a link."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(fd, os.fstat(fd).st_mode & 0o700)
    finally:
        os.close(fd)


def _row(one: Finding, *, fix: str = "", done: str = "") -> Row:
    return {"level": one.level, "what": one.what, "fix": fix or one.fix, "done": done}


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


HANDLERS: Mapping[str, Handler] = {"check": check}
