"""The users: who may submit mail and owns a mailbox; their passwords, and signing in. A user name is an address."""

import asyncio
import contextlib
import hashlib
import hmac
import random
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from mtad.accounts import imported, passwords, profile, scram
from mtad.accounts.account import StoredUser, UserStore, problem, usable
from mtad.accounts.hashing import HashingThreads
from mtad.accounts.profile import AppPassword, Profile
from mtad.mail import address as addresses
from mtad.mail.envelope import Clock
from mtad.mail.reply import Refused, Reply
from mtad.mail.text import clean

CACHE_S = 60.0
CACHE_MAX = 4096
DAY_S = 86400.0

_LETTERS = "abcdefghijkmnopqrstuvwxyz23456789"  # none that is read as another
_GROUPS = 5  # of four letters make an app password: 100 bits


class UserError(ValueError):
    """The operation cannot be done on this user. The text is for the operator."""


@dataclass(frozen=True, slots=True, repr=False)
class _Found:
    """A right password: its app password's label, or better forms of the account's own to keep from now on."""

    label: str = ""
    secret: str = ""
    profile: Profile | None = None


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
        self._by_certificate: dict[str, str] = {}  # fingerprint -> key of the user
        self._install = secrets.token_bytes(32)
        self._threads = HashingThreads()
        self._turn = asyncio.Lock()  # of whoever changes an account: from its last look at it until it is saved
        self._cache_key = secrets.token_bytes(32)
        self._cache: dict[bytes, tuple[float, str]] = {}  # proof of a right password -> (believed until, label)
        # What an unknown user's password is compared with, so that both answers cost the same.
        self._nobody = passwords.nobodys(
            secrets.token_bytes(passwords.SALT_BYTES), secrets.token_bytes(passwords.HASH_BYTES), cost
        )
        self.problems: tuple[str, ...] = ()  # of the accounts, as they were when they were loaded
        self.changes = 0  # grows with every change of any account: who remembers one knows when to look again

    async def load(self) -> None:
        """Read all users from the store; what was in memory is replaced at once. One whose row is damaged cannot sign
        in, still gets mail, and is named in `problems`."""
        stored = await self._store.load_users()
        self._install = await self._store.install_secret()
        problems = []
        users: dict[str, StoredUser] = {}
        for user in stored:
            if why := problem(user):
                problems.append(f"user {clean(user.name)}: {why}")
            with contextlib.suppress(addresses.AddressError):
                users[addresses.fold(user.name)] = usable(user)
        self.problems = tuple(problems)
        self._users = users
        self._by_certificate = {one: key for key, user in self._users.items() for one in user.profile.certificates}
        self.changes += 1

    def derived(self, purpose: str) -> bytes:
        """A key of this installation for one purpose."""
        return hmac.digest(self._install, purpose.encode(), "sha256")

    def close(self) -> None:
        """Checks that still wait are cancelled."""
        self._threads.close()

    def qualify(self, name: str) -> str:
        """The canonical address of a user name. UserError when it is none."""
        try:
            return addresses.parse(self.in_full(name), utf8=True)
        except addresses.AddressError as error:
            raise UserError(f"{name!r} is not an address: {error}") from None

    def list(self) -> Sequence[StoredUser]:
        """All users, by name."""
        return sorted(self._users.values(), key=lambda user: user.name)

    def get(self, name: str) -> StoredUser | None:
        """The user of that name (case-insensitive; a bare local part is qualified), disabled or not."""
        return self._users.get(self._key(name))

    # Changes. Each is durable when it returns; UserError for an unknown user.

    async def add(self, name: str, password: str, *, receive_only: bool = False) -> StoredUser:
        """Make a user. UserError when the name is taken or no address; PasswordError for a weak password."""
        name = self._free(name)
        passwords.check(password)
        return await self._make(name, password, receive_only=receive_only)

    async def add_imported(self, name: str, secret: "str | imported.Plain") -> StoredUser:
        """Make a user with what `imported.read` gave: a hash stays as it is until it was used once. A password is not
        judged, for its owner did not choose it now. UserError as in `add`."""
        name = self._free(name)
        if isinstance(secret, imported.Plain):
            return await self._make(name, secret.password)
        form = Profile()
        if secret.startswith("{SCRAM-SHA-256}"):
            parts = imported.scram_parts(secret.partition("}")[2])
            form = Profile(salt=parts.salt, iterations=parts.iterations, keys=parts.keys[0][1])
        return await self._save_new(StoredUser(name, secret, self._clock(), data=profile.dump(form)))

    async def set_password(self, name: str, password: str) -> StoredUser:
        """PasswordError for a weak password."""
        passwords.check(password)
        user = self._known(name)
        secret, form = await self._threads.run(lambda: self._hashed(password, user))

        def changed(user: StoredUser) -> StoredUser:  # it may be another one since the thread began
            kept = replace(user.profile, salt=form.salt, iterations=form.iterations, keys=form.keys)
            return replace(user, secret=secret, data=profile.dump(kept))

        return await self._change(name, changed)

    async def disable(self, name: str, reason: str = "disabled") -> StoredUser:
        """Refuse this user's password from now on; the mailbox stays."""
        return await self._change(name, lambda user: replace(user, disabled=reason or "disabled"))

    async def enable(self, name: str) -> StoredUser:
        """Undo `disable`."""
        return await self._change(name, lambda user: replace(user, disabled=""))

    async def change(self, name: str, disabled: str, save: Callable[[StoredUser], Awaitable[None]]) -> StoredUser:
        """`disable` or `enable` ("") together with what else `save` does in the same transaction."""
        return await self._change(name, lambda user: replace(user, disabled=disabled), save)

    async def update(self, name: str, change: Callable[[Profile], Profile]) -> StoredUser:
        """Change the profile. Nothing is written when it stays the same."""

        def changed(user: StoredUser) -> StoredUser:
            form = change(user.profile)
            return user if form == user.profile else replace(user, data=profile.dump(form))

        return await self._change(name, changed)

    async def add_app_password(self, name: str, label: str) -> tuple[StoredUser, str]:
        """Generate one. It is returned and kept nowhere. UserError when the label is taken or there are too many."""
        user, label = self._known(name), label.strip()
        _check_label(user.profile, label)
        groups = ["".join(self._rng.choices(_LETTERS, k=4)) for _ in range(_GROUPS)]
        password = "-".join(groups)
        salt, iterations = self._salting(user)
        keys = await self._threads.run(lambda: scram.derive(password, salt, iterations))
        one = AppPassword(label, keys, self._clock())

        def added(form: Profile) -> Profile:
            _check_label(form, label)
            return replace(form, salt=salt, iterations=iterations, app_passwords=(*form.app_passwords, one))

        return await self.update(user.name, added), password

    async def remove(self, name: str) -> bool:
        """Forget the user. False: there was none."""
        async with self._turn:
            user = self.get(name)
            if user is None:
                return False
            removed = await self._store.delete_user(user.name)
            self._put(user, None)
            return removed

    # Sign-in

    async def verify(self, name: str, password: str) -> StoredUser | None:
        """The user, when the password is right: the account's own, or one of its app passwords.

        Takes the same work for an unknown user and a wrong password. A right answer is remembered for CACHE_S, so that
        a busy submitter does not pay for every mail. A hash of an older kind is replaced by a better one on the way.
        Raises Refused: 454 while too many checks wait, 525 with a right password of a user who may not send.
        """
        user = self.get(name)
        known = (user.secret, user.data) if user is not None else (self._nobody, "")
        claim = "\0".join((name, *known, password)).encode("utf-8", "surrogatepass")
        proof = hmac.digest(self._cache_key, claim, "sha256")
        now = self._clock()
        until, label = self._cache.get(proof, (0.0, ""))
        if until <= now:
            found = await self._threads.run(lambda: self._check(password, user))
            if found is None or user is None:
                return None
            label = found.label
            if found.profile is not None:
                better = replace(user, secret=found.secret or user.secret, data=profile.dump(found.profile))
                with contextlib.suppress(Exception):  # the next sign-in tries again
                    if await self._change(name, lambda now: better if now == user else now) == better:
                        user = better
            else:
                self._remember(proof, now, label)
        elif user is None:
            return None
        return await self._signed_in(user, label)

    def challenge(self, name: str) -> scram.Challenge:
        """What SCRAM asks of a name; for one that nobody has it looks the same, and cannot be met."""
        user = self.get(name)
        salt, iterations = self._salting(user, name)
        if user is None:
            return scram.Challenge(salt, iterations)
        form = user.profile
        keys = [("", form.keys)] if form.keys is not None else []
        return scram.Challenge(salt, iterations, [*keys, *((one.label, one.keys) for one in form.app_passwords)])

    async def proven(self, name: str, label: str) -> StoredUser | None:
        """The user who proved by SCRAM to know the password of that label. Raises Refused as `verify` does."""
        user = self.get(name)
        return None if user is None else await self._signed_in(user, label)

    async def certified(self, name: str, fingerprint: str, mailboxes: Sequence[str]) -> StoredUser | None:
        """The user of a client certificate that was verified: who has its SHA-256 `fingerprint` registered, or else
        whose address it names. `name` is who the client wants to be, "" leaves it to us. Raises Refused as `verify`."""
        key = self._by_certificate.get(fingerprint)
        user = self._users.get(key) if key is not None else None
        if user is None:
            named = {self._key(mailbox) for mailbox in mailboxes if "@" in mailbox} & self._users.keys()
            if name:
                named &= {self._key(name)}
            user = self._users[named.pop()] if len(named) == 1 else None
        if user is None or (name and self.get(name) is not user):
            return None
        return await self._signed_in(user, "")

    async def _signed_in(self, user: StoredUser, label: str) -> StoredUser | None:
        """The password was right. Look again: the account may have changed while the thread worked."""
        current = self.get(user.name)
        if current is None or current.secret != user.secret:
            return None
        form = current.profile
        if current.disabled:
            raise Refused(Reply(525, "5.7.13", f"This account is disabled: {_public(current.disabled)}", stage="auth"))
        if form.receive_only:
            raise Refused(Reply(525, "5.7.13", "This account only receives mail", stage="auth"))
        if not label:
            return current
        now = self._clock()
        used = next((one for one in form.app_passwords if one.label == label), None)
        if used is None:
            return None
        if not used.used_at or now - used.used_at >= DAY_S:
            with contextlib.suppress(Exception):  # it is for the operator's eyes only
                current = await self.update(current.name, lambda form: profile.used(form, label, now))
        return current

    # In a thread

    def _check(self, password: str, user: StoredUser | None) -> _Found | None:
        """Is it one of the user's passwords? Who has no user, or is wrong, waits for the same work."""
        fits = len(passwords.octets(password)) <= passwords.LENGTH_MAX_BYTES
        given = password if fits else ""  # some old hashes take time by the square of the length
        if user is None:
            passwords.verify(given, self._nobody)
            scram.derive(given, b"\0" * scram.SALT_BYTES, self._cost.iterations)
            return None
        form = user.profile
        if imported.verify(given, user.secret) and fits:
            return _Found("", *self._hashed(password, user)) if self._outdated(user) else _Found()
        if not imported.ours(user.secret) or imported.problem(user.secret):
            passwords.verify(given, self._nobody)
        salt, iterations = self._salting(user)
        stored_key = scram.derive(given, salt, iterations).stored_key
        right = [one for one in form.app_passwords if hmac.compare_digest(one.keys.stored_key, stored_key)]
        return _Found(right[0].label) if right and fits else None

    def _hashed(self, password: str, user: StoredUser) -> tuple[str, Profile]:
        """The stored form, and the profile with the keys of SCRAM."""
        salt, iterations = self._salting(user if user.profile.app_passwords else None, user.name)
        secret = passwords.hash_password(password, self._rng.randbytes(passwords.SALT_BYTES), self._cost)
        keys = scram.derive(password, salt, iterations)
        return secret, replace(user.profile, salt=salt, iterations=iterations, keys=keys)

    def _outdated(self, user: StoredUser) -> bool:
        form = user.profile
        weak = form.iterations < self._cost.iterations and not form.app_passwords
        return passwords.outdated(user.secret, self._cost) or form.keys is None or weak

    def _salting(self, user: StoredUser | None, name: str = "") -> tuple[bytes, int]:
        """Salt and iterations of SCRAM: those of the account, while it has any password that hangs on them."""
        if user is not None and user.profile.iterations:
            return user.profile.salt, user.profile.iterations
        return scram.salt_of(self._key(user.name if user is not None else name), self._install), self._cost.iterations

    # Inner steps

    async def _make(self, name: str, password: str, *, receive_only: bool = False) -> StoredUser:
        bare = StoredUser(name, "", self._clock())
        secret, form = await self._threads.run(lambda: self._hashed(password, bare))
        data = profile.dump(replace(form, receive_only=receive_only))
        return await self._save_new(replace(bare, secret=secret, data=data))

    def _remember(self, proof: bytes, now: float, label: str) -> None:
        if len(self._cache) >= CACHE_MAX:
            self._cache = {kept: value for kept, value in self._cache.items() if value[0] > now}
        if len(self._cache) >= CACHE_MAX:
            self._cache.clear()
        self._cache[proof] = now + CACHE_S, label

    def in_full(self, name: str) -> str:
        """A bare name with its domain; an address, a pattern (* and ?) and uid=NUMBER as they are."""
        return name if set("@*?=") & set(name) or not self._domain else f"{name}@{self._domain}"

    def _key(self, name: str) -> str:
        """What a name is found by; text that is no address finds nobody."""
        full = self.in_full(name)
        try:
            return addresses.fold(full)
        except addresses.AddressError:
            return full.casefold()

    def _known(self, name: str) -> StoredUser:
        user = self.get(name)
        if user is None:
            raise UserError(f"there is no user {name}")
        return user

    def _free(self, name: str) -> str:
        name = self.qualify(name)
        if self.get(name) is not None:
            raise UserError(f"{name} exists already")
        return name

    async def _save_new(self, user: StoredUser) -> StoredUser:
        async with self._turn:
            self._free(user.name)  # still?
            await self._store.save_user(user)
            self._put(None, user)
            return user

    async def _change(
        self,
        name: str,
        change: Callable[[StoredUser], StoredUser],
        save: Callable[[StoredUser], Awaitable[None]] | None = None,
    ) -> StoredUser:
        """Nothing is written for who stays the same, but by `save`. UserError for an unknown user."""
        async with self._turn:
            old = self._known(name)
            new = change(old)
            if new != old or save is not None:
                await (save or self._store.save_user)(new)
                self._put(old, new)
            return new

    def _put(self, old: StoredUser | None, new: StoredUser | None) -> None:
        """In memory: `new` in place of `old`."""
        self.changes += 1
        if old is not None:
            self._users.pop(addresses.fold(old.name), None)
            for one in old.profile.certificates:
                self._by_certificate.pop(one, None)
        if new is not None:
            key = addresses.fold(new.name)
            self._users[key] = new
            self._by_certificate.update(dict.fromkeys(new.profile.certificates, key))


def fingerprint(certificate: bytes) -> str:
    """Of a certificate in DER: how it is registered."""
    return hashlib.sha256(certificate).hexdigest()


def _check_label(form: Profile, label: str) -> None:
    if not label or len(label) > profile.LABEL_MAX:
        raise UserError(f"a label has 1 to {profile.LABEL_MAX} characters")
    if any(one.label == label for one in form.app_passwords):
        raise UserError(f"there is an app password {label!r} already")
    if len(form.app_passwords) >= profile.APP_PASSWORDS_MAX:
        raise UserError(f"there are {profile.APP_PASSWORDS_MAX} app passwords already")


def _public(reason: str) -> str:
    """An operator's words, fit for one line of a reply."""
    return "".join(char if char.isprintable() else " " for char in reason)[:200]
