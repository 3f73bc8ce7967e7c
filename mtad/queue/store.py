"""The store: what the queue promises, independent of the engine.

Every method takes `now` where time matters, raises StoreError (temporary, with the cause) and nothing of a driver's,
and is all-or-nothing: it happened durably when the call returns, or it did not happen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from mtad.mail.envelope import Attempt, Content, Job, Message, NewMessage, Recipient

if TYPE_CHECKING:
    from mtad.queue.audit import Changed, Entry
    from mtad.queue.damage import Lost


class StoreError(Exception):
    """The store could not do it now. Nothing changed. `full` means no room (452 4.3.1 to a peer, else 451 4.3.0);
    `doubtful` that a crash could show it done all the same."""

    def __init__(self, cause: str, *, full: bool = False) -> None:
        super().__init__(cause)
        self.full = full
        self.doubtful = False


class Damaged(StoreError):  # noqa: N818  (the state it is in)
    """The octets of a message are gone, or are not those that were accepted. Waiting does not mend them."""


class Unsound(StoreError):  # noqa: N818  (the state it is in)
    """A part of the database is not as it was written; what lies elsewhere in it is not touched by that."""


class StoreLocked(StoreError):  # noqa: N818  (the state it is in)
    """Somebody else owns the data; the text says who."""


class KeyTaken(ValueError):  # noqa: N818  (what it is)
    """The submission's key belongs to a mail with another sender or other recipients. Nothing was stored."""


class Redirected(Exception):  # noqa: N818  (what they are)
    """Recipients of a job that were to fail go elsewhere by now, by their `numbers`: what was said about the address
    before is not the end of them. Nothing was written."""

    def __init__(self, numbers: frozenset[int]) -> None:
        super().__init__(f"{len(numbers)} recipients were redirected")
        self.numbers = numbers


KEY_S = 3 * 86400.0
"""How long the key of a submission is remembered."""


@dataclass(frozen=True, slots=True)
class Selector:
    """Which recipients an operation means. All given conditions must hold; an empty one is refused unless `all`.

    Address selectors are exact, "@domain", or a glob with * and ?; "%" and "_" mean themselves; matching is
    case-insensitive in ASCII. `ids` are message ids, recipient ids, or unique prefixes of message ids.
    """

    ids: tuple[str, ...] = ()
    sender: str = ""
    recipient: str = ""
    domain: str = ""
    user: str = ""
    ip: str = ""
    states: tuple[str, ...] = ()  # display words: active, deferred, held, trashed (and ready, done, failed)
    error: str = ""  # a class (mtad.mail.errorclass), or else part of the last reply's text, or its code or status
    older_s: float | None = None
    newer_s: float | None = None
    size: tuple[str, int] | None = None  # (">", 4096)
    attempts: tuple[str, int] | None = None
    header_id: str = ""  # the Message-ID field, exact, with or without its <>
    subjects: tuple[str, ...] = ()  # parts of it, of which one is there
    not_subjects: tuple[str, ...] = ()  # of which none is
    audits: tuple[int, ...] = ()  # what the operations of these numbers changed
    last: bool = False  # what the last Trash took of what still is TRASHED
    all: bool = False

    @property
    def empty(self) -> bool:
        return self == Selector()


@dataclass(frozen=True, slots=True)
class Row:
    """One selected recipient with its message: what `queue list` shows. `state` is already LEASED where it is."""

    message: Message
    recipient: Recipient


Place = tuple[int, int]
"""The number of a message and of one of its recipients, or a number below it."""


class Why(NamedTuple):
    """Of the mail of a user for a domain: why nothing of it goes there now, and why what is due is not tried. ""
    is for no reason. `until`: when that of `shut` ends, 0 if nobody knows."""

    domain: str
    user: str
    shut: str = ""
    due: str = ""
    until: float = 0.0


class Listed(NamedTuple):
    """A part of the queue: JSON, a line for each message. `rest` is where the next part begins, `recipients` how many
    these are."""

    lines: str
    rest: Place | None
    recipients: int = 0


# What `change` can do to the selected recipients.
@dataclass(frozen=True, slots=True)
class Hold:
    """READY -> HELD."""


@dataclass(frozen=True, slots=True)
class Release:
    """HELD -> READY, due now."""


@dataclass(frozen=True, slots=True)
class RetryAt:
    """READY -> READY, due at `at`. `flush` is RetryAt(now)."""

    at: float


@dataclass(frozen=True, slots=True)
class Trash:
    """READY, HELD -> TRASHED: no delivery, no report; `restore` brings it back until the trash is swept."""


@dataclass(frozen=True, slots=True)
class Restore:
    """TRASHED -> what it was before: HELD, or READY with its time."""


@dataclass(frozen=True, slots=True)
class Redirect:
    """READY, HELD: to another `address`, or another way; "" leaves it. What is READY is due now. `domain` is what goes
    with the address, or the target of the way ("smtp://host:25")."""

    address: str
    domain: str


@dataclass(frozen=True, slots=True)
class Unredirect:
    """READY, HELD: back to where it went before its first Redirect. What is READY is due now."""


Change = Hold | Release | RetryAt | Trash | Restore | Redirect | Unredirect


AUDIT_S = 365 * 86400.0
"""How long what operators did is kept."""

SENDING_WINDOW_S = 86400.0
"""The limits of a user's sending look back this far."""

SENDING_STEP_S = 600
"""How exactly it is known when something was sent."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a user sent within SENDING_WINDOW_S: (begin of a step of SENDING_STEP_S, how many), oldest first."""

    messages: tuple[tuple[int, int], ...] = ()
    new: tuple[tuple[int, int], ...] = ()  # recipients who got mail of the user for the first time


@dataclass(frozen=True, slots=True)
class Stats:
    """A snapshot of the queue. Counts are recipients but for `messages`, which has an open recipient each."""

    messages: int = 0
    size_bytes: int = 0
    active: int = 0
    ready: int = 0  # due now
    deferred: int = 0
    held: int = 0
    trashed: int = 0
    done: int = 0  # kept as history
    failed: int = 0
    oldest_at: float | None = None  # of the open ones
    domains: tuple[tuple[str, int, float], ...] = ()  # (domain, open recipients, oldest accepted_at), most first, <= 20


GroupBy = Literal["error", "domain", "user", "sender", "ip"]


@dataclass(frozen=True, slots=True)
class Group:
    """Recipients that have something in common. `oldest_at`: when the oldest open one was accepted."""

    key: str
    open: int
    failed: int  # kept as history
    oldest_at: float | None = None


BundleBy = Literal["all", "domain", "sender", "user", "ip", "error", "subject"]


@dataclass(frozen=True, slots=True)
class Bundle:
    """Selected recipients that have something in common."""

    key: str
    recipients: int
    messages: int
    size_bytes: int
    oldest_at: float


SortBy = Literal["age", "size", "tries", "next", "from", "to", "domain"]


@dataclass(frozen=True, slots=True)
class Preview:
    """What a change would do. `active` as in Changed."""

    recipients: int
    active: int
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Merge:
    """A report that grew. `whole` takes the place of the one of the same id as long as that waits for its first try and
    nobody touched it; else `alone` is stored, which says what is new only."""

    whole: NewMessage
    alone: NewMessage


@dataclass(frozen=True, slots=True)
class Settlement:
    """The outcome of a job: one row per recipient of it, and what it gives birth to."""

    job: Job
    attempts: Sequence[Attempt]
    changes: Sequence[Recipient]  # the new value of each recipient of the job
    spawn: Sequence[NewMessage] = field(default=())  # reports, in the same transaction
    merges: Sequence[Merge] = field(default=())  # and those that may go into one that waits


class Store(Protocol):
    async def accept(self, new: NewMessage) -> str:
        """Store message, recipients and body. On return it is on stable storage; only now may anyone say 250.

        The id it is stored under: its own, or that of the mail that the same uid stored with the same key within KEY_S
        for the same sender and recipients; then nothing more was stored. Raises KeyTaken when those differ."""

    async def lease(self, now: float, until: float, limit: int, skip: frozenset[str] = frozenset()) -> Sequence[Job]:
        """Take up to `limit` due recipients, oldest due first, none of a domain in `skip`, as jobs of one message and
        one domain. A leased recipient is not leased again before `until` passed, it was settled or released.
        Unsound: one of them cannot be used, and nothing was leased."""

    async def lease_old(
        self, now: float, until: float, limit: int, domains: frozenset[str], accepted_before: float
    ) -> Sequence[Job]:
        """As `lease`, but only of these domains and of messages that old: what must be given up or warned of although
        nothing is sent to its site for now."""

    async def set_aside(self, now: float) -> "Sequence[Lost]":
        """After `lease` raised Unsound: hold what is due and cannot be used, or where even that cannot be written, keep
        it from being leased until the end of this process. What is sound can be leased then. Slow."""

    async def release(self, jobs: Sequence[Job]) -> None:
        """Give leases back. Nothing was tried: their recipients are as they were, and may be leased again at once."""

    async def confirm(self, job: Job, now: float) -> Job | None:
        """What is left of a leased job: without the recipients that an operator held, purged or put off since it was
        leased, whose lease ends here. None when nothing is left, or the lease was lost. Cheap where nobody was there;
        the last step before one that cannot be undone."""

    async def renew(self, job: Job, until: float) -> bool:
        """Own the job for longer. False: it was lost, stop before the next step that cannot be undone."""

    async def settle(self, settlement: Settlement) -> bool:
        """Record the outcome: attempts, new states, reports; drop the body once nothing of the message is open.
        One durable transaction. False when the lease was lost: nothing was written.
        A recipient that an operator changed while it was leased: a final outcome wins, else the operator does. But one
        that was redirected meanwhile does not fail by what was tried before: Redirected, and to be settled as open.
        The try is in its history then, and nothing else of it."""

    async def content(self, message_id: str) -> Content:
        """The octets of an open message, and exactly those that were accepted: Damaged when they are missing or
        changed, StoreError when they cannot be read now."""

    async def select(self, what: Selector, now: float, after: str = "", limit: int = 1000) -> Sequence[Row]:
        """Selected recipients ordered by id, at most `limit`, those after recipient id `after`.
        Without `states`: the open ones (READY, LEASED, HELD)."""

    async def keyed(self, uid: int, key: str) -> str:
        """The id of the mail that this uid stored with this key, "" when none is remembered."""

    async def lines(
        self, what: Selector, now: float, start: Place = (0, 0), limit: int | None = None, *,
        whys: Sequence[Why] = (), busy: str = "",
    ) -> Listed:  # fmt: skip
        """What `select` finds, as the operator sees it: from `start` on, as much as is quickly read, at most `limit`
        recipients. The reason of those that wait is what `whys` has of them, what the other side said, or why they were
        never tried: `busy` if they are due. ValueError."""

    async def mailq(
        self, now: float, start: Place = (0, 0), uid: int | None = None, *, whys: Sequence[Why] = (), busy: str = ""
    ) -> Listed:
        """All open messages, as `select` orders them, in the members of `postqueue -j`: those from `start` on, as many
        as are quickly read; only those that `uid` submitted, if it is given, and nothing then of what operators did.
        The reasons are those of `lines`."""

    async def waiting(
        self, what: Selector | None, now: float, start: Place = (0, 0), limit: int | None = None
    ) -> Sequence[tuple[str, str]]:
        """The domain and the user of each that waits in the part that `lines` begins there, or without `what` in that
        of `mailq`: of what `whys` may tell. ValueError."""

    async def change(
        self, what: Selector, change: Change, now: float, limit: int = 0, entry: "Entry | None" = None
    ) -> "Changed":
        """Apply to all selected recipients whose state allows it, and write who did it, in one transaction. Without an
        `entry` it was the daemon, and nothing is written about it."""

    async def preview(self, what: Selector, change: Change, now: float, limit: int = 0, rows: int = 0) -> "Preview":
        """What `change` would do, and the first `rows` of the recipients it would change."""

    async def bundles(self, what: Selector, by: BundleBy, now: float, limit: int = 1000) -> Sequence[Bundle]:
        """The selected recipients counted together, the largest bundles first."""

    async def sort(self, what: Selector, by: SortBy, now: float, *, down: bool, limit: int) -> Sequence[str]:
        """The ids of the selected recipients in that order, at most `limit`."""

    async def bring_forward(self, now: float, latest: float) -> int:
        """The clock that recipients were put off by was wrong: those that wait for a time beyond `latest` are due then,
        and those of messages that came in after `now`, and were not tried yet, are due at once; but not what its sender
        (FUTURERELEASE) or an operator wants to wait. How many."""

    async def attempts(self, message_id: str) -> Sequence[Attempt]:
        """The tries of a message's recipients, oldest first, as long as history is kept."""

    async def next_due(self, now: float) -> float | None:
        """When the next READY, unleased recipient is due; None when there is none."""

    async def stats(self, now: float) -> Stats: ...

    async def groups(self, by: GroupBy) -> Sequence[Group]:
        """The open and the failed recipients, by the class of their last error ("" is not among them), their domain,
        or the user, sender or client address of their message; most open ones first, at most 200."""

    async def sweep(
        self, now: float, history_s: float, trash_s: float, limit: int = 1000, audit_s: float = AUDIT_S
    ) -> int:
        """Forget finished messages older than `history_s` and trash older than `trash_s`, at most `limit` messages, and
        what operators did longer ago than `audit_s`; delete body files that no row names. How many messages went."""

    async def usage(self, user: str, now: float) -> Usage:
        """What this user sent within SENDING_WINDOW_S, by what `accept` stored."""

    async def correspondents(self, user: str, addresses: Sequence[str]) -> frozenset[str]:
        """To which of these addresses (keys of mtad.mail.address.fold) the user has sent before."""

    async def backup(self, path: str, bodies: str = "") -> None:
        """Write a consistent copy of the database to `path` (must not exist), while the daemon works. Fsynced.
        `bodies`, a directory beside the files of large bodies, gets links to those that the copy names."""

    async def close(self) -> None:
        """Finish what was asked, checkpoint, release the lock."""
