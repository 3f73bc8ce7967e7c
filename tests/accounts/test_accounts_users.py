import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

import pytest

from mtad.accounts import hashing, imported, passwords, scram, sha_crypt, users
from mtad.accounts.account import StoredUser
from mtad.accounts.users import UserError, Users
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


async def test_changes_at_the_same_moment_do_not_undo_each_other(clock: Time) -> None:
    class Slow(Shelf):
        async def save_user(self, user: StoredUser) -> None:
            await asyncio.sleep(0)  # as each commit takes its time
            await super().save_user(user)

    shelf = Slow()
    people = Users(shelf, clock, random.Random(1), domain="example.test", cost=CHEAP)
    await people.load()
    await people.add("alice", "geheim12")
    _, stolen = await people.add_app_password("alice", "phone")
    for n in range(5):
        await asyncio.gather(
            people.update("alice", lambda form, n=n: replace(form, senders=(*form.senders, f"a{n}@x.test"))),  # type: ignore[misc]
            people.update("alice", lambda form, n=n: replace(form, senders=(*form.senders, f"b{n}@x.test"))),  # type: ignore[misc]
        )
    # A sign-in writes down when its app password was used; what the operator does meanwhile stays done.
    await asyncio.gather(people.disable("alice", "stolen"), people.proven("alice", "phone"))
    gone = people.update("alice", lambda form: replace(form, app_passwords=()))
    clock.now += 2 * 86400.0
    await asyncio.gather(gone, people.proven("alice", "phone"), return_exceptions=True)
    for user in (people.get("alice"), shelf.kept["alice@example.test"]):
        assert user is not None
        assert len(user.profile.senders) == 10
        assert user.disabled == "stolen"
        assert user.profile.app_passwords == ()
    await people.enable("alice")
    assert await people.verify("alice", stolen) is None
    people.close()


async def test_a_password_that_is_changed_during_its_check_is_the_old_one(people: Users, shelf: Shelf) -> None:
    """The old one would be kept in a better form, and the sign-in be taken for one with the new password."""
    await people.add_imported("carol", imported.read("{SHA256}" + "XohImNooBHFR0OVvjcYpJ3NgPQ1qq73WKhHvch0VQtg="))
    check = asyncio.create_task(people.verify("carol", "password"))
    await asyncio.sleep(0)
    new = StoredUser("carol@example.test", passwords.hash_password("a new one", b"s" * 16, CHEAP), 1.0)
    people._put(people.get("carol"), new)
    assert await check is None
    assert people.get("carol") == new


async def test_too_many_checks_at_once_are_put_off(people: Users) -> None:
    await people.add("alice", "geheim12")
    answers = await asyncio.gather(
        *(people.verify("alice", f"wrong-{n}") for n in range(hashing.WAITING_MAX + 10)), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, Refused)]
    assert len(refused) == 10
    assert {answer.reply.code for answer in refused} == {454}
    assert await people.verify("alice", "geheim12")


# App passwords, better hashes, certificates


async def test_app_passwords(people: Users, clock: Time) -> None:
    await people.add("alice", "geheim12")
    _, phone = await people.add_app_password("alice", "phone")
    _, printer = await people.add_app_password("alice", " printer ")
    assert len(phone) == 24
    assert phone != printer
    user = await people.verify("alice", phone)
    assert user is not None
    assert [(one.label, one.used_at) for one in user.profile.app_passwords] == [("phone", 1000.0), ("printer", 0.0)]
    clock.now += 100
    assert await people.verify("alice", printer)
    assert await people.verify("alice", phone)
    assert people.list()[0].profile.app_passwords[0].used_at == 1000.0  # to the day
    assert await people.verify("alice", "geheim12")
    with pytest.raises(UserError, match="already"):
        await people.add_app_password("alice", "phone")
    with pytest.raises(UserError, match="1 to 60"):
        await people.add_app_password("alice", " ")
    await people.set_password("alice", "another password")
    assert await people.verify("alice", phone)
    assert {label for label, _ in people.challenge("alice").keys} == {"", "phone", "printer"}
    await people.update("alice", lambda form: replace(form, app_passwords=form.app_passwords[1:]))
    assert await people.verify("alice", phone) is None
    assert await people.verify("alice", printer)
    assert phone not in repr(people.list()) + people.list()[0].data


@pytest.mark.parametrize(
    "secret",
    [
        "$6$rounds=1000$salt$" + sha_crypt.crypt(b"schemepass", b"salt", 1000, "sha512"),
        "{SHA256}Xd/C008MH4nAjKOAu5URtczuJ3GFdtoycHLduFX03Hw=",
        "{SCRAM-SHA-256}4096,vdv/YHJYQa53fAJB9ezQ1Q==,p6wP+APVlFpySpKutXoqExFRNmvwP8v7gTufs9gZiUA=,"
        "rmrB9+UuPHWp7rOTu17+xO/UjV7cnnFTaj+T2qY4XFc=",
    ],
)
async def test_an_imported_hash_is_used_once(people: Users, shelf: Shelf, secret: str) -> None:
    await people.add_imported("alice", imported.read(secret))
    assert shelf.kept["alice@example.test"].secret == secret
    assert await people.verify("alice", "Schemepass") is None
    user = await people.verify("alice", "schemepass")
    assert user is not None
    assert user == shelf.kept["alice@example.test"]
    assert user.secret.startswith("$scrypt$ln=4,r=8,p=1$")
    assert user.profile.keys == scram.derive("schemepass", user.profile.salt, 4096)
    assert await people.verify("alice", "schemepass") == user


async def test_an_imported_password_is_hashed_at_once(people: Users, shelf: Shelf) -> None:
    await people.add_imported("alice", imported.read("{PLAIN}short"))
    assert shelf.kept["alice@example.test"].secret.startswith("$scrypt$")
    assert await people.verify("alice", "short")


async def test_a_login_makes_an_old_hash_new(people: Users, shelf: Shelf, clock: Time) -> None:
    await people.add("alice", "geheim12")
    stronger = replace(CHEAP, ln=5, iterations=5000)
    later = Users(shelf, clock, random.Random(2), domain="example.test", cost=stronger)
    await later.load()
    assert await later.verify("alice", "wrong password") is None
    assert shelf.kept["alice@example.test"].secret.startswith("$scrypt$ln=4,")
    assert await later.verify("alice", "geheim12")
    user = shelf.kept["alice@example.test"]
    assert user.secret.startswith("$scrypt$ln=5,")
    assert user.profile.iterations == 5000
    later.close()


async def test_a_login_works_though_the_better_hash_cannot_be_kept(people: Users, shelf: Shelf) -> None:
    await people.add_imported("alice", "{SHA256}Xd/C008MH4nAjKOAu5URtczuJ3GFdtoycHLduFX03Hw=")

    async def full(user: StoredUser) -> None:
        raise OSError("no space left")

    shelf.save_user = full  # type: ignore[method-assign]
    assert await people.verify("alice", "schemepass")
    assert people.list()[0].secret.startswith("{SHA256}")


@pytest.mark.parametrize("name", ["a@@b", "@", "", "a b@c", "x" * 400, "\x00", "a@b@c", "alice@", "nobody", "\ud800"])
async def test_names_that_cannot_be(people: Users, name: str) -> None:
    assert people.get(name) is None
    assert await people.verify(name, "geheim12") is None
    assert people.challenge(name).keys == ()
    assert await people.proven(name, "") is None


async def test_every_wrong_answer_takes_the_same_work(people: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is computed is what takes time: the same for everybody who gets in by no password."""
    await people.add("alice", "geheim12")
    await people.add("disabled", "geheim12")
    await people.disable("disabled")
    _, _ = await people.add_app_password("disabled", "phone")
    hashed: list[str] = []

    def noting(function: Callable[..., object], name: str) -> Callable[..., object]:
        def noted(password: str, *more: object) -> object:
            hashed.append(name)
            return function(password, *more)

        return noted

    monkeypatch.setattr(passwords, "_scrypt", noting(passwords._scrypt, "scrypt"))
    monkeypatch.setattr(scram, "derive", noting(scram.derive, "pbkdf2"))
    for name in ("alice", "disabled", "nobody", "a@@b", ""):
        hashed.clear()
        assert await people.verify(name, "wrong password") is None
        assert hashed == ["scrypt", "pbkdf2"], name
    hashed.clear()
    assert await people.verify("alice", "x" * 100_000) is None
    assert hashed == ["scrypt", "pbkdf2"]


async def test_scram_asks_everybody_the_same(people: Users) -> None:
    await people.add("alice", "geheim12")
    await people.add_imported("bob", "{SHA256}Xd/C008MH4nAjKOAu5URtczuJ3GFdtoycHLduFX03Hw=")
    before = {name: people.challenge(name) for name in ("alice", "Alice@EXAMPLE.test", "bob", "nobody")}
    assert before["alice"].salt == before["Alice@EXAMPLE.test"].salt
    assert {(len(asked.salt), asked.iterations) for asked in before.values()} == {(16, 4096)}
    await people.verify("bob", "schemepass")
    await people.add("nobody", "geheim12")
    for name, asked in before.items():  # neither a first sign-in nor a new account shows
        assert people.challenge(name).salt == asked.salt


async def test_certificates(people: Users) -> None:
    await people.add("alice", "geheim12")
    await people.add("bob", "geheim12")
    alice = await people.update("alice", lambda form: replace(form, certificates=("aa",)))
    assert await people.certified("", "aa", ()) == alice
    assert await people.certified("alice", "aa", ("bob@example.test",)) == alice
    assert await people.certified("bob", "aa", ("bob@example.test",)) is None
    assert await people.certified("", "bb", ("Bob@example.test",)) == people.get("bob")
    assert await people.certified("", "bb", ("nobody@example.test", "bob@example.test")) == people.get("bob")
    assert await people.certified("", "bb", ("alice@example.test", "bob@example.test")) is None  # who of them?
    assert await people.certified("bob", "bb", ("alice@example.test", "bob@example.test")) == people.get("bob")
    assert await people.certified("bob", "bb", ("alice@example.test",)) is None
    assert await people.certified("", "bb", ("bob", "a@@b", "")) is None
    await people.update("alice", lambda form: replace(form, certificates=()))
    assert await people.certified("", "aa", ()) is None
    await people.disable("bob", "gone")
    with pytest.raises(Refused, match="gone"):
        await people.certified("", "bb", ("bob@example.test",))


async def test_who_only_receives_does_not_sign_in(people: Users) -> None:
    await people.add("list", "geheim12", receive_only=True)
    with pytest.raises(Refused, match=r"525 5\.7\.13"):
        await people.verify("list", "geheim12")
    assert await people.verify("list", "geheim13") is None


async def test_changes_are_counted(people: Users) -> None:
    before = people.changes
    await people.add("alice", "geheim12")
    await people.update("alice", lambda form: form)
    assert people.changes == before + 1
    await people.remove("alice")
    assert people.changes == before + 2


async def test_a_damaged_account_is_named_and_the_others_work(shelf: Shelf, people: Users) -> None:
    for name in ("alice", "bob", "carol"):
        await people.add(name, "geheim12")
    shelf.kept["alice@example.test"] = StoredUser("alice@example.test", "s", float("inf"), data="{broken secret")
    for secret in ("$scrypt$ln=15,r=8,p=3$c2", "{PBKDF2}$1$x", "{SSHA}!", "$2b$", "$6$x", "", "junk", "$argon2id$v=19"):
        shelf.kept["bob@example.test"] = replace(shelf.kept["bob@example.test"], secret=secret)
        await people.load()
        assert await people.verify("bob", "geheim12") is None
        assert [problem.partition(":")[0] for problem in people.problems] == [
            "user alice@example.test", "user bob@example.test",
        ]  # fmt: skip
        assert "mtactl user passwd" in people.problems[0]
        assert "mtactl user passwd" in people.problems[1]
    assert not any("broken secret" in problem for problem in people.problems)
    assert await people.verify("carol", "geheim12") == people.get("carol")
    with pytest.raises(Refused, match="damaged"):
        await people.certified("alice", "aa", ("alice@example.test",))
    assert await people.verify("alice", "geheim12") is None
    await people.set_password("alice", "geheim13")  # what mends it
    await people.enable("alice")
    await people.set_password("bob", "geheim13")
    await people.load()
    assert people.problems == ()
    assert await people.verify("alice", "geheim13") == people.get("alice")


def test_users_do_not_print_their_secrets() -> None:
    assert "hash" not in repr(StoredUser("alice@example.test", "hash", 0.0, data='{"hash": 1}'))
