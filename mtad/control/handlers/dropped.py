"""Mail that waits as files in the maildrop, as lines of the queue's listings: it is no mail of the queue yet."""

import asyncio
import math
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from mtad.control.admin import Admin, Row
from mtad.inbound import dropped
from mtad.inbound.dropped import Dropped
from mtad.queue.holdrules import matches
from mtad.queue.store import Selector

WORD = "maildrop"  # its state, and Postfix's name of the queue
AT_ONCE = 200
NOT_READ = "(not readable)"


async def selected(admin: Admin, what: Selector, now: float) -> AsyncGenerator[Row, None]:
    """Those that a selector means, by what a file tells: its id, from whom, to whom, its age. By others, none."""
    told = replace(what, ids=(), sender="", recipient="", domain="", older_s=None, newer_s=None, all=True)
    if told != Selector(all=True):
        return
    ids = tuple(one.partition(".")[0] for one in what.ids)
    async for row in listed(admin, None, now):
        old_s = now - row["arrival_time"]
        row["recipients"] = [one for one in row["recipients"] if _meant(what, row["sender"], one["address"])]
        aged = old_s > (what.older_s or -math.inf) and old_s < (what.newer_s or math.inf)
        if row["recipients"] and aged and (not ids or row["queue_id"].startswith(ids)):
            yield row | {"domains": _domains([one["address"] for one in row["recipients"]])}


def _meant(what: Selector, sender: str, address: str) -> bool:
    if what.sender == "<>" and sender:
        return False
    pairs = (
        ("" if what.sender == "<>" else what.sender, sender),
        (what.recipient, address),
        (what.domain and f"@{what.domain}", address),
    )
    return all(not pattern or matches(pattern, text) for pattern, text in pairs)


async def listed(admin: Admin, uid: int | None, now: float) -> AsyncGenerator[Row, None]:
    """The members of `postqueue -j`, and ours; only what this uid wrote, if it is given."""
    folder = admin.config.paths.maildrop
    names = await asyncio.to_thread(dropped.names, folder) or []
    reason = f"waits in {folder} until mtad runs" if admin.offline else f"in {folder}: it is taken in in a moment"
    for start in range(0, len(names), AT_ONCE):
        part = names[start : start + AT_ONCE]
        for one in await asyncio.to_thread(dropped.look, folder, part, uid, now):
            yield _row(one, reason)


def _row(one: Dropped, reason: str) -> Row:
    return {
        "queue_name": WORD,
        "queue_id": one.id,
        "arrival_time": int(one.at),
        "message_size": one.size_bytes,
        "forced_expire": False,
        "sender": NOT_READ if one.sender is None else one.sender,
        "recipients": [
            {
                "address": address, "orig_address": address, "delay_reason": reason, "id": f"{one.id}.{n}",
                "state": WORD, "tries": 0, "next_attempt": None, "code": None, "status": "", "error": "",
            }
            for n, address in enumerate(one.recipients or (NOT_READ,), 1)
        ],
        "state": WORD,
        "next_attempt": None,
        "expires": 0,
        "tries": 0,
        "domains": _domains(one.recipients),
        "source": WORD,
        "user": "",
        "uid": one.uid,
        "client_ip": "",
        "message_id": "",
        "subject": "",
    }  # fmt: skip


def _domains(addresses: Sequence[str]) -> list[str]:
    return sorted({address.rpartition("@")[2].lower() for address in addresses})


def as_mailq(row: Row) -> Row:
    """With the members that `queue mailq` has."""
    shown = {name: row[name] for name in ("queue_name", "queue_id", "arrival_time", "message_size", "forced_expire")}
    said = [{name: one[name] for name in ("address", "orig_address", "delay_reason")} for one in row["recipients"]]
    return {**shown, "sender": row["sender"], "recipients": said}


async def count(admin: Admin) -> int:
    """How many files there are, as far as whoever asks may know."""
    names = await asyncio.to_thread(dropped.names, admin.config.paths.maildrop)
    return len(names or ())


async def has(admin: Admin, message_id: str, now: float) -> bool:
    async for row in listed(admin, None, now):
        if row["queue_id"].startswith(message_id.partition(".")[0]):
            return True
    return False
