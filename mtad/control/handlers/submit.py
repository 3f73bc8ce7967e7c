"""What programs of this host ask about the mail that they submitted."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from itertools import chain

from mtad.control.admin import Admin, Args, Failed, Handler, Row
from mtad.control.handlers import queue, rows
from mtad.control.operation import Access
from mtad.mail.envelope import Recipient, State
from mtad.queue.store import Row as QueueRow
from mtad.queue.store import Selector

WAIT_S, WAIT_MAX_S = 30.0, 3600.0
FIRST_LOOK_S, LAST_LOOK_S = 0.05, 1.0  # between two looks: at first most mail has its outcome, or soon

OPEN_STATES = ("active", "ready", "deferred", "held")

_GIVEN_UP = frozenset({State.FAILED, State.TRASHED})


async def queue_wait(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    wait_s = args["timeout"] or WAIT_S
    if wait_s > WAIT_MAX_S:
        raise Failed("Usage", "timeout: at most 1h")
    message_id = args["id"] or await _keyed(admin, args["key"] or "")
    loop = asyncio.get_running_loop()
    end, pause_s = loop.time() + wait_s, FIRST_LOOK_S
    await _one(admin, message_id, queue.EVERY_STATE)
    # One row says whether to wait on: a mail may have 10,000 recipients, and many may wait for it.
    while (left_s := end - loop.time()) > 0 and await _one(admin, message_id, OPEN_STATES, known=True):
        await asyncio.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * 2, LAST_LOOK_S)
    found = await _message(admin, message_id)
    outcome = _outcome(found)
    yield {**rows.message(found, admin.clock()), "outcome": outcome}
    undelivered = [row.recipient for row in found if row.recipient.state is not State.DONE]
    if outcome == "failed":
        gone = [recipient for recipient in undelivered if recipient.state in _GIVEN_UP]
        raise Failed("Undelivered", f"not delivered to {_names(gone)}")
    if outcome == "waiting":
        raise Failed("StillWaiting", f"it still waits for {_names(undelivered)}")


async def _keyed(admin: Admin, key: str) -> str:
    """The id of the caller's mail with this key. Failed."""
    if not key:
        raise Failed("Usage", "say which message: its id, or --key")
    found = await admin.store.keyed(admin.caller.uid, key)
    if not found:
        raise Failed("NotFound", f"nothing was submitted with the key {key!a}")
    return found


async def _one(admin: Admin, message_id: str, states: Sequence[str], *, known: bool = False) -> bool:
    """Whether a recipient of the message is in one of these states. Failed unless the caller may know of it; one who is
    `known` to may find none."""
    what = Selector(ids=(message_id,), states=tuple(states))
    found = await anext(queue.pages(admin, what, 1, admin.clock()), None)
    caller = admin.caller
    if not found and known:
        return False
    if not found or (caller.access < Access.OPERATOR and not 0 <= caller.uid == found[0].message.peer.uid):
        raise Failed("NotFound", f"there is no message {message_id}")
    return True


async def _message(admin: Admin, message_id: str) -> Sequence[QueueRow]:
    """All recipients of the message. Failed when it is gone."""
    what = Selector(ids=(message_id,), states=queue.EVERY_STATE)
    found = list(chain.from_iterable([page async for page in queue.pages(admin, what, None, admin.clock())]))
    if not found:
        raise Failed("NotFound", f"there is no message {message_id}")
    return found


def _outcome(found: Sequence[QueueRow]) -> str:
    """ "delivered", "failed" when that is final for somebody and nobody is open any more, or "waiting"."""
    states = {row.recipient.state for row in found}
    if states == {State.DONE}:
        return "delivered"
    return "waiting" if states & queue.OPEN else "failed"


def _names(recipients: Sequence[Recipient]) -> str:
    name = recipients[0].address
    return name if len(recipients) == 1 else f"{name} and {len(recipients) - 1} more"


HANDLERS: Mapping[str, Handler] = {"queue.wait": queue_wait}
