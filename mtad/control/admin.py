"""What an operation gets to work with, and how it says that it could not."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from mtad.accounts.account import UserStore
from mtad.accounts.blocks import Blocks, BlockStore
from mtad.accounts.suppressions import Suppressions, SuppressionStore
from mtad.accounts.users import Users
from mtad.config import Config
from mtad.control.operation import Access
from mtad.dkim.keys import Keys
from mtad.events import Events
from mtad.mail.envelope import Clock
from mtad.mail.ident import Ids
from mtad.outbound.sites import Sites
from mtad.queue.audit import Entry, OperatorStore
from mtad.queue.history import HistoryStore
from mtad.queue.sitestore import SiteStore
from mtad.queue.store import Store
from mtad.tls.certificates import Certificate

if TYPE_CHECKING:
    from mtad.inbound.guard import Usage
    from mtad.inbound.server import SessionInfo
    from mtad.outbound.explain import Outlook
    from mtad.outbound.security import Security

Row = dict[str, Any]
Args = Mapping[str, Any]  # what operations.check returned


@dataclass(frozen=True, slots=True)
class Lines:
    """Many rows at once, which the store wrote: JSON, an object on each line."""

    text: str


class AdminStore(Store, UserStore, BlockStore, SuppressionStore, OperatorStore, SiteStore, HistoryStore, Protocol):
    """The store with all its faces."""


class App(Protocol):
    """The running daemon, as operations see it."""

    def status(self) -> Mapping[str, Any]:
        """Facts beyond the queue's: version, pid, uptime_s, listeners ..."""

    def wake(self) -> None:
        """Mail that waits was changed, or came in: look at the queue now."""

    async def reload(self) -> Sequence[str]:
        """Read everything again, all or nothing. Notes for the operator; raises ConfigErrors."""

    def security(self) -> "Security | None":
        """What decides on TLS outwards; None without a daemon."""

    def outlook(self) -> "Outlook":
        """How sites are paced now; without a daemon nothing is known of it."""

    def certificates(self) -> Sequence[Certificate]:
        """Those in use, the default first."""

    async def reload_tls(self) -> Sequence[Certificate]:
        """Read the certificates again, all or nothing. Those in use now; raises ConfigErrors."""

    async def drain_maildrop(self) -> int:
        """Take in what lies in the maildrop. How many messages."""

    def sessions(self) -> "Sequence[SessionInfo]":
        """Who is connected, oldest first."""

    def close_session(self, number: int) -> bool:
        """End a session. False: there is none of that number."""

    def expand(self, address: str) -> tuple[str, ...]:
        """The final addresses of one: itself when it is not ours, () when nobody here has it."""

    def ids(self) -> Ids:
        """Where ids of new messages come from."""

    def usage(self, who: str) -> "Sequence[Usage]":
        """What counts for an IP address, a user or a @domain; "" = the limits, and how many they are counted for."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, by the kernel's word."""

    uid: int
    access: Access
    name: str = ""  # the login name of the uid, and who became it

    def __str__(self) -> str:
        return f"{self.name}({self.uid})" if self.name else f"uid={self.uid}"


@dataclass(frozen=True, slots=True)
class Admin:
    """Everything an operation may touch. One for each call, since the caller is part of it."""

    config: Config
    store: AdminStore
    users: Users
    keys: Keys
    events: Events
    clock: Clock
    app: App
    blocks: Blocks
    suppressions: Suppressions
    sites: Sites
    caller: Caller = Caller(-1, Access.ANYONE)
    offline: bool = False  # no daemon: mtactl works on the data of a stopped one
    entry: Entry = Entry()  # noqa: RUF009  (frozen)  what the audit trail is to say of this call


Handler = Callable[[Admin, Args], AsyncGenerator[Row | Lines, None]]


class Failed(Exception):  # noqa: N818  (an outcome that is told, not a defect)
    """The operation could not be done: one of wire.ERRORS, and words for the operator."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name
        self.text = text
