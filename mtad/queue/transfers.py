# ruff: noqa: S608  (the statements are put together from names of our own columns)
"""Mail that moves to another host's queue, so that it is never active on both. Runs in the writer's thread.

What goes out is taken out of the queue and parked, before its first octet is sent. What comes in is parked too. The one
word that makes it active there is told only after a receipt for all of it came back, and once the word was told
nothing brings the mail back here: `confirm` and `abort` exclude each other, durably. Whole messages move: all their
recipients that are open, held or in the trash. What is being delivered just now stays.
"""

import hashlib
import json
import math
import re
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mtad.mail import ident
from mtad.queue import trail
from mtad.queue.audit import Entry
from mtad.queue.operate import ChangeAll, Operate
from mtad.queue.store import Selector, Trash

FORMAT = 1
FAR = 9e15
"""`finished_at` of a message that is parked: it is not open, and its history is not swept."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SPOKEN = frozenset(("sender", "body", "ret", "envid", "by_mode", "address", "original", "domain", "notify", "orcpt"))
"""The columns that end up in commands to a peer."""

_COLUMNS = "id, way, state, host, at, word, digest, messages, recipients"


class TransferError(ValueError):
    """It cannot be done in the state the transfer is in; the words are for the operator."""


@dataclass(frozen=True, slots=True)
class Transfer:
    id: str
    way: str
    state: str
    host: str
    at: float
    word: str
    digest: str
    messages: int
    recipients: int

    @property
    def receipt(self) -> str:
        return f"{self.id}-{self.digest[:32]}"

    @property
    def header(self) -> dict[str, Any]:
        """The first line of what is sent."""
        word = hashlib.sha256(self.word.encode()).hexdigest() if self.way == "out" else self.word
        return {
            "mtad_transfer": FORMAT, "id": self.id, "host": self.host, "word": word, "messages": self.messages,
            "recipients": self.recipients,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Begin:
    what: Selector
    limit: int
    host: str
    entry: Entry
    now: float


@dataclass(frozen=True, slots=True)
class Packed:
    """One message as it travels. `data` is None for a body that is a file."""

    number: int
    message: dict[str, Any]
    recipients: list[dict[str, Any]]
    attempts: list[dict[str, Any]]
    head: bytes
    data: bytes | None


class Transfers:
    def __init__(self, connection: sqlite3.Connection, operate: Operate) -> None:
        self._connection = connection
        self._operate = operate

    # --- out

    def begin(self, ask: Begin) -> Transfer | None:
        """Take what is selected out of the queue. None when nothing is. Its line in the trail is written with it."""
        one = self._connection.execute
        self._operate.pick(ChangeAll(ask.what, Trash(), ask.now, ask.limit))
        numbers = [
            number
            for (number,) in one(
                "SELECT DISTINCT message FROM temp.picked WHERE message NOT IN"
                " (SELECT message FROM temp.lease WHERE until > ?) ORDER BY message",
                (ask.now,),
            )
        ]
        if not numbers:
            return None
        rows = [row for number in numbers for row in self._open(number)]
        transfer = Transfer(
            secrets.token_hex(6), "out", "sent", ask.host, ask.now, secrets.token_hex(16), "", len(numbers), len(rows)
        )
        self._put(transfer)
        self._connection.executemany(
            "INSERT INTO parked VALUES (?, ?, ?, ?)",
            [(row["message"], row["n"], transfer.id, _json(row)) for row in rows],
        )
        self._leave(numbers)
        trail.record(self._connection, ask.entry, len(rows), ask.now)
        return transfer

    def packed(self, asked: tuple[str, int, int]) -> Sequence[Packed]:
        """Messages of a transfer after that number, at most so many."""
        transfer_id, after, limit = asked
        numbers = self._connection.execute(
            "SELECT DISTINCT message FROM parked WHERE transfer = ? AND message > ? ORDER BY message LIMIT ?",
            (transfer_id, after, limit),
        ).fetchall()
        return [self._pack(transfer_id, number) for (number,) in numbers]

    def sent(self, asked: tuple[str, str, float]) -> None:
        """It was sent to its end: the digest of all of it."""
        transfer_id, digest, now = asked
        self._connection.execute(
            "UPDATE transfer SET digest = ?, at = ? WHERE id = ? AND state = 'sent'", (digest, now, transfer_id)
        )

    def confirm(self, asked: tuple[str, float, Entry]) -> tuple[Transfer, list[str]]:
        """The other side has all of it: it is theirs. The transfer, and which messages have a file that may go."""
        receipt, now, entry = asked
        transfer = self.find(receipt.partition("-")[0], "out")
        if transfer.state == "aborted":
            raise TransferError(f"transfer {transfer.id} was aborted: the mail is in the queue here")
        if not transfer.digest or receipt != transfer.receipt:
            raise TransferError(f"that is no receipt for all of transfer {transfer.id}: send it again with --resume")
        files = []
        if transfer.state == "sent":
            numbers = self._numbers(transfer.id)
            files = [
                ident.from_int(number)
                for number in numbers
                if self._one("SELECT data IS NULL FROM body WHERE id = ?", number) == (1,)
            ]
            self._connection.executemany("DELETE FROM body WHERE id = ?", [(number,) for number in numbers])
            self._connection.executemany(
                "UPDATE message SET finished_at = ? WHERE id = ?", [(now, number) for number in numbers]
            )
            self._connection.execute("DELETE FROM parked WHERE transfer = ?", (transfer.id,))
            self._move(transfer.id, "confirmed", now)
            trail.record(self._connection, entry, transfer.recipients, now)
        return self.find(transfer.id, "out"), files

    def abort(self, asked: tuple[str, float, Entry]) -> Transfer:
        """The mail is in the queue again, as it was."""
        transfer_id, now, entry = asked
        transfer = self.find(transfer_id, "out")
        if transfer.state == "confirmed":
            raise TransferError(f"transfer {transfer.id} was confirmed: the mail is the other host's")
        if transfer.state == "sent":
            self._enter(transfer.id)
            self._move(transfer.id, "aborted", now)
            trail.record(self._connection, entry, transfer.recipients, now)
        return self.find(transfer.id, "out")

    # --- in

    def known(self, transfer_id: str) -> Transfer | None:
        """One that came in whole before."""
        row = self._connection.execute(
            f"SELECT {_COLUMNS} FROM transfer WHERE id = ? AND way = 'in'", (transfer_id,)
        ).fetchone()
        return None if row is None else Transfer(*row)

    def expect(self, asked: tuple[Transfer, Sequence[int]]) -> None:
        """It is about to be parked. TransferError when one of these messages is here: its file must not be touched."""
        transfer, numbers = asked
        for number in numbers:
            self._check_new(number)
        if self._one("SELECT 1 FROM transfer WHERE id = ? AND way = 'out'", transfer.id) is not None:
            raise TransferError("it comes from this very queue")
        self._put(transfer)

    def receive(self, asked: tuple[str, Sequence[Packed]]) -> None:
        """Park some of it. TransferError when a message is here already, or is none: once the other host let go of it,
        it is too late to find that out."""
        transfer_id, messages = asked
        try:
            for packed in messages:
                self._unpack(transfer_id, packed)
        except (
            sqlite3.IntegrityError,
            sqlite3.InterfaceError,
            sqlite3.ProgrammingError,
            sqlite3.DataError,
            OverflowError,
        ) as error:
            raise TransferError(f"it is no mail of ours: {error}") from None

    def received(self, asked: tuple[str, float, Entry]) -> Transfer:
        """All of it is parked."""
        transfer_id, now, entry = asked
        transfer = self.find(transfer_id, "in")
        parked = self._one("SELECT count(DISTINCT message), count(*) FROM parked WHERE transfer = ?", transfer_id)
        if parked != (transfer.messages, transfer.recipients):
            raise TransferError("not all of it could be stored")
        self._move(transfer_id, "received", now)
        transfer = self.find(transfer_id, "in")
        trail.record(self._connection, entry, transfer.recipients, now)
        return transfer

    def activate(self, asked: tuple[str, float, Entry]) -> Transfer:
        """The other side let go of it: the mail is ours. `asked` begins with the id and the word."""
        confirmation, now, entry = asked
        transfer_id, _, word = confirmation.partition("-")
        transfer = self.find(transfer_id, "in")
        if hashlib.sha256(word.encode()).hexdigest() != transfer.word:
            raise TransferError(f"that is not the confirmation of transfer {transfer.id}")
        if transfer.state == "coming":
            raise TransferError(f"transfer {transfer.id} is not here as a whole: send it again with --resume")
        if transfer.state == "received":
            self._enter(transfer.id)
            self._move(transfer.id, "active", now)
            trail.record(self._connection, entry, transfer.recipients, now)
        return self.find(transfer.id, "in")

    def discard(self, asked: tuple[str, float, Entry]) -> tuple[Transfer, list[str]]:
        """Forget what came in and is not active; what was aborted there. Which messages have a file that may go."""
        transfer_id, now, entry = asked
        transfer = self.find(transfer_id, "in")
        if transfer.state == "active":
            raise TransferError(f"transfer {transfer.id} is active: it is the mail of this queue now")
        numbers = self._numbers(transfer.id)
        self._connection.execute("DELETE FROM parked WHERE transfer = ?", (transfer.id,))
        for number in numbers:
            if self._one("SELECT 1 FROM recipient WHERE message = ?", number) is None:
                self._connection.execute("DELETE FROM message WHERE id = ?", (number,))
            else:  # it was here before, and ended
                self._connection.execute("UPDATE message SET finished_at = ? WHERE id = ?", (now, number))
                self._connection.execute("DELETE FROM body WHERE id = ?", (number,))
        self._connection.execute("DELETE FROM transfer WHERE id = ?", (transfer.id,))
        trail.record(self._connection, entry, transfer.recipients, now)
        return transfer, [ident.from_int(number) for number in numbers]

    # --- both

    def find(self, transfer_id: str, way: str = "") -> Transfer:
        row = self._connection.execute(
            f"SELECT {_COLUMNS} FROM transfer WHERE id = ?1 AND ?2 IN ('', way)", (transfer_id, way)
        ).fetchone()
        if row is None:
            raise TransferError(f"there is no transfer {transfer_id[:40]!a} here")
        return Transfer(*row)

    def all(self, _: None) -> Sequence[Transfer]:
        return [Transfer(*row) for row in self._connection.execute(f"SELECT {_COLUMNS} FROM transfer ORDER BY at")]

    def _one(self, sql: str, *params: object) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._connection.execute(sql, params).fetchone()
        return row

    def _open(self, number: int) -> Iterator[dict[str, Any]]:
        yield from self._dicts("SELECT * FROM recipient WHERE message = ? AND state IN (0, 2, 5) ORDER BY n", number)

    def _dicts(self, sql: str, *params: object) -> list[dict[str, Any]]:
        found = self._connection.execute(sql, params)
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found]

    def _put(self, transfer: Transfer) -> None:
        values = [getattr(transfer, name.strip()) for name in _COLUMNS.split(",")]
        self._connection.execute(f"INSERT INTO transfer VALUES ({', '.join('?' * len(values))})", values)

    def _move(self, transfer_id: str, state: str, now: float) -> None:
        self._connection.execute("UPDATE transfer SET state = ?, at = ? WHERE id = ?", (state, now, transfer_id))

    def _numbers(self, transfer_id: str) -> list[int]:
        found = self._connection.execute("SELECT DISTINCT message FROM parked WHERE transfer = ?", (transfer_id,))
        return [number for (number,) in found]

    def _leave(self, numbers: Sequence[int]) -> None:
        """Out of the queue. Who had leased it for too long has lost it: an outcome that comes now would count it as
        ended, and drop its body."""
        self._connection.executemany("DELETE FROM temp.lease WHERE message = ?", [(number,) for number in numbers])
        self._connection.executemany(
            "DELETE FROM recipient WHERE message = ? AND state IN (0, 2, 5)", [(number,) for number in numbers]
        )
        self._connection.executemany(
            "UPDATE message SET finished_at = ? WHERE id = ?", [(FAR, number) for number in numbers]
        )

    def _enter(self, transfer_id: str) -> None:
        """Into the queue, as it was."""
        numbers = self._numbers(transfer_id)
        parked = self._connection.execute("SELECT data FROM parked WHERE transfer = ?", (transfer_id,)).fetchall()
        for (data,) in parked:
            self._insert("recipient", json.loads(data))
        self._connection.executemany(
            "UPDATE message SET finished_at = NULL WHERE id = ?", [(number,) for number in numbers]
        )
        self._connection.execute("DELETE FROM parked WHERE transfer = ?", (transfer_id,))

    def _pack(self, transfer_id: str, number: int) -> Packed:
        (message,) = self._dicts("SELECT * FROM message WHERE id = ?", number)
        message["digest"] = message["digest"].hex()
        message["finished_at"] = None
        rows = self._dicts(
            "SELECT n, data FROM parked WHERE transfer = ? AND message = ? ORDER BY n", transfer_id, number
        )
        recipients = [json.loads(row["data"]) for row in rows]
        attempts = self._dicts("SELECT * FROM attempt WHERE message = ? ORDER BY id", number)
        for attempt in attempts:
            attempt["id"] = None
        numbers = {row["n"] for row in rows}
        found = self._one("SELECT head, data FROM body WHERE id = ?", number)
        if found is None:
            raise TransferError(f"message {ident.from_int(number)} has no body: abort, and purge it")
        attempts = [attempt for attempt in attempts if attempt["n"] in numbers]
        return Packed(number, message, recipients, attempts, found[0], found[1])

    def _unpack(self, transfer_id: str, packed: Packed) -> None:
        number = packed.number
        self._check_new(number)
        for row in (packed.message, *packed.recipients, *packed.attempts):
            _check(row)
        message = {**packed.message, "id": number, "digest": bytes.fromhex(packed.message["digest"])}
        message["finished_at"] = FAR
        if self._one("SELECT 1 FROM message WHERE id = ?", number) is None:
            self._insert("message", message)
        else:  # it was here once, and comes back
            self._connection.execute("UPDATE message SET finished_at = ? WHERE id = ?", (FAR, number))
        self._insert("body", {"id": number, "head": packed.head, "data": packed.data})
        known = {
            (row["n"], row["started_at"]) for row in self._dicts("SELECT * FROM attempt WHERE message = ?", number)
        }
        for attempt in packed.attempts:
            if (attempt["n"], attempt["started_at"]) not in known:
                self._insert("attempt", {**attempt, "id": None, "message": number})
        for row in packed.recipients:
            if row["message"] != number or row["state"] not in (0, 2, 5):
                raise TransferError("it comes from a newer mtad: upgrade this one first")
            self._insert("recipient", row)  # whether it can be there
            self._connection.execute("DELETE FROM recipient WHERE message = ? AND n = ?", (number, row["n"]))
            self._connection.execute(
                "INSERT INTO parked VALUES (?, ?, ?, ?)", (number, row["n"], transfer_id, _json(row))
            )

    def _check_new(self, number: int) -> None:
        there = self._one("SELECT 1 FROM body WHERE id = ?1 UNION ALL SELECT 1 FROM parked WHERE message = ?1", number)
        if there is not None:
            raise TransferError(f"message {ident.from_int(number)} is in this queue already")

    def _insert(self, table: str, row: dict[str, Any]) -> None:
        columns = {one[1] for one in self._connection.execute(f"PRAGMA table_info({table})")}
        if not row.keys() <= columns:
            raise TransferError("it comes from a newer mtad: upgrade this one first")
        marks = ", ".join("?" * len(row))
        self._connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))


def _check(row: dict[str, Any]) -> None:
    """What the types of the columns let pass."""
    for name, value in row.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise TransferError(f"it is no mail of ours: {name} is no number")
        if name in _SPOKEN and isinstance(value, str) and _CONTROL.search(value):
            raise TransferError(f"it is no mail of ours: a control character in {name}")


def _json(row: dict[str, Any]) -> str:
    return json.dumps(row, separators=(",", ":"))
