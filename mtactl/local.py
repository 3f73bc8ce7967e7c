"""Operations without a daemon: the same handlers on the data that a stopped one left. Heavy, so imported late."""

import asyncio
import json
import os
import random
import syslog
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import Any, cast

from mtactl.errors import CallError, Unreachable
from mtad.accounts.blocks import Blocks
from mtad.accounts.passwords import Cost, best
from mtad.accounts.suppressions import Suppressions
from mtad.accounts.users import Users
from mtad.config import Config, ConfigErrors
from mtad.config.load import load
from mtad.config.places import locate
from mtad.control.admin import Admin, AdminStore, Caller, Failed, Lines, Row
from mtad.control.login import login
from mtad.control.operation import Access, Operation, UsageError
from mtad.control.run import perform
from mtad.control.wire import ERRORS
from mtad.dkim.keys import Keys
from mtad.events import Events
from mtad.mail.ident import Ids
from mtad.outbound.sites import Sites
from mtad.outbound.suspensions import Suspensions
from mtad.queue.sqlite import open_read_only, open_store
from mtad.queue.store import StoreError, StoreLocked
from mtad.service import make_directories

NOTE = "mtad is not running; using its data directly"
_OF_THE_STORE = frozenset(
    {"queue", "user", "backup", "block", "audit", "explain", "suppress", "site", "suspend", "trace", "log", "incident"}
    | {"transfer"}
)


class _Stopped:
    """The daemon, when there is none: nothing to wake, nothing to reload."""

    def status(self) -> Mapping[str, Any]:
        return {}

    def wake(self) -> None:
        pass

    async def reload(self) -> Sequence[str]:
        return ()

    def security(self) -> None:
        return None

    def outlook(self) -> Any:
        return lambda domain, user, plan: ()

    def certificates(self) -> Sequence[Any]:
        return ()

    async def reload_tls(self) -> Sequence[Any]:
        return ()

    async def drain_maildrop(self) -> int:
        return 0

    def sessions(self) -> Sequence[Any]:
        return ()

    def close_session(self, number: int) -> bool:
        return False

    def expand(self, address: str) -> tuple[str, ...]:
        return (address,)

    def ids(self) -> Ids:
        return Ids(time.time, random.SystemRandom())

    def usage(self, who: str) -> Sequence[Any]:
        return ()


def settings(root: str, config: str = "") -> Config:
    """The configuration. CallError (78) with every problem."""
    try:
        return load(root, config)
    except ConfigErrors as errors:
        raise CallError(str(errors), ERRORS["BadConfig"]) from None


def run(operation: Operation, given: Mapping[str, Any], root: str, down: Unreachable) -> Iterator[dict[str, Any]]:
    """The rows of an operation on a stopped daemon's data. CallError; `down` when there is no such data either."""
    place = locate(root)
    if not os.path.exists(place.paths.config) and not os.environ.get("MTA_HOSTNAME"):
        raise down
    config = settings(root)
    if operation.offline == "write":
        try:
            make_directories(config.paths)  # as the daemon would, which must own them
        except OSError as error:
            raise CallError(f"{error.filename or config.paths.data}: {error.strerror}", ERRORS["Denied"]) from None
        _become_owner(config.paths.data)
    store = _open(operation, config, down)
    with asyncio.Runner() as runner:
        admin = runner.run(_admin(operation, config, store))
        rows = perform(admin, operation, given)
        try:
            while (found := runner.run(_next(rows))) is not None:
                if isinstance(found, Lines):
                    yield from map(json.loads, found.text.split("\n"))
                elif found:
                    yield found
        except UsageError as error:
            raise CallError(str(error), ERRORS["Usage"]) from None
        except Failed as failed:
            raise CallError(failed.text, ERRORS[failed.name], failed.name) from None
        finally:
            runner.run(rows.aclose())
            admin.users.close()
            if store is not None:
                runner.run(store.close())


def _open(operation: Operation, config: Config, down: Unreachable) -> Any:
    if operation.name.partition(".")[0] not in _OF_THE_STORE:
        return None  # it is about files only
    try:
        opened = open_store if operation.offline == "write" else open_read_only
        return opened(config.paths, time.time)
    except StoreLocked as error:
        raise CallError(f"mtad does not answer at {config.paths.control}, but {error}", ERRORS["Busy"]) from None
    except StoreError as error:
        raise CallError(f"{down.text}\nand its data cannot be used: {error}", down.code) from None


async def _admin(operation: Operation, config: Config, store: Any) -> Admin:
    about_users = operation.name.startswith("user.")
    # What hashes no password needs no expensive hash of a user that does not exist.
    cost = best() if about_users else Cost(ln=1, r=1, p=1)
    users = Users(store, time.time, random.SystemRandom(), domain=config.domains[0], cost=cost)
    if about_users or operation.name in {"explain", "incident.report"}:
        await users.load()
    keys = Keys(config.paths.dkim)
    if operation.name.startswith(("dkim.", "dns.")):
        keys.load()
    blocks = Blocks(store, time.time)
    if operation.name.startswith("block."):
        await blocks.load(forget=operation.offline == "write")
    suppressions = Suppressions(store, time.time)
    if operation.name.startswith(("suppress.", "explain")):
        await suppressions.load()
    events = Events(time.time, lambda line: syslog.syslog(syslog.LOG_MAIL | syslog.LOG_INFO, line))
    suspensions = Suspensions(store, time.time)
    sites = Sites(config, store, suspensions, events, time.time, random.Random())
    if operation.name.startswith(("site.", "suspend.", "explain", "trace", "queue.show", "queue.list", "queue.mailq")):
        await suspensions.load()
        await sites.load()
    return Admin(
        config=config,
        store=cast("AdminStore", store),
        users=users,
        keys=keys,
        events=events,
        clock=time.time,
        app=_Stopped(),
        blocks=blocks,
        suppressions=suppressions,
        sites=sites,
        # Whoever may read the files has what they hold.
        caller=Caller(os.getuid(), Access.ADMIN, login(os.getuid(), os.getpid())),
        offline=True,
    )


async def _next(rows: AsyncGenerator[Row | Lines, None]) -> Row | Lines | None:
    return await anext(rows, None)


def _become_owner(data: str) -> None:
    """Root writes as the owner of the data, or the daemon could not read what it finds there."""
    try:
        owner = os.stat(data)
    except FileNotFoundError:
        return
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.setgroups([])
        os.setresgid(owner.st_gid, owner.st_gid, owner.st_gid)
        os.setresuid(owner.st_uid, owner.st_uid, owner.st_uid)
