"""Hold rules: which new mail waits for an operator. `apply` is pure; the rows are the writer's thread's."""

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from mtad.mail.envelope import Message, NewMessage, Recipient, State
from mtad.queue import bulk
from mtad.queue.audit import HoldRule

_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_COLUMNS = "id, sender, recipient, domain, user, ip, reason, who, made_at, until_at, freezes"


def matches(pattern: str, text: str) -> bool:
    """Exact, "@domain", or a glob with * and ?, case-insensitive in ASCII: as mtad.queue.selector reads it."""
    pattern, text = pattern.translate(_LOWER), text.translate(_LOWER)
    if pattern[0] == "@":
        return text.endswith(pattern) if "*" not in pattern and "?" not in pattern else _glob(f"*{pattern}", text)
    return pattern == text if "*" not in pattern and "?" not in pattern else _glob(pattern, text)


def _glob(pattern: str, text: str) -> bool:
    return fnmatchcase(text, pattern.replace("[", "[[]"))


def rule_of(rules: Sequence[HoldRule], message: Message, recipient: Recipient, now: float) -> HoldRule | None:
    """The first rule that holds this recipient."""
    for rule in rules:
        if rule.until_at and now >= rule.until_at:
            continue
        if rule.sender == "<>" and message.sender:
            continue
        pairs = (
            ("" if rule.sender == "<>" else rule.sender, message.sender),
            (rule.domain, recipient.domain),
            (rule.user, message.peer.user),
            (rule.ip, message.peer.ip),
        )
        if any(pattern and not matches(pattern, text) for pattern, text in pairs):
            continue
        if rule.recipient and not (
            matches(rule.recipient, recipient.address) or matches(rule.recipient, recipient.original)
        ):
            continue
        return rule
    return None


def apply(rules: Sequence[HoldRule], new: NewMessage, now: float) -> tuple[NewMessage, list[tuple[Recipient, int]]]:
    """The message with what a rule holds HELD, and those recipients as they were, with the number of their rule."""
    held: list[tuple[Recipient, int]] = []
    recipients: list[Recipient] = []
    for recipient in new.recipients:
        rule = rule_of(rules, new.message, recipient, now) if recipient.state is State.READY else None
        if rule is not None:
            held.append((recipient, rule.id))
            recipient = replace(recipient, state=State.HELD)
        recipients.append(recipient)
    return (replace(new, recipients=tuple(recipients)), held) if held else (new, held)


class HoldRules:
    """The rules in force, for whoever accepts mail in this thread: a change is in force with the statement that makes
    it, so that no mail slips in between it and its commit, and gone with its rollback."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._kept: Sequence[HoldRule] | None = None
        self._changing = False  # they were changed in a transaction that may yet be rolled back: nothing is kept

    def in_force(self) -> Sequence[HoldRule]:
        if self._changing:
            return self._read()
        return self.load() if self._kept is None else self._kept

    def load(self, _: None = None) -> Sequence[HoldRule]:
        """Read them again, and keep them: for after the transaction that changed them."""
        self._changing = False
        self._kept = self._read()
        return self._kept

    def _read(self) -> Sequence[HoldRule]:
        found = self._connection.execute(f"SELECT {_COLUMNS} FROM hold_rule ORDER BY id")  # noqa: S608
        return [replace(HoldRule(*row[:10]), freezes=bool(row[10])) for row in found]

    def add(self, rule: HoldRule) -> None:
        row = (
            rule.id, rule.sender, rule.recipient, rule.domain, rule.user, rule.ip, rule.reason, rule.who, rule.made_at,
            rule.until_at, int(rule.freezes),
        )  # fmt: skip
        self._changing = True
        bulk.insert(self._connection, "hold_rule", [row])

    def remove(self, number: int) -> bool:
        self._changing = True
        return self._connection.execute("DELETE FROM hold_rule WHERE id = ?", (number,)).rowcount > 0

    def thaw(self, user: str) -> list[int]:
        """End the rules that froze a user; their numbers."""
        self._changing = True
        ended = self._connection.execute("DELETE FROM hold_rule WHERE freezes AND user = ? RETURNING id", (user,))
        return [number for (number,) in ended.fetchall()]

    def sweep(self, now: float) -> bool:
        """Forget rules whose time is over. Whether there was one."""
        ended = self._connection.execute("DELETE FROM hold_rule WHERE until_at > 0 AND until_at <= ?", (now,))
        return ended.rowcount > 0
