import random
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.accounts import directory as room
from mtad.accounts.account import StoredUser
from mtad.accounts.aliases import Aliases
from mtad.accounts.directory import Directory, Elsewhere, Forward, Mailbox, Resolution, Unknown
from mtad.accounts.passwords import Cost
from mtad.accounts.users import Users
from mtad.config import Config, Local, Paths
from mtad.mail.reply import Refused

Make = Callable[..., Directory]


class Shelf:
    async def load_users(self) -> Sequence[StoredUser]:
        names = ("alice@example.test", "Bob@example.test", "carol@other.test")
        return [StoredUser(name, "", 0.0) for name in names]

    async def save_user(self, user: StoredUser) -> None: ...

    async def delete_user(self, name: str) -> bool:
        return False

    async def install_secret(self) -> bytes:
        return b"install"


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    people = Users(Shelf(), lambda: 0.0, random.Random(1), domain="example.test", cost=Cost(ln=4, r=8, p=1))
    await people.load()

    def build(
        entries: dict[str, tuple[str, ...]] | None = None,
        catch_all: str = "",
        delimiter: str = "+",
        broken: Sequence[str] = (),
    ) -> Directory:
        local = Local(catch_all=catch_all, delimiter=delimiter)
        config = Config("mail.example.test", ("example.test", "other.test"), Paths("", "", ""), local=local)
        return Directory(config, people, Aliases(entries or {}, broken))

    yield build
    people.close()


ENTRIES = {
    "root": ("alice",),
    "team": ("alice", "bob@example.test", "dave@example.net"),
    "info@other.test": ("carol@other.test",),
    "self": ("self", "alice"),
    "alice+keep": ("dave@example.net",),
    "raw": ("\\alice",),
}


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("alice@example.test", Mailbox("alice@example.test")),
        ("ALICE@example.test", Mailbox("alice@example.test")),
        ("bob@example.test", Mailbox("Bob@example.test")),
        ("alice+lists@example.test", Mailbox("alice@example.test")),
        ("alice+keep@example.test", Forward(("dave@example.net",))),
        ("carol@example.test", Unknown()),  # a user of the other domain
        ("carol@other.test", Mailbox("carol@other.test")),
        ("nobody@example.test", Unknown()),
        ("+x@example.test", Unknown()),
        ("postmaster", Mailbox("postmaster@example.test")),
        ("postmaster@other.test", Mailbox("postmaster@other.test")),
        ("Abuse+x@example.test", Mailbox("abuse@example.test")),
        ("mailer-daemon@example.test", Forward(("postmaster@example.test",))),
        ("root@other.test", Forward(("alice@example.test",))),
        ("team@example.test", Forward(("alice@example.test", "bob@example.test", "dave@example.net"))),
        ("info@other.test", Forward(("carol@other.test",))),
        ("info@example.test", Unknown()),
        ("self@example.test", Forward(("alice@example.test",), ("self@example.test",))),
        ("raw@example.test", Forward((), ("alice@example.test",))),
        ("x@example.net", Elsewhere()),
        ("alice@sub.example.test", Elsewhere()),
        ("alice@[127.0.0.1]", Elsewhere()),
        ("", Unknown()),
    ],
)
def test_resolve(make: Make, address: str, wanted: Resolution) -> None:
    assert make(ENTRIES).resolve(address) == wanted


def test_catch_all_comes_last(make: Make) -> None:
    directory = make(catch_all="alice@example.test")
    assert directory.resolve("nobody@example.test") == Forward(("alice@example.test",))
    assert directory.resolve("postmaster@example.test") == Mailbox("postmaster@example.test")
    assert make(catch_all="nobody@example.test").resolve("nobody@example.test") == Unknown()


def test_no_delimiter_no_sub_addresses(make: Make) -> None:
    assert make(delimiter="").resolve("alice+x@example.test") == Unknown()


@pytest.mark.parametrize(
    ("entries", "address", "wanted"),
    [
        (ENTRIES, "team@example.test", ("alice@example.test", "Bob@example.test", "dave@example.net")),
        (ENTRIES, "self@example.test", ("self@example.test", "alice@example.test")),
        (ENTRIES, "raw@example.test", ("alice@example.test",)),
        (ENTRIES, "dave@example.net", ("dave@example.net",)),
        (ENTRIES, "nobody@example.test", ()),
        ({"a": ("b",), "b": ("c",), "c": ("a",)}, "a@example.test", ("a@example.test",)),
        ({"a": ("b", "b", "gone"), "b": ("alice",)}, "a@example.test", ("alice@example.test", "gone@example.test")),
        ({"postmaster": ("root",)}, "root@example.test", ("root@example.test",)),
        ({"a": ("b", "c"), "b": ("c",), "c": ("alice",)}, "a@example.test", ("alice@example.test",)),
    ],
)
def test_expand(make: Make, entries: dict[str, tuple[str, ...]], address: str, wanted: tuple[str, ...]) -> None:
    assert make(entries).expand(address) == wanted


def test_a_chain_has_an_end(make: Make) -> None:
    chain = {f"a{n}": (f"a{n + 1}",) for n in range(room.DEPTH_MAX)}
    chain[f"a{room.DEPTH_MAX}"] = ("alice",)
    assert make(chain).expand("a1@example.test") == ("alice@example.test",)
    with pytest.raises(Refused) as caught:
        make(chain).expand("a0@example.test")
    assert (caught.value.reply.code, caught.value.reply.status) == (451, "4.2.4")


def test_mail_to_a_broken_alias_waits(make: Make) -> None:
    here = make({"list": ("dave@d.test", "ghost")}, broken=["ghost", "info@other.test", "alice", "postmaster"])
    for address in ("Ghost@example.test", "ghost+tag@example.test", "info@other.test"):
        assert here.resolve(address) == Forward(())
        with pytest.raises(Refused) as caught:
            here.expand(address)
        assert (caught.value.reply.code, caught.value.reply.status) == (451, "4.3.5")
    with pytest.raises(Refused):
        here.expand("list@example.test")  # none of a list's mail is lost unseen
    # Who has a mailbox, and who is always there, gets the mail.
    assert here.resolve("alice@example.test") == Mailbox("alice@example.test")
    assert here.resolve("postmaster@example.test") == Mailbox("postmaster@example.test")
    assert here.resolve("info@example.test") == Unknown()


def test_a_list_has_an_end(make: Make) -> None:
    members = tuple(f"m{n}@example.net" for n in range(room.TARGETS_MAX))
    assert make({"all": members}).expand("all@example.test") == members
    with pytest.raises(Refused):
        make({"all": (*members, "one@more.test")}).expand("all@example.test")


def test_a_bush_of_aliases_is_cut_in_time(make: Make) -> None:
    bush = {f"a{n}": (f"a{n + 1}", f"b{n + 1}") for n in range(40)}
    bush |= {f"b{n}": (f"a{n + 1}", f"b{n + 1}") for n in range(40)}
    assert set(make(bush).expand("a0@example.test")) == {"a40@example.test", "b40@example.test"}


NAMES = st.sampled_from(["a", "b", "c", "alice", "x@example.net", "\\a"])


@given(entries=st.dictionaries(st.sampled_from("abc"), st.lists(NAMES, min_size=1, max_size=4).map(tuple)))
def test_every_web_of_aliases_ends(entries: dict[str, tuple[str, ...]]) -> None:
    people = Users(Shelf(), lambda: 0.0, random.Random(1), cost=Cost(ln=4, r=8, p=1))
    config = Config("mail.example.test", ("example.test",), Paths("", "", ""))
    found = Directory(config, people, Aliases(entries)).expand("a@example.test")
    people.close()
    assert len(set(found)) == len(found)
    assert bool(found) == ("a" in entries)
