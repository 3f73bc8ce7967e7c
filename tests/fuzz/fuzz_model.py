"""The queue as a dictionary: what mtad.queue.store.Store promises, in the plainest words."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from mtad.mail import ident
from mtad.mail.envelope import Job, NewMessage, State
from mtad.queue.store import (
    KEY_S,
    Change,
    Hold,
    Redirect,
    Release,
    Restore,
    RetryAt,
    Settlement,
    Stats,
    Trash,
    Unredirect,
)

OPEN = (State.READY, State.HELD)
ENDED = (State.DONE, State.FAILED)
Key = tuple[str, int]  # message id, number of the recipient


@dataclass
class Owned:
    """A lease of one recipient. `changed`: an operator was here since."""

    lease: int
    until: float
    changed: bool = False


@dataclass
class One:
    """A recipient. `before` is what it was when it was trashed, `first` where it went before it was redirected."""

    address: str
    domain: str
    next_at: float
    priority: int
    state: State = State.READY
    tries: int = 0
    owned: Owned | None = None
    before: tuple[State, float] | None = None
    first: tuple[str, str] | None = None
    touched: bool = False  # by an operator, or a rule of one

    def leased(self, now: float) -> bool:
        return self.state is State.READY and self.owned is not None and self.owned.until > now


@dataclass
class Mail:
    """A message. `finished_at` is when its last recipient was closed, `transfer` what it is on its way with."""

    new: NewMessage
    finished_at: float | None = None
    transfer: str = ""


@dataclass
class Model:
    mails: dict[str, Mail] = field(default_factory=dict)
    ones: dict[Key, One] = field(default_factory=dict)
    parked: dict[str, dict[Key, One]] = field(default_factory=dict)  # by transfer
    there: dict[str, dict[Key, One]] = field(default_factory=dict)  # by message: in the other host's queue
    submitted: dict[str, tuple[str, str, float]] = field(default_factory=dict)  # key -> id, what it is, when
    rules: dict[int, tuple[str, float]] = field(default_factory=dict)  # domain, until

    def accept(self, new: NewMessage, now: float) -> None:
        self.mails[new.message.id] = Mail(new)
        held = {domain for domain, until in self.rules.values() if not until or now < until}
        for one in new.recipients:
            kept = One(one.address, one.domain, one.next_at, new.message.priority)
            if one.domain in held:
                kept.state, kept.touched = State.HELD, True
            self.ones[one.message_id, one.n] = kept

    def submit(self, new: NewMessage, now: float) -> str | None:
        """With a key: the id it is stored under; None when the key is another mail's."""
        what = " ".join([new.message.sender, *sorted(one.original for one in new.recipients)])
        first, was, at = self.submitted.get(new.key, ("", "", 0.0))
        if first and at > now - KEY_S:
            return first if was == what else None
        self.submitted[new.key] = new.message.id, what, now
        self.accept(new, now)
        return new.message.id

    def waits(self, message_id: str) -> bool:
        """Whether a report may still grow."""
        every = self.of(message_id).values()
        return bool(every) and all(
            one.state is State.READY and not one.tries and one.owned is None and not one.touched for one in every
        )

    def forget(self, message_id: str) -> None:
        del self.mails[message_id]
        for key in self.of(message_id):
            del self.ones[key]

    # --- transfers

    def leaves(self, wanted: Iterable[Key], now: float) -> list[str]:
        """The messages that a transfer of these recipients would take."""
        picked = {key[0] for key in wanted if self.ones[key].state in OPEN}
        return sorted(
            message_id for message_id in picked if not any(
                one.owned and one.owned.until > now for one in self.of(message_id).values())
        )  # fmt: skip

    def park(self, transfer: str, messages: Iterable[str]) -> int:
        gone = {
            key: one for message_id in messages for key, one in self.of(message_id).items() if one.state not in ENDED
        }
        for key, one in gone.items():
            one.owned = None
            del self.ones[key]
            self.mails[key[0]].transfer = transfer
        self.parked[transfer] = gone
        return len(gone)

    def unpark(self, transfer: str) -> None:
        for key, one in self.parked.pop(transfer).items():
            self.ones[key] = one
            self.mails[key[0]].transfer = ""

    def let_go(self, transfer: str, now: float) -> None:
        for key, one in self.parked.pop(transfer).items():
            self.there.setdefault(key[0], {})[key] = one
            mail = self.mails[key[0]]
            mail.transfer, mail.finished_at = "", now

    def leave_there(self) -> list[str]:
        """Of what is there, the messages that have more than trash."""
        return [id for id, every in self.there.items() if any(one.state in OPEN for one in every.values())]

    def come_back(self) -> None:
        for message_id in self.leave_there():
            self.ones.update(self.there.pop(message_id))
            self.mails[message_id].finished_at = None

    def due(self, now: float, skip: Iterable[str]) -> list[Key]:
        """Who may be leased now."""
        return [
            key
            for key, one in self.ones.items()
            if one.state is State.READY
            and one.next_at <= now
            and one.domain not in skip
            and not (one.owned and one.owned.until > now)
        ]

    def lease(self, job: Job) -> None:
        for key in keys(job):
            self.ones[key].owned = Owned(job.lease, job.until)

    def mine(self, job: Job) -> list[Key]:
        """Those of a job whose lease is still the job's."""
        return [key for key in keys(job) if (one := self.ones.get(key)) and one.owned and one.owned.lease == job.lease]

    def owns(self, job: Job) -> bool:
        return len(self.mine(job)) == len(job.recipients)

    def release(self, job: Job) -> None:
        for key in self.mine(job):
            self.ones[key].owned = None

    def renew(self, job: Job, until: float) -> bool:
        if not self.owns(job):
            self.release(job)
            return False
        for key in keys(job):
            owned = self.ones[key].owned
            assert owned is not None
            owned.until = until
        return True

    def confirm(self, job: Job, now: float) -> Job | None:
        kept: set[int] = set()
        leased = {one.n: (one.address, one.domain) for one in job.recipients}
        for key in self.mine(job):
            one = self.ones[key]
            assert one.owned is not None
            same = leased[key[1]] == (one.address, one.domain)  # it was not redirected meanwhile
            if same and one.state is State.READY and (one.next_at <= now or not one.owned.changed):
                kept.add(key[1])
            else:
                one.owned = None
        left = tuple(one for one in job.recipients if one.n in kept)
        return replace(job, recipients=left) if left else None

    def lease_old(self, now: float, domains: Iterable[str], before: float) -> list[Key]:
        """Who may be leased although nothing is sent to these domains."""
        return [
            key
            for key in self.due(now, ())
            if self.ones[key].domain in domains and self.mails[key[0]].new.message.id < before_id(before)
        ]

    def settle(self, settlement: Settlement, now: float) -> bool | None:
        """None: one that was to fail was redirected meanwhile."""
        job = settlement.job
        if not self.owns(job):
            return False
        elsewhere = {
            one.n
            for one in job.recipients
            if (one.address, one.domain) != (self.ones[one.message_id, one.n].address,
                                             self.ones[one.message_id, one.n].domain)
        }  # fmt: skip
        if any(outcome.n in elsewhere and outcome.state is State.FAILED for outcome in settlement.changes):
            return None
        for outcome in settlement.changes:
            if outcome.n in elsewhere and outcome.state not in ENDED:
                continue
            one = self.ones[outcome.message_id, outcome.n]
            assert one.owned is not None
            if outcome.state in ENDED or not one.owned.changed:
                one.state, one.next_at = outcome.state, outcome.next_at
            one.tries = outcome.tries
        self.release(job)
        for new in settlement.spawn:
            self.accept(new, now)
        for merge in settlement.merges:
            if self.waits(merge.whole.message.id):
                self.forget(merge.whole.message.id)
                self.accept(merge.whole, now)
            else:
                self.accept(merge.alone, now)
        self.finish(job.message.id, now)
        return True

    def finish(self, message_id: str, now: float) -> None:
        mail = self.mails[message_id]
        if mail.finished_at is None and all(one.state in ENDED for one in self.of(message_id).values()):
            mail.finished_at = now

    def of(self, message_id: str) -> dict[Key, One]:
        return {key: one for key, one in self.ones.items() if key[0] == message_id}

    def change(self, wanted: Iterable[Key], change: Change, now: float) -> int:
        """How many it was done to."""
        done = 0
        for one in [self.ones[key] for key in wanted]:
            if not _allowed(change, one):
                continue
            done += 1
            one.touched = True
            if one.state is State.READY and one.owned:
                one.owned.changed = True
            match change:
                case Hold():
                    one.state = State.HELD
                case Release():
                    one.state, one.next_at = State.READY, now
                case RetryAt(at):
                    one.next_at = at
                case Trash():
                    one.before = one.state, one.next_at
                    one.state, one.next_at = State.TRASHED, now
                case Restore():
                    assert one.before is not None
                    one.state, one.next_at = one.before
                case Redirect(address, domain):
                    one.first = one.first or (one.address, one.domain)
                    one.address, one.domain = address or one.address, domain
                    one.next_at = now if one.state is State.READY else one.next_at
                case Unredirect():
                    assert one.first is not None
                    one.address, one.domain = one.first
                    one.next_at = now if one.state is State.READY else one.next_at
        return done

    def sweep(self, now: float, history_s: float, trash_s: float) -> int:
        gone = 0
        for message_id, mail in [*self.mails.items()]:
            every = self.of(message_id)
            old = [key for key, one in every.items() if one.state is State.TRASHED and one.next_at <= now - trash_s]
            if old and not any(one.owned and one.owned.until > now for one in every.values()):
                for key in old:
                    del self.ones[key]
                if len(old) == len(every):
                    del self.mails[message_id]
                    gone += 1
                    continue
                self.finish(message_id, now)
            elif mail.finished_at is not None and mail.finished_at <= now - history_s and not mail.transfer:
                del self.mails[message_id]
                for key in every:
                    del self.ones[key]
                gone += 1
        self.submitted = {key: kept for key, kept in self.submitted.items() if kept[2] > now - KEY_S}
        self.rules = {number: rule for number, rule in self.rules.items() if not rule[1] or rule[1] > now}
        return gone

    def crash(self) -> None:
        """Nothing is lost but the leases."""
        for one in self.ones.values():
            one.owned = None

    def shown(self, now: float) -> dict[str, tuple[State, str, str, float, int]]:
        """Every recipient as `select` gives it."""
        return {
            f"{message_id}.{n}": (
                State.LEASED if one.leased(now) else one.state, one.address, one.domain, one.next_at, one.tries,
            )
            for (message_id, n), one in sorted(self.ones.items())
        }  # fmt: skip

    def stats(self, now: float) -> Stats:
        ready = [one for one in self.ones.values() if one.state is State.READY]
        waiting = [one for one in ready if not one.leased(now)]
        open_mails = [mail.new.message for id_, mail in self.mails.items() if any(
            one.state in OPEN for one in self.of(id_).values())]  # fmt: skip

        def count(state: State) -> int:
            return sum(one.state is state for one in self.ones.values())

        return Stats(
            messages=len(open_mails),
            size_bytes=sum(message.size_bytes for message in open_mails),
            active=len(ready) - len(waiting),
            ready=sum(one.next_at <= now for one in waiting),
            deferred=sum(one.next_at > now for one in waiting),
            held=count(State.HELD),
            trashed=count(State.TRASHED),
            done=count(State.DONE),
            failed=count(State.FAILED),
            oldest_at=min((message.accepted_at for message in open_mails), default=None),
        )


def before_id(at: float) -> str:
    return ident.from_int(ident.first_at(at))


def keys(job: Job) -> list[Key]:
    return [(one.message_id, one.n) for one in job.recipients]


def _allowed(change: Change, one: One) -> bool:
    match change:
        case Hold() | RetryAt():
            return one.state is State.READY
        case Release():
            return one.state is State.HELD
        case Restore():
            return one.state is State.TRASHED
        case Trash() | Redirect():
            return one.state in OPEN
        case Unredirect():
            return one.state in OPEN and one.first is not None and one.first != (one.address, one.domain)
