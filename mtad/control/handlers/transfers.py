"""Mail on its way to another host's queue: what is sent, as lines of JSON, and how it is taken in.

The first line names the transfer; a line for each message is followed by its body's octets; the last one has the
digest of all before it. Nothing is stored before that was compared.
"""

import asyncio
import hashlib
import json
import os
import re
from base64 import b64decode, b64encode
from collections.abc import AsyncGenerator, Awaitable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from mtad.control.admin import Admin, Args, Failed, Handler, Row
from mtad.control.handlers.queue import selector
from mtad.control.handlers.rows import seconds
from mtad.mail import ident
from mtad.queue import files
from mtad.queue.transfers import FORMAT, Begin, Packed, Transfer, TransferError, Transfers

PAGE = 50  # messages in a transaction
OCTETS_PER_LINE = 192 * 1024
LINE_MAX_BYTES = 16 << 20  # a message with ten thousand recipients

R = TypeVar("R")
_ID = re.compile(r"[0-9a-f]{12}")


async def transfer_list(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    for transfer in await admin.store.transfer(lambda them: them.all(None), read=True):
        yield _row(transfer)


async def transfer_begin(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    ask = Begin(selector(args), args["limit"] or 0, admin.config.hostname, admin.entry, admin.clock())
    try:
        transfer = await admin.store.transfer(lambda them: them.begin(ask))
    except ValueError as error:
        raise Failed("Usage", str(error)) from None
    if transfer is None:
        raise Failed("NothingMatched", "nothing matched that is not being delivered just now")
    yield _row(transfer) | {"audit": 0}


async def transfer_send(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    transfer = await _do(admin.store.transfer(lambda them: them.find(args["id"], "out"), read=True))
    if transfer.state != "sent":
        raise Failed("BadData", f"transfer {transfer.id} is {transfer.state}")
    digest = hashlib.sha256()

    def row(line: Mapping[str, Any]) -> Row:
        text = json.dumps(line, separators=(",", ":"))
        digest.update(text.encode() + b"\n")
        return {"line": text}

    yield row(transfer.header)
    after = 0
    while page := await _do(admin.store.transfer(partial(_packed, transfer.id, after), read=True)):
        for packed in page:
            after = packed.number
            yield row(
                {
                    "message": packed.message, "recipients": packed.recipients, "attempts": packed.attempts,
                    "head": b64encode(packed.head).decode(), "file": packed.data is None,
                }
            )  # fmt: skip
            async for octets in _body(admin, packed):
                yield row({"octets": b64encode(octets).decode()})
    total = digest.hexdigest()
    await admin.store.transfer(lambda them: them.sent((transfer.id, total, admin.clock())))
    yield {"line": json.dumps({"end": transfer.id, "sha256": total})}


def _packed(transfer_id: str, after: int, them: Transfers) -> Any:
    return them.packed((transfer_id, after, PAGE))


async def _body(admin: Admin, packed: Packed) -> AsyncGenerator[bytes, None]:
    if packed.data is not None:
        for start in range(0, len(packed.data), OCTETS_PER_LINE):
            yield packed.data[start : start + OCTETS_PER_LINE]
        return
    path = f"{admin.config.paths.spool}/{ident.from_int(packed.number)}"
    try:
        with await asyncio.to_thread(open, path, "rb") as file:
            while octets := await asyncio.to_thread(file.read, OCTETS_PER_LINE):
                yield octets
    except OSError as error:
        raise Failed("Busy", f"{path}: {error.strerror}") from None


async def transfer_confirm(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    asked = (args["receipt"], admin.clock(), admin.entry)
    transfer, gone = await _do(admin.store.transfer(lambda them: them.confirm(asked)))
    await asyncio.to_thread(files.delete, admin.config.paths.spool, gone)
    yield _row(transfer) | {"confirmation": f"{transfer.id}-{transfer.word}", "audit": 0}


async def transfer_abort(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    asked = (args["id"], admin.clock(), admin.entry)
    transfer = await _do(admin.store.transfer(lambda them: them.abort(asked)))
    admin.app.wake()
    yield _row(transfer) | {"audit": 0}


async def transfer_receive(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    """Parts are written to a file; the last one makes rows of it."""
    transfer_id = args["id"]
    if not _ID.fullmatch(transfer_id):
        raise Failed("BadData", "that is no transfer of mtad")
    path = f"{admin.config.paths.spool}/{files.TRANSFER}{transfer_id}"
    try:
        await asyncio.to_thread(_append, path, args["octets"], args["part"] == 1)
        if not args["last"]:
            yield {"id": transfer_id, "state": "coming", "audit": 0}
            return
        try:
            transfer = await _take_in(admin, transfer_id, path)
        finally:
            with suppress(OSError):
                os.unlink(path)
    except OSError as error:
        raise Failed("Busy", f"{error.filename or path}: {error.strerror or error}") from None
    yield _row(transfer) | {"audit": 0}


async def transfer_activate(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    asked = (args["confirmation"], admin.clock(), admin.entry)
    transfer = await _do(admin.store.transfer(lambda them: them.activate(asked)))
    admin.app.wake()
    yield _row(transfer) | {"audit": 0}


async def transfer_discard(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    asked = (args["id"], admin.clock(), admin.entry)
    transfer, gone = await _do(admin.store.transfer(lambda them: them.discard(asked)))
    await asyncio.to_thread(files.delete, admin.config.paths.spool, gone)
    yield _row(transfer) | {"state": "discarded", "audit": 0}


async def _take_in(admin: Admin, transfer_id: str, path: str) -> Transfer:
    """Compare first, then store so many messages at a time; it counts as received when it has all of them."""
    transfer, numbers = await _do(asyncio.to_thread(_judged, path, transfer_id))
    store, spool, now = admin.store, admin.config.paths.spool, admin.clock()
    known = await store.transfer(lambda them: them.known(transfer_id), read=True)
    if known is not None and known.state != "coming":
        if known.digest != transfer.digest:
            raise Failed("BadData", f"transfer {transfer_id} was received before, and was another one")
        return known
    if known is not None:
        await _do(store.transfer(lambda them: them.discard((transfer_id, now, admin.entry))))
    await _do(store.transfer(lambda them: them.expect((replace(transfer, state="coming", at=now), numbers))))
    try:
        messages = _messages(path, spool)
        while page := await _do(asyncio.to_thread(_some, messages)):
            await _do(store.transfer(lambda them, page=page: them.receive((transfer_id, page))))  # type: ignore[misc]
        return await _do(store.transfer(lambda them: them.received((transfer_id, now, admin.entry))))
    except Failed:
        _, gone = await _do(store.transfer(lambda them: them.discard((transfer_id, now, admin.entry))))
        await asyncio.to_thread(files.delete, spool, gone)
        raise


def _append(path: str, octets: bytes, first: bool) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_TRUNC if first else os.O_APPEND)
    with open(os.open(path, flags, 0o600), "wb") as file:
        file.write(octets)


def _judged(path: str, transfer_id: str) -> tuple[Transfer, list[int]]:
    """The transfer in a file, all of whose lines were compared, and the numbers of its messages. TransferError."""
    digest, ended = hashlib.sha256(), ""
    header: dict[str, Any] = {}
    numbers: list[int] = []
    recipients = 0
    body: Any = None  # the digest of the message's octets so far, its head, and what it should be
    for line, found in _lines(path):
        if ended:
            raise TransferError("something follows its end")
        if "end" in found:
            _compare(body)
            if found["end"] != transfer_id or found.get("sha256") != digest.hexdigest():
                raise TransferError("it was changed on its way")
            ended = digest.hexdigest()
            continue
        digest.update(line)
        if not header:
            header = found
        elif "message" in found:
            _compare(body)
            numbers.append(ident.to_int(ident.from_int(found["message"]["id"])))
            recipients += len(found["recipients"])
            body = [hashlib.sha256(), b64decode(found["head"]), found["message"]["digest"]]
        elif body is not None:
            body[0].update(b64decode(found["octets"]))
    if not ended:
        raise TransferError("it ends too early")
    if header.get("mtad_transfer") != FORMAT or header.get("id") != transfer_id:
        raise TransferError("it is no transfer of mtad, or of a newer version")
    if (len(numbers), recipients) != (header.get("messages"), header.get("recipients")):
        raise TransferError("it is not complete")
    host, word = str(header["host"])[:255], str(header["word"])
    return Transfer(transfer_id, "in", "received", host, 0.0, word, ended, len(numbers), recipients), numbers


def _compare(body: Any) -> None:
    if body is not None and body[2]:
        body[0].update(body[1])
        if body[0].hexdigest() != body[2]:
            raise TransferError("a message in it is damaged: abort the transfer, and look at `queue body` there")


def _messages(path: str, spool: str) -> Iterator[Packed]:
    """The messages of a file that was judged. Large bodies become files, durable before their message is seen."""
    now: dict[str, Any] = {}
    parts: list[bytes] = []
    writer: files.BodyWriter | None = None

    def done() -> Iterator[Packed]:
        if now:
            if writer is not None:
                writer.finish()
            yield Packed(
                now["message"]["id"], now["message"], now["recipients"], now["attempts"], b64decode(now["head"]),
                None if writer is not None else b"".join(parts),
            )  # fmt: skip

    for _, found in _lines(path):
        if "message" in found or "end" in found:
            yield from done()
            now, parts, writer = found if "message" in found else {}, [], None
            if now and now["file"]:
                name = ident.from_int(now["message"]["id"])
                files.delete(spool, [name, f"{name}.new"])  # of a try that was cut off
                writer = files.BodyWriter(spool, name)
        elif "octets" in found:
            octets = b64decode(found["octets"])
            if writer is not None:
                writer.write(octets)
            else:
                parts.append(octets)


def _some(messages: Iterator[Packed]) -> list[Packed]:
    return list(islice(messages, PAGE))


def _lines(path: str) -> Iterator[tuple[bytes, dict[str, Any]]]:
    with open(path, "rb") as file:
        while line := file.readline(LINE_MAX_BYTES):
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                raise TransferError("it was changed or cut off on its way") from None
            if not isinstance(found, dict):
                raise TransferError("it is no transfer of mtad")
            yield line, found


async def _do(work: Awaitable[R]) -> R:
    """Whatever is wrong with what another host sent, or with the state of a transfer, is told as such."""
    try:
        return await work
    except TransferError as error:
        raise Failed("BadData", str(error)) from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Failed("BadData", f"it is no transfer of mtad: {type(error).__name__}") from None


def _row(transfer: Transfer) -> Row:
    return {
        "id": transfer.id,
        "way": transfer.way,
        "state": transfer.state,
        "host": transfer.host,
        "changed_at": seconds(transfer.at),
        "messages": transfer.messages,
        "recipients": transfer.recipients,
        "receipt": transfer.receipt if transfer.digest and transfer.state != "coming" else "",
    }


HANDLERS: Mapping[str, Handler] = {
    "transfer.list": transfer_list,
    "transfer.begin": transfer_begin,
    "transfer.send": transfer_send,
    "transfer.confirm": transfer_confirm,
    "transfer.abort": transfer_abort,
    "transfer.receive": transfer_receive,
    "transfer.activate": transfer_activate,
    "transfer.discard": transfer_discard,
}
