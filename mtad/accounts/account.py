"""One account as it is kept, what may be wrong with it, and where accounts are kept."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from mtad.accounts import imported, profile
from mtad.accounts.profile import Profile
from mtad.mail import address as addresses
from mtad.mail.envelope import TIME_MAX


@dataclass(frozen=True, slots=True, repr=False)
class StoredUser:
    """One account. `secret` is the stored form of the password, `disabled` the reason why it may not be used. What is
    secret in it is not printable on purpose."""

    name: str  # canonical address: "alice@example.test"
    secret: str
    created_at: float
    disabled: str = ""
    data: str = ""  # JSON of the profile

    @property
    def profile(self) -> Profile:
        """ValueError when it is damaged."""
        return profile.parse(self.data)

    def __repr__(self) -> str:
        return f"StoredUser({self.name!r}, disabled={self.disabled!r})"


class UserStore(Protocol):
    """Where accounts are kept. Each call is durable when it returns."""

    async def load_users(self) -> Sequence[StoredUser]: ...

    async def save_user(self, user: StoredUser) -> None:
        """Insert, or replace the user of that name."""

    async def delete_user(self, name: str) -> bool:
        """False: there was none."""

    async def install_secret(self) -> bytes:
        """Random octets that this installation made once."""


def problem(user: StoredUser) -> str:
    """What is wrong with a row and what mends it, "" for nothing."""
    try:
        addresses.fold(user.name)
    except addresses.AddressError:
        return "this is no address: remove the account, and make it again"
    try:
        user.profile  # noqa: B018  (now, not at the first sign-in)
    except ValueError as error:
        return f"{error}: `mtactl user passwd`, then `mtactl user enable`; app passwords and senders are lost"
    return f"{why}: `mtactl user passwd`" if (why := imported.problem(user.secret)) else ""


def usable(user: StoredUser) -> StoredUser:
    """Without what is damaged."""
    created_at = user.created_at if abs(user.created_at) < TIME_MAX else 0.0
    try:
        user.profile  # noqa: B018
    except ValueError:
        return StoredUser(user.name, "", created_at, user.disabled or "its data is damaged")
    return replace(user, created_at=created_at)
