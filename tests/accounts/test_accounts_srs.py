"""Senders of forwarded mail, there and back."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.accounts.aliases import Aliases
from mtad.accounts.directory import Directory, Elsewhere, Forward, Mailbox, Unknown
from mtad.accounts.passwords import Cost
from mtad.accounts.srs import MAX_AGE_DAYS, NotOurs, Srs, is_srs
from mtad.accounts.users import Users
from mtad.config import Config, Delivery, Local, Paths

DAY_S = 86400.0


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def srs(clock: Clock) -> Srs:
    return Srs(b"k" * 32, clock)


def local(address: str) -> str:
    return address.rpartition("@")[0]


def test_there_and_back(srs: Srs) -> None:
    made = srs.forward("Alice+x@example.org", "our.test")
    assert re.fullmatch(r"SRS0=[a-z2-7]{8}=[a-z2-7]{2}=example\.org=Alice\+x@our\.test", made)
    assert srs.reverse(local(made)) == "Alice+x@example.org"
    assert srs.reverse(local(made).lower()) == "alice+x@example.org"


def test_what_another_house_made_goes_back_to_that_house(srs: Srs) -> None:
    theirs = "SRS0=HHHH=TT=example.org=alice@first.test"
    made = srs.forward(theirs, "our.test")
    assert made.endswith("=first.test==HHHH=TT=example.org=alice@our.test")
    assert made.startswith("SRS1=")
    assert srs.reverse(local(made)) == theirs
    third = Srs(b"another", Clock()).forward(made, "third.test")
    assert third.partition("=first")[2] == made.partition("=first")[2].replace("our.test", "third.test")
    assert Srs(b"another", Clock()).reverse(local(third)) == theirs
    plus = srs.forward("SRS0+HHHH=TT=example.org=alice@first.test", "our.test")
    assert srs.reverse(local(plus)) == "SRS0+HHHH=TT=example.org=alice@first.test"


def test_for_three_weeks(srs: Srs, clock: Clock) -> None:
    made = local(srs.forward("a@x.test", "our.test"))
    clock.now += MAX_AGE_DAYS * DAY_S
    assert srs.reverse(made) == "a@x.test"
    clock.now += DAY_S
    with pytest.raises(NotOurs, match="21 days"):
        srs.reverse(made)


@pytest.mark.parametrize(
    "change",
    [
        lambda made: made.replace("x.test", "y.test"),
        lambda made: made.replace("=a", "=b"),
        lambda made: made.replace("SRS0", "SRS1"),
        lambda made: made[:5] + "a" * 8 + made[13:],
        lambda made: made[:13],
        lambda made: "SRS0=",
        lambda made: "SRS0=====",
        lambda made: "SRS1=abc",
        lambda made: "SRS0-" + made[5:],
        lambda made: made[:13] + "=\udcff=x.test=a",
    ],
)
def test_forged(srs: Srs, change) -> None:
    made = local(srs.forward("a@x.test", "our.test"))
    with pytest.raises(NotOurs):
        srs.reverse(change(made))


@pytest.mark.parametrize(
    "sender", ["", "postmaster", '"a b"@x.test', "a@[192.0.2.1]", "ü@x.test", "a" * 60 + "@x.test", "SRS1=abc@x.test"]
)
def test_what_cannot_be_written_stays(srs: Srs, sender: str) -> None:
    assert srs.forward(sender, "our.test") == sender


@given(st.text())
def test_garbage_is_only_refused(text: str) -> None:
    with pytest.raises(NotOurs):
        Srs(b"k", Clock()).reverse(f"SRS0={text}")


# --- in the directory


class Shelf:
    async def load_users(self):
        return []

    async def install_secret(self):
        return b"install"


@pytest.fixture
async def make(clock: Clock):
    people = Users(Shelf(), clock, random.Random(1), domain="our.test", cost=Cost(ln=4, r=8, p=1))
    await people.load()

    def build(*, srs: bool = True, catch_all: str = "") -> Directory:
        config = Config(
            "mail.our.test",
            ("our.test", "other.test"),
            Paths("", "", ""),
            local=Local(catch_all=catch_all),
            delivery=Delivery(srs=srs),
        )
        return Directory(config, people, Aliases({"fwd": ("bob@far.test",)}), clock)

    yield build
    people.close()


@pytest.mark.parametrize(
    ("sender", "original", "address", "changed"),
    [
        ("a@x.test", "fwd@our.test", "bob@far.test", True),
        ("a@x.test", "fwd@other.test", "bob@far.test", True),
        ("", "fwd@our.test", "bob@far.test", False),
        ("carol@other.test", "fwd@our.test", "bob@far.test", False),
        ("a@x.test", "bob@far.test", "bob@far.test", False),  # relayed, not forwarded
        ("a@x.test", "fwd@our.test", "bob@other.test", False),
        ("a@x.test", "b@far.test", "bob@far.test", False),
        ("postmaster", "fwd@our.test", "bob@far.test", False),
    ],
)
async def test_only_where_it_is_needed(make, sender, original, address, changed) -> None:
    made = make().sender_for(sender, original, address)
    assert (made != sender) is changed
    if changed:
        assert made.endswith("@" + original.partition("@")[2])
    assert make(srs=False).sender_for(sender, original, address) == sender


async def test_reports_find_back_and_forged_ones_do_not(make, clock: Clock) -> None:
    directory = make(catch_all="all@our.test")
    made = directory.sender_for("a@x.test", "fwd@our.test", "bob@far.test")
    for of in (directory, make(srs=False)):
        assert of.resolve(made) == Forward(("a@x.test",), report=True)
        assert of.expand(made) == ("a@x.test",)
    assert directory.resolve(made.replace("@our.test", "@OTHER.test")) == Forward(("a@x.test",), report=True)
    assert directory.resolve(made.replace("x.test", "y.test")) == Unknown()  # not even the catch-all
    assert directory.resolve(made.replace("our.test", "far.test")) == Elsewhere()
    clock.now += 22 * DAY_S
    assert directory.resolve(made) == Unknown()
    assert directory.resolve("abuse@our.test") == Mailbox("abuse@our.test")


def test_the_form() -> None:
    assert is_srs("srs0=x")
    assert is_srs("SRS1+x")
    assert not is_srs("srs0")
    assert not is_srs("srs2=x")
    assert not is_srs("srs0x=")
