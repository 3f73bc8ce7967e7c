"""What clients did lately, who is kept out, and what follows from it for the next command.

Whom it is about:

|                                             | local | trusted network | user | stranger |
|---------------------------------------------|-------|-----------------|------|----------|
| an operator's block of a network            | -     | yes             | yes  | yes      |
| an operator's block of a sender or domain   | -     | yes             | yes  | yes      |
| our own blocks; errors and delays for them  | -     | -               | -    | yes      |
| failed sign-ins: delays, blocks             | -     | -               | -    | yes      |
| rate of connections                         | -     | -               | yes  | yes      |
| rates of mails and recipients: by client    | -     | -               | -    | yes      |
|                                by user      | -     | -               | yes  | -        |
|                                by domain    | -     | -               | yes  | yes      |

"local" are programs of this host, by socket or maildrop. Trust by network holds on the listener `smtp` only (see
`policy.standing`); networks of `limits.exempt` count as trusted everywhere for all that is ours. Numbers of open
connections, sizes and deadlines hold for all.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from mtad.accounts.blocks import GUARD, Block, Blocks
from mtad.config import Config
from mtad.events import Events
from mtad.inbound import limits, policy
from mtad.inbound.limits import COUNTED, Kind, Scope, Tallies, client_key
from mtad.mail import address as addresses
from mtad.mail.envelope import Clock, Peer
from mtad.mail.reply import Reply
from mtad.queue.store import StoreError

ERRORS_FREE = 10  # errors within the window before answers to them slow down
PAIRS_MAX = 10_000  # clients and the users that signed in from them

BLOCKED = Reply(554, "5.7.1", "You are not welcome here", stage="connect")
BLOCKED_NOW = Reply(421, "4.7.0", "You are blocked for now, try again later", stage="connect")
ENDED = Reply(421, "4.7.0", "Access denied, closing", stage="command")
SENDER_BLOCKED = Reply(550, "5.7.1", "Sender address is not welcome here", stage="mail")
TOO_FAST = Reply(421, "4.7.0", "Too many connections in a short time, try again later", stage="connect")
TOO_MANY_MAILS = Reply(450, "4.7.1", "Too many mails in a short time, try again later", stage="mail")
TOO_MANY_RECIPIENTS = Reply(450, "4.7.1", "Too many recipients in a short time, try again later", stage="rcpt")


@dataclass(frozen=True, slots=True)
class Usage:
    """One line about a client, user or domain: what counts, against which limit."""

    scope: str  # client, user, domain
    what: str
    count: int
    limit: str
    setting: str  # its key


class Guard:
    """Belongs to one event loop. Never raises; what it cannot make durable is in force all the same, and told."""

    def __init__(self, config: Config, blocks: Blocks, events: Events, clock: Clock) -> None:
        self.blocks = blocks
        self._events = events
        self._clock = clock
        self._tallies = Tallies(config.limits)
        self._signed_in: OrderedDict[tuple[str, str], None] = OrderedDict()  # (client, user)
        self._tasks: set[asyncio.Task[None]] = set()
        self._hurry = asyncio.Event()
        self.reload(config)
        blocks.lifted = self._tallies.forget

    def reload(self, config: Config) -> None:
        """New settings; what was counted stays."""
        self._limits = config.limits
        self._domain = config.domains[0] if config.domains else config.hostname
        self._trusted = policy.Networks(config.access.trusted_networks)
        self._exempt = policy.Networks(config.limits.exempt)
        self._tallies.resize(config.limits)

    # Who may come in, and stay

    def connect(self, peer: Peer) -> Reply | None:
        """A new connection."""
        refusal = self.blocked(peer)
        if refusal is not None:
            return refusal
        if self._known(peer) or self._tallies("client", "connections").take(client_key(peer.ip), self._clock()):
            return None
        return TOO_FAST

    def blocked(self, peer: Peer) -> Reply | None:
        """Whether a block keeps this peer out; asked again of open sessions when `blocks.version` has grown."""
        if peer.source in ("local", "maildrop", "internal"):
            return None
        if peer.user and self.blocks.of_address(peer.user) is not None:
            return ENDED
        block = self.blocks.of_ip(peer.ip)
        if block is None or (block.made_by == GUARD and (peer.user or self._known(peer))):
            return None
        reply = BLOCKED_NOW if block.temporary else BLOCKED
        return reply.because(block.reason)

    # Mails

    def message(self, peer: Peer, sender: str) -> Reply | None:
        """MAIL: may this peer begin a mail from this sender now? Counts it when it may."""
        if peer.source in ("local", "maildrop", "internal"):
            return None
        if sender:
            block = self.blocks.of_address(sender)
            if block is not None:
                return SENDER_BLOCKED.because(block.reason)
        return None if self._take("messages", peer, sender) else TOO_MANY_MAILS

    def recipient(self, peer: Peer, sender: str) -> Reply | None:
        """RCPT: one more recipient of a mail from `sender`."""
        return None if self._take("recipients", peer, sender) else TOO_MANY_RECIPIENTS

    def _take(self, kind: Kind, peer: Peer, sender: str) -> bool:
        if not peer.user and self._known(peer):
            return True
        now = self._clock()
        if peer.user:
            whose = self._tallies("user", kind).take(peer.user, now)
        else:
            whose = self._tallies("client", kind).take(client_key(peer.ip), now)
        by_domain = self._tallies("domain", kind)
        return whose and (not by_domain.rate.count or not sender or by_domain.take(_domain(sender), now))

    # Mistakes

    def error(self, peer: Peer) -> None:
        """A stranger made an error: a bad command, a refused address."""
        if peer.user or self._known(peer):
            return
        self._mistake(peer, "errors", self._limits.error_block_s)

    def auth_failed(self, peer: Peer, user: str) -> None:
        """A password was wrong, or a user unknown; `user` is what the peer said."""
        self._tallies("user", "auth_failures").add(self._user_key(user), self._clock())
        if not self._known(peer):
            self._mistake(peer, "auth_failures", self._limits.auth_block_s)

    def auth_ok(self, peer: Peer, user: str) -> None:
        """Remember from where a user comes."""
        pair = client_key(peer.ip), self._user_key(user)
        self._signed_in[pair] = None
        self._signed_in.move_to_end(pair)
        if len(self._signed_in) > PAIRS_MAX:
            self._signed_in.popitem(last=False)

    def may_sign_in(self, peer: Peer, user: str) -> bool:
        """False: whatever the password, the answer is that it was wrong. A user is blocked; or others guess at the
        password so often that only those clients may try from which the user came before."""
        key = self._user_key(user)
        if self.blocks.of_address(key) is not None:
            return False
        guessed = self._tallies("user", "auth_failures").over(key, self._clock())
        return not guessed or (client_key(peer.ip), key) in self._signed_in

    def delay_s(self, peer: Peer) -> float:
        """How long the answer to this peer's last mistake should take."""
        if peer.user or not self._limits.delay_max_s or self._known(peer):
            return 0.0
        return self._delay_s(client_key(peer.ip))

    def _delay_s(self, key: str) -> float:
        now = self._clock()
        errors = self._tallies("client", "errors").count(key, now)
        failures = self._tallies("client", "auth_failures").count(key, now)
        longest_s = self._limits.delay_max_s
        return max(limits.delay_s(errors, ERRORS_FREE, longest_s), limits.delay_s(failures, 0, longest_s))

    async def pause(self, seconds: float) -> None:
        """Let a client wait for its answer; no longer than the daemon lives."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurry.wait()

    def _mistake(self, peer: Peer, kind: Kind, first_s: float) -> None:
        windows, key = self._tallies("client", kind), client_key(peer.ip)
        if not windows.rate.count or windows.add(key, self._clock()) < windows.rate.count:
            return
        windows.forget(key)  # the block says it from here on
        words = "errors" if kind == "errors" else "failed sign-ins"
        block, gone = self.blocks.punish(key, f"{windows.rate} {words}", first_s, self._limits.block_max_s)
        self._events.blocked(key, block.reason, block.until_at - block.made_at)
        self._background(block, gone)

    def _background(self, block: Block, gone: Block | None) -> None:
        task = asyncio.get_running_loop().create_task(self._record(block, gone))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _record(self, block: Block, gone: Block | None) -> None:
        try:
            await self.blocks.record(block, gone)
        except StoreError as error:
            self._events.store_trouble(f"the block of {block.value} will not outlive this process: {error}")

    def stop(self) -> None:
        """Nobody waits any more."""
        self._hurry.set()

    async def drain(self) -> None:
        """Until all blocks are durable."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    # For the operator

    def usage(self, who: str = "") -> Iterator[Usage]:
        """What counts for an IP address, a user or a @domain; "" = the limits, and how many they are counted for."""
        now = self._clock()
        keys: dict[Scope, str] = {}
        if who.startswith("@"):
            keys = {"domain": who[1:].lower()}
        elif "@" in who:
            keys = {"user": self._user_key(who), "domain": _domain(who)}
        elif who:
            keys = {"client": client_key(who)}
        for (scope, kind), setting in COUNTED.items():
            windows = self._tallies(scope, kind)
            if not who:
                yield Usage(scope, kind, len(windows), str(windows.rate), f"limits.{setting}")
            elif scope in keys:
                count = windows.count(keys[scope], now)
                yield Usage(scope, kind, count, str(windows.rate), f"limits.{setting}")
        if "client" in keys:
            waits = self._delay_s(keys["client"])
            yield Usage("client", "delay in seconds", int(waits), f"{self._limits.delay_max_s:g}", "limits.delay_max")

    def _known(self, peer: Peer) -> bool:
        """Whom we do not judge by what came from the address."""
        return peer.source in ("local", "maildrop", "internal") or (
            (peer.source == "smtp" and peer.ip in self._trusted) or peer.ip in self._exempt
        )

    def _user_key(self, name: str) -> str:
        name = name[:320] if "@" in name else f"{name[:320]}@{self._domain}"
        try:
            return addresses.fold(name)
        except addresses.AddressError:
            return name.lower()


def _domain(address: str) -> str:
    try:
        return addresses.domain_of(address)
    except addresses.AddressError:
        return ""
