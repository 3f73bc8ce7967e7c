# ruff: noqa: S608  (the statements are put together from constants of ours)
"""The life of a message in the database: accept, lease, renew, settle. Runs in the writer's thread, many at a time.

What is due it asks of mtad.queue.due.
"""

import json
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from mtad.mail import ident
from mtad.mail.envelope import Clock, Job, Message, NewMessage, Recipient, State
from mtad.queue import bulk, damage, holdrules, keys, people, rows
from mtad.queue.audit import HoldRule
from mtad.queue.due import Due, Lease, LeaseOld
from mtad.queue.holdrules import HoldRules
from mtad.queue.rows import MESSAGE, Row
from mtad.queue.store import Merge, Settlement, Unsound
from mtad.queue.store import Row as Found

_RECENT_MAX = 10_000
_ENDED = (State.DONE, State.FAILED)

_MESSAGES = f"SELECT {MESSAGE} FROM message m WHERE m.id IN ({{keys}})"

_OUTCOME = """
UPDATE recipient SET state = v.column3, tries = v.column4, next_at = v.column5, warned_at = v.column6,
    last_code = v.column7, last_status = v.column8, last_text = v.column9, last_host = v.column10,
    last_stage = v.column11, last_cause = v.column12, error = v.column13
FROM ({rows}) AS v WHERE recipient.message = v.column1 AND recipient.n = v.column2
"""

# The operator was here meanwhile: keep the state and the time, add what was learnt.
_LEARNT = """
UPDATE recipient SET tries = v.column3, warned_at = v.column4,
    last_code = v.column5, last_status = v.column6, last_text = v.column7, last_host = v.column8,
    last_stage = v.column9, last_cause = v.column10, error = v.column11
FROM ({rows}) AS v WHERE recipient.message = v.column1 AND recipient.n = v.column2
"""

# Recipients that nobody has tried, leased or changed, and all of them.
_WAITS = """
SELECT count(*), coalesce(sum(state = 0 AND tries = 0
    AND NOT EXISTS (SELECT 1 FROM temp.lease l WHERE l.message = r.message AND l.n = r.n)
    AND NOT EXISTS (SELECT 1 FROM touched t WHERE t.message = r.message AND t.n = r.n)), 0)
FROM recipient r WHERE message = ?
"""

_HELD = "SELECT message, n, lease, changed FROM temp.lease WHERE message IN ({keys})"
_RELEASE = "DELETE FROM temp.lease WHERE lease IN (SELECT value FROM json_each(?)) AND message IN ({keys})"
_CONFIRMED = """
SELECT l.n, r.address, r.domain FROM temp.lease l CROSS JOIN recipient r ON r.message = l.message AND r.n = l.n
WHERE l.message = ? AND l.lease = ? AND r.state = 0 AND (r.next_at <= ? OR NOT l.changed)
"""
_ADDRESSES = "SELECT n, address, domain FROM recipient WHERE message = ?"
_STILL_OPEN = "SELECT DISTINCT message FROM recipient WHERE +state IN (0, 2, 5) AND message IN ({keys})"


@dataclass(frozen=True, slots=True)
class Settled:
    """`done` is False when the lease was lost, or when recipients that were to fail go `elsewhere` by now. `closed`:
    nothing of the message is open any more; `file`: and its body is a file that may go now."""

    done: bool
    closed: bool
    file: bool
    elsewhere: frozenset[int] = frozenset()


class Cycle:
    def __init__(self, connection: sqlite3.Connection, clock: Clock, rules: HoldRules) -> None:
        self._connection = connection
        self._clock = clock
        self.last_lease = 0  # the number of the newest
        self._rules = rules
        self._due = Due(connection)
        self._recent: OrderedDict[int, Message] = OrderedDict()  # what most leases ask for, so that it is not read back

    def accept(self, new: Sequence[NewMessage]) -> Sequence[str]:
        """The id under which each is stored: its own, or of the first that came with its key."""
        ids = [item.message.id for item in new]
        if any(item.key for item in new):
            ids = keys.claim(self._connection, new)
            new = [item for item, stored_id in zip(new, ids, strict=True) if stored_id == item.message.id]
            if not new:
                return ids
        messages: list[Row] = []
        recipients: list[Row] = []
        bodies: list[Row] = []
        touched: list[Row] = []
        rules = self._rules.in_force()
        if rules:
            new = [self._held(item, rules, touched) for item in new]
        for item in new:
            number = ident.to_int(item.message.id)
            ended = all(recipient.state in _ENDED for recipient in item.recipients)
            messages.append(rows.of_message(number, item.message, self._clock() if ended else None))
            priority = item.message.priority
            recipients += [rows.of_recipient(number, recipient, priority) for recipient in item.recipients]
            bodies.append((number, item.head, None if isinstance(item.body, str) else item.body))
            self._recent[number] = item.message
        bulk.insert(self._connection, "message", messages)
        bulk.insert(self._connection, "body", bodies)
        bulk.insert(self._connection, "recipient", recipients)
        bulk.insert(self._connection, "touched", touched)
        users = [item for item in new if item.message.peer.user]
        if users:
            people.record(self._connection, users)
        while len(self._recent) > _RECENT_MAX:
            self._recent.popitem(last=False)
        return ids

    def _held(self, new: NewMessage, rules: Sequence[HoldRule], touched: list[Row]) -> NewMessage:
        """What a rule holds comes in held, and remembers the rule."""
        new, held = holdrules.apply(rules, new, self._clock())
        number = ident.to_int(new.message.id)
        touched += [(number, was.n, rule, int(was.state), was.next_at, "", "") for was, rule in held]
        return new

    def claim(self, found: Sequence[Found], until: float) -> Sequence[Job]:
        """Lease these recipients, in the order of their ids; one job a message."""
        jobs: list[Job] = []
        leases: list[Row] = []
        for message, group in groupby(found, key=lambda row: row.message):
            self.last_lease = lease = self.last_lease + 1
            recipients = tuple([row.recipient for row in group])
            jobs.append(Job(message, "", recipients, until, lease))
            leases += [(ident.to_int(message.id), one.n, until, lease, 0) for one in recipients]
        bulk.insert(self._connection, "temp.lease", leases, replace=True)
        return jobs

    def lease(self, want: Lease) -> Sequence[Job]:
        return self._sound(lambda: self._due.first(want), want.until)

    def lease_old(self, want: LeaseOld) -> Sequence[Job]:
        return self._sound(lambda: self._due.old(want), want.until)

    def _sound(self, due: Callable[[], list[Row]], until: float) -> Sequence[Job]:
        """Unsound when one of the rows cannot be used: none is leased then."""
        before = damage.spoiled(self._connection)
        try:
            jobs = self._leased(due(), until)
        except (LookupError, ValueError, TypeError) as error:
            raise Unsound(f"a row of the queue is damaged ({type(error).__name__}): see `mtactl check`") from None
        if damage.spoiled(self._connection) != before:
            raise Unsound("a text in a row of the queue is damaged: see `mtactl check`")
        return jobs

    def _leased(self, due: list[Row], until: float) -> Sequence[Job]:
        groups: dict[tuple[int, str], list[Row]] = {}
        for row in due:
            groups.setdefault((row[0], row[4]), []).append(row)
        messages = self._messages({number for number, _ in groups})
        jobs: list[Job] = []
        leases: list[Row] = []
        for (number, domain), group in groups.items():
            self.last_lease = lease = self.last_lease + 1
            message = messages[number]
            recipients = tuple([rows.recipient_of(message.id, row[1:], leased=True) for row in group])
            jobs.append(Job(message, domain, recipients, until, lease))
            leases += [(number, recipient.n, until, lease, 0) for recipient in recipients]
        bulk.insert(self._connection, "temp.lease", leases, replace=True)  # over expired ones
        return jobs

    def _messages(self, numbers: set[int]) -> dict[int, Message]:
        messages = {number: self._recent[number] for number in numbers if number in self._recent}
        for row in bulk.by_keys(self._connection, _MESSAGES, [*numbers.difference(messages)]):
            messages[row[0]] = rows.message_of(row)
        return messages

    def renew(self, renewal: tuple[Job, float]) -> bool:
        job, until = renewal
        mine = (ident.to_int(job.message.id), job.lease)
        done = self._connection.execute(
            "UPDATE temp.lease SET until = ? WHERE message = ? AND lease = ?", (until, *mine)
        )
        if done.rowcount == len(job.recipients):
            return True
        self._connection.execute("DELETE FROM temp.lease WHERE message = ? AND lease = ?", mine)
        return False

    def release(self, jobs: Sequence[Job]) -> None:
        numbers = [ident.to_int(job.message.id) for job in jobs]
        bulk.by_keys(self._connection, _RELEASE, numbers, before=(json.dumps([job.lease for job in jobs]),))

    def confirm(self, asked: tuple[Job, float]) -> Job | None:
        job, now = asked
        mine = (ident.to_int(job.message.id), job.lease)
        # An operator may have redirected one: the address that was leased is not the one it goes to now.
        still = set(self._connection.execute(_CONFIRMED, (*mine, now)))
        kept = {one.n for one in job.recipients if (one.n, one.address, one.domain) in still}
        if len(kept) == len(job.recipients):
            return job
        self._connection.executemany(
            "DELETE FROM temp.lease WHERE message = ? AND lease = ? AND n = ?",
            [(*mine, recipient.n) for recipient in job.recipients if recipient.n not in kept],
        )
        left = tuple([recipient for recipient in job.recipients if recipient.n in kept])
        return replace(job, recipients=left) if left else None

    def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settled]:
        numbers = [ident.to_int(settlement.job.message.id) for settlement in settlements]
        held = {
            (message, n): (lease, changed)
            for message, n, lease, changed in bulk.by_keys(self._connection, _HELD, numbers)
        }
        mine: list[tuple[int, Settlement]] = []
        attempts: list[Row] = []
        outcomes: list[Row] = []
        learnt: list[Row] = []
        done: list[bool] = []
        moved: list[frozenset[int]] = []  # a failure of the old address is none of the new one
        for number, settlement in zip(numbers, settlements, strict=True):
            job = settlement.job
            keys = [(number, recipient.n) for recipient in job.recipients]
            owned = all(held.get(key, (0, 0))[0] == job.lease for key in keys)
            elsewhere = self._elsewhere(job) if owned and any(held[key][1] for key in keys) else frozenset()
            failing = {recipient.n for recipient in settlement.changes if recipient.state is State.FAILED}
            moved.append(elsewhere & failing)
            owned = owned and not moved[-1]
            done.append(owned)
            if not owned:
                continue
            mine.append((number, settlement))
            attempts += [rows.of_attempt(number, attempt) for attempt in settlement.attempts]
            for recipient in settlement.changes:
                _, changed = held.get((number, recipient.n), (0, 0))
                if recipient.n in elsewhere and recipient.state not in _ENDED:
                    continue
                if changed and recipient.state not in _ENDED:
                    learnt.append(_learnt(number, recipient))
                else:
                    outcomes.append(_outcome(number, recipient))
            for key in keys:
                del held[key]  # a second settlement of the same job has lost it
        bulk.insert(self._connection, "attempt", attempts)
        bulk.update(self._connection, _OUTCOME, outcomes)
        bulk.update(self._connection, _LEARNT, learnt)
        spawned = [(number, new) for number, settlement in mine for new in settlement.spawn]
        spawned += [(number, self._merged(merge)) for number, settlement in mine for merge in settlement.merges]
        if spawned:
            self.accept([new for _, new in spawned])
            told = [(number, ident.to_int(new.message.id)) for number, new in spawned]
            bulk.insert(self._connection, "report", told, replace=True)
        settled = [number for number, _ in mine]
        leases = json.dumps([settlement.job.lease for _, settlement in mine])
        bulk.by_keys(self._connection, _RELEASE, settled, before=(leases,))
        closed = finish(self._connection, settled, self._clock())
        return [
            Settled(owned, number in closed, closed.get(number, False), elsewhere)
            for number, owned, elsewhere in zip(numbers, done, moved, strict=True)
        ]

    def _elsewhere(self, job: Job) -> frozenset[int]:
        """The recipients of a job that an operator redirected since it was leased."""
        was = {one.n: (one.address, one.domain) for one in job.recipients}
        found = self._connection.execute(_ADDRESSES, (ident.to_int(job.message.id),))
        return frozenset(n for n, *now in found if was.get(n, tuple(now)) != tuple(now))

    def _merged(self, merge: Merge) -> NewMessage:
        number = ident.to_int(merge.whole.message.id)
        every, untouched = self._connection.execute(_WAITS, (number,)).fetchone()
        if not every or every != untouched:
            return merge.alone
        self._connection.execute("DELETE FROM message WHERE id = ?", (number,))
        return merge.whole


def finish(connection: sqlite3.Connection, numbers: Sequence[int], now: float) -> dict[int, bool]:
    """Drop the bodies of those messages that have no open recipient any more. Number -> whether a file may go now."""
    still_open = {message for (message,) in bulk.by_keys(connection, _STILL_OPEN, numbers)}
    closed = [number for number in numbers if number not in still_open]
    bulk.by_keys(
        connection, "UPDATE message SET finished_at = ? WHERE finished_at IS NULL AND id IN ({keys})", closed, (now,)
    )
    dropped = bulk.by_keys(connection, "DELETE FROM body WHERE id IN ({keys}) RETURNING id, data IS NULL", closed)
    return {**dict.fromkeys(closed, False), **{number: bool(is_file) for number, is_file in dropped}}


def _outcome(number: int, recipient: Recipient) -> Row:
    state = rows.stored_state(recipient.state)
    return (
        number,
        recipient.n,
        state,
        recipient.tries,
        recipient.next_at,
        recipient.warned_at,
        *rows.of_reply(recipient.last),
        rows.error_of(recipient.last),
    )


def _learnt(number: int, recipient: Recipient) -> Row:
    last = recipient.last
    return number, recipient.n, recipient.tries, recipient.warned_at, *rows.of_reply(last), rows.error_of(last)
