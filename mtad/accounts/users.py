"""The user store: who may submit mail and owns a mailbox. A user name is an address."""

import asyncio
import hmac
import random
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from mtad.accounts import passwords
from mtad.mail import address as addresses
from mtad.mail.envelope import Clock
from mtad.mail.reply import Refused, Reply

CACHE_S = 60.0
CACHE_MAX = 4096
WAITING_MAX = 64  # password checks that wait for a thread; more are told to come back

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class StoredUser:
    """One account. `secret` is the stored form of the password, `disabled` the reason why it may not be used."""

    name: str  # canonical address: "alice@example.test"
    secret: str
    created_at: float
    disabled: str = ""


class UserStore(Protocol):
    """Where accounts are kept. Each call is durable when it returns."""

    async def load_users(self) -> Sequence[StoredUser]: ...

    async def save_user(self, user: StoredUser) -> None:
        """Insert, or replace the user of that name."""

    async def delete_user(self, name: str) -> bool:
        """False: there was none."""


class UserError(ValueError):
    """The operation cannot be done on this user. The text is for the operator."""


class Users:
    """All accounts in memory, written through to the store. `domain` qualifies a bare local part."""

    def __init__(
        self,
        store: UserStore,
        clock: Clock,
        rng: random.Random,
        *,
        domain: str = "",
        cost: passwords.Cost = passwords.Cost(),  # noqa: B008  (frozen)
    ) -> None:
        self._store = store
        self._clock = clock
        self._rng = rng
        self._domain = domain
        self._cost = cost
        self._users: dict[str, StoredUser] = {}
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="passwords")
        self._waiting = 0
        self._cache_key = secrets.token_bytes(32)
        self._cache: dict[bytes, float] = {}  # proof of a right password -> until when it is believed
        # What an unknown user's password is compared with, so that both answers cost the same.
        self._nobody = passwords.hash_password(secrets.token_hex(16), secrets.token_bytes(passwords.SALT_BYTES), cost)

    async def load(self) -> None:
        """Read all users from the store; what was in memory is replaced at once."""
        stored = await self._store.load_users()
        self._users = {addresses.fold(user.name): user for user in stored}

    def close(self) -> None:
        """End the password threads. Checks that still wait are cancelled."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def qualify(self, name: str) -> str:
        """The canonical address of a user name. UserError when it is none."""
        full = name if "@" in name or not self._domain else f"{name}@{self._domain}"
        try:
            return addresses.parse(full, utf8=True)
        except addresses.AddressError as error:
            raise UserError(f"{name!r} is not an address: {error}") from None

    def list(self) -> Sequence[StoredUser]:
        """All users, by name."""
        return sorted(self._users.values(), key=lambda user: user.name)

    def get(self, name: str) -> StoredUser | None:
        """The user of that name (case-insensitive; a bare local part is qualified), disabled or not."""
        if "@" not in name and self._domain:
            name = f"{name}@{self._domain}"
        try:
            return self._users.get(addresses.fold(name))
        except addresses.AddressError:
            return None

    async def add(self, name: str, password: str) -> StoredUser:
        """Make a user. UserError when the name is taken or no address; PasswordError for a weak password. Durable."""
        name = self.qualify(name)
        if self.get(name) is not None:
            raise UserError(f"{name} exists already")
        return await self._save(StoredUser(name, await self._hash(password), self._clock()))

    async def set_password(self, name: str, password: str) -> StoredUser:
        """Durable. UserError for an unknown user, PasswordError for a weak password."""
        user = self._known(name)
        secret = await self._hash(password)
        return await self._save(replace(user, secret=secret))

    async def disable(self, name: str, reason: str = "disabled") -> StoredUser:
        """Refuse this user's password from now on; the mailbox stays. Durable."""
        return await self._save(replace(self._known(name), disabled=reason or "disabled"))

    async def enable(self, name: str) -> StoredUser:
        """Undo `disable`. Durable."""
        return await self._save(replace(self._known(name), disabled=""))

    async def remove(self, name: str) -> bool:
        """Forget the user. Durable. False: there was none."""
        user = self.get(name)
        if user is None:
            return False
        removed = await self._store.delete_user(user.name)
        self._users.pop(addresses.fold(user.name), None)
        return removed

    async def verify(self, name: str, password: str) -> StoredUser | None:
        """The user, when the password is right and the user enabled.

        Takes the same work for an unknown user, a wrong password and a disabled user. A right answer is remembered for
        CACHE_S, so that a busy submitter does not pay for every mail. Raises Refused (454) while too many checks wait.
        """
        user = self.get(name)
        secret = self._nobody if user is None else user.secret
        claim = f"{name}\0{secret}\0{password}".encode("utf-8", "surrogatepass")
        proof = hmac.digest(self._cache_key, claim, "sha256")
        now = self._clock()
        right = self._cache.get(proof, 0.0) > now
        if not right:
            right = await self._in_thread(lambda: passwords.verify(password, secret))
            if right and user is not None:
                self._remember(proof, now)
        if user is None or not right:
            return None
        # Look again: the account may have changed while the thread worked.
        current = self.get(name)
        return current if current is not None and current.secret == secret and not current.disabled else None

    def _remember(self, proof: bytes, now: float) -> None:
        if len(self._cache) >= CACHE_MAX:
            self._cache = {kept: until for kept, until in self._cache.items() if until > now}
        if len(self._cache) >= CACHE_MAX:
            self._cache.clear()
        self._cache[proof] = now + CACHE_S

    def _known(self, name: str) -> StoredUser:
        user = self.get(name)
        if user is None:
            raise UserError(f"there is no user {name}")
        return user

    async def _hash(self, password: str) -> str:
        passwords.check(password)
        salt = self._rng.randbytes(passwords.SALT_BYTES)
        return await self._in_thread(lambda: passwords.hash_password(password, salt, self._cost))

    async def _save(self, user: StoredUser) -> StoredUser:
        await self._store.save_user(user)
        self._users[addresses.fold(user.name)] = user
        return user

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        if self._waiting >= WAITING_MAX:
            raise Refused(Reply(454, "4.7.0", "Too many sign-ins at this moment, please try again later"))
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._waiting -= 1
