import asyncio
import random
from collections.abc import AsyncIterator, Sequence

import pytest

from mtad.accounts import passwords, users
from mtad.accounts.users import StoredUser, UserError, Users
from mtad.mail.reply import Refused

CHEAP = passwords.Cost(ln=4, r=8, p=1, iterations=4096)


class Shelf:
    """A store in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, StoredUser] = {}

    async def load_users(self) -> Sequence[StoredUser]:
        return list(self.kept.values())

    async def save_user(self, user: StoredUser) -> None:
        self.kept[user.name] = user

    async def delete_user(self, name: str) -> bool:
        return self.kept.pop(name, None) is not None

    async def install_secret(self) -> bytes:
        return b"install"


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
async def people(shelf: Shelf, clock: Time) -> AsyncIterator[Users]:
    made = Users(shelf, clock, random.Random(1), domain="example.test", cost=CHEAP)
    await made.load()
    yield made
    made.close()


async def test_add_verify_remove(people: Users, shelf: Shelf) -> None:
    added = await people.add("Alice", "geheim12")
    assert added.name == "Alice@example.test"
    assert added.created_at == 1000.0
    assert "geheim12" not in added.secret
    assert shelf.kept == {added.name: added}
    assert await people.verify("alice@EXAMPLE.test", "geheim12") == added
    assert await people.verify("alice", "geheim12") == added
    assert await people.verify("alice", "geheim13") is None
    assert await people.verify("bob", "geheim12") is None
    assert people.list() == [added]
    assert await people.remove("ALICE") is True
    assert await people.remove("alice") is False
    assert shelf.kept == {}
    assert await people.verify("alice", "geheim12") is None


async def test_users_survive_in_the_store(people: Users, shelf: Shelf, clock: Time) -> None:
    await people.add("bob@other.test", "geheim12")
    again = Users(shelf, clock, random.Random(2), domain="example.test", cost=CHEAP)
    await again.load()
    assert await again.verify("bob@other.test", "geheim12") is not None
    again.close()


async def test_each_user_has_a_salt_of_their_own(people: Users) -> None:
    first, second = await people.add("a", "geheim12"), await people.add("b", "geheim12")
    assert first.secret != second.secret


async def test_what_cannot_be_added(people: Users) -> None:
    await people.add("alice", "geheim12")
    with pytest.raises(UserError, match="exists already"):
        await people.add("ALICE@example.test", "geheim12")
    with pytest.raises(UserError, match="not an address"):
        await people.add("a b", "geheim12")
    with pytest.raises(passwords.PasswordError):
        await people.add("carol", "short")
    with pytest.raises(UserError, match="there is no user"):
        await people.set_password("carol", "geheim12")
    assert len(people.list()) == 1


@pytest.mark.parametrize(
    "name", ["", "@", "a@", "@b", "a@[", "x" * 5000, "a\0b@c", "a@b@c", "\ud800", "a@\udcff.x", "a@b..c"]
)
async def test_odd_names_are_nobody(people: Users, name: str) -> None:
    assert await people.verify(name, "geheim12") is None


async def test_a_new_password_ends_the_old_one_at_once(people: Users) -> None:
    await people.add("alice", "geheim12")
    assert await people.verify("alice", "geheim12")
    await people.set_password("alice", "anders34")
    assert await people.verify("alice", "geheim12") is None
    assert await people.verify("alice", "anders34")


async def test_disabled_users_are_refused_though_remembered(people: Users) -> None:
    await people.add("alice", "geheim12")
    assert await people.verify("alice", "geheim12")
    await people.disable("alice", "spam")
    with pytest.raises(Refused, match=r"525 5\.7\.13 This account is disabled: spam"):
        await people.verify("alice", "geheim12")
    assert await people.verify("alice", "geheim13") is None
    user = people.get("alice")
    assert user is not None
    assert user.disabled == "spam"
    await people.enable("alice")
    assert await people.verify("alice", "geheim12")


async def test_a_right_answer_is_remembered_for_a_while(
    people: Users, clock: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    worked: list[str] = []
    real = passwords.verify

    def counting(password: str, secret: str) -> bool:
        worked.append(password)
        return real(password, secret)

    monkeypatch.setattr(passwords, "verify", counting)
    await people.add("alice", "geheim12")
    for _ in range(3):
        assert await people.verify("alice", "geheim12")
    assert len(worked) == 1
    assert await people.verify("alice", "geheim13") is None
    assert await people.verify("alice", "geheim13") is None
    assert len(worked) == 3  # a wrong one never is
    clock.now += users.CACHE_S + 1
    assert await people.verify("alice", "geheim12")
    assert len(worked) == 4
    # An unknown user costs the same work.
    assert await people.verify("nobody", "geheim12") is None
    assert len(worked) == 5


async def test_too_many_checks_at_once_are_put_off(people: Users) -> None:
    await people.add("alice", "geheim12")
    answers = await asyncio.gather(
        *(people.verify("alice", f"wrong-{n}") for n in range(users.WAITING_MAX + 10)), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, Refused)]
    assert len(refused) == 10
    assert {answer.reply.code for answer in refused} == {454}
    assert await people.verify("alice", "geheim12")
