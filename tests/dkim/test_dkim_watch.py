"""What the daemon does about keys: on a real directory, with a clock that stands still, and DNS as a table."""

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from mtad.dkim import ledger, watch
from mtad.dkim.keys import DkimKeyError, Keys
from mtad.dkim.rotation import KeyState, Look, Move, Ring, Rules, Sight, Stage, Verdict
from mtad.dkim.watch import Publication, PublishError, Watch, problems, waits_for
from mtad.events import Events

NOW = 1_700_000_000.0
RULES = Rules(keep_s=600.0, settle_s=60.0, check_s=10.0)
D = "example.test"


class House:
    """Keys, what two servers serve, and the queue's oldest mail."""

    def __init__(self, folder: Path) -> None:
        self.now = NOW
        self.keys = Keys(str(folder))
        self.served: list[dict[str, str]] = [{}, {}]  # name -> record
        self.oldest_at: float | None = None
        self.asked: list[str] = []
        self.lines: list[str] = []
        self.refusal = ""
        self.published: list[Publication] = []
        self.events = Events(lambda: self.now, self.lines.append)

    async def ask(self, domain: str, key: KeyState) -> Look:
        name = watch.where(domain, key.selector)
        self.asked.append(name)
        sights = []
        for number, table in enumerate(self.served):
            verdict: Verdict = "absent" if name not in table else "right" if table[name] == key.record else "other"
            sights.append(Sight(f"ns{number}", "", "udp", verdict, 5.0, "words"))
        return Look(tuple(sights), self.now, 20.0)

    async def oldest(self) -> float | None:
        return self.oldest_at

    async def publish(self, records: Sequence[Publication]) -> None:
        if self.refusal:
            raise PublishError(self.refusal)
        self.published += records
        for record in records:  # at the primary only
            self.served[0].pop(record.name, None)
            if record.text:
                self.served[0][record.name] = record.text

    def watch(self, *, pushes: bool = False) -> Watch:
        return Watch(
            self.keys, self.events, lambda: self.now, RULES, self.ask, self.oldest, self.publish if pushes else None
        )

    def everywhere(self, selector: str) -> None:
        key = self.keys.ring(D).key(selector)
        assert key is not None
        for table in self.served:
            table[watch.where(D, selector)] = key.record

    def stages(self) -> dict[str, str]:
        return {key.selector: key.stage.value for key in self.keys.ring(D).keys}

    def signing(self) -> list[str]:
        return [key.selector for key in self.keys.keys(D)]


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = House(tmp_path / "dkim")
    house.keys.generate(D, "old", "ed25519", NOW - 1e6)
    house.keys.load()
    return house


def rotate(house: House) -> None:
    house.keys.rotate(D, "new", now=house.now)
    house.keys.load()


async def test_a_rotation_on_disk(house: House) -> None:
    rotate(house)
    keeper = house.watch()
    assert house.signing() == ["old"]
    assert await keeper.turn() == 10.0
    assert house.stages() == {"old": "active", "new": "pending"}
    house.everywhere("new")
    house.now += 10
    await keeper.turn()
    assert house.stages() == {"old": "active", "new": "published"}
    house.now += 21
    await keeper.turn()
    assert (house.stages(), house.signing()) == ({"old": "retiring", "new": "active"}, ["new"])
    assert Keys(str(Path(house.keys.list()[0].path).parents[1])).load() == []  # as another process would read it
    house.now += 700
    await keeper.turn()
    assert house.stages()["old"] == "retired"  # it was never published
    assert not os.path.exists(f"{os.path.dirname(house.keys.list()[0].path)}/old.pem")
    assert [line for line in house.lines if line.startswith("dkim")] == [
        "dkim: domain=example.test, selector=new, stage=published",
        "dkim: domain=example.test, selector=old, stage=retiring",
        "dkim: domain=example.test, selector=new, stage=active",
        "dkim: domain=example.test, selector=old, stage=retired",
    ]
    assert house.events.counters['mtad_dkim_stages_total{stage="active"}'] == 1


async def test_the_pace(house: House) -> None:
    keeper = house.watch()
    house.everywhere("old")
    assert await keeper.turn() == 600.0  # an active key is looked at now and then
    house.asked.clear()
    house.now += 599
    await keeper.turn()
    assert house.asked == []
    rotate(house)
    await keeper.turn()
    assert house.asked == ["new._domainkey.example.test"]
    house.now -= 5000  # the clock was set back: look again, do not wait for an hour
    house.asked.clear()
    await keeper.turn()
    assert "new._domainkey.example.test" in house.asked


async def test_it_publishes_and_removes_by_itself(house: House) -> None:
    keeper = house.watch(pushes=True)
    house.refusal = "the server says no"
    await keeper.turn()
    assert problems(house.keys, house.now, RULES, None, by_hand=False)[0] == "dkim: example.test: the server says no"
    house.refusal = ""
    house.now += 600
    await keeper.turn()
    assert [record.name for record in house.published] == ["old._domainkey.example.test"]  # the active one, too
    house.everywhere("old")
    house.now += 600
    await keeper.turn()
    assert problems(house.keys, house.now, RULES, None, by_hand=False) == []
    rotate(house)
    house.published.clear()
    for _ in range(3):
        await keeper.turn()
        house.now += 10
    assert [record.name for record in house.published] == ["new._domainkey.example.test"]  # once: the other only lags
    house.everywhere("new")
    for _ in range(4):
        await keeper.turn()
        house.now += 10
    assert house.stages() == {"old": "retiring", "new": "active"}
    house.now += 700
    await keeper.turn()
    assert house.published[-1] == Publication("old._domainkey.example.test", "")
    house.served[1].clear()
    house.everywhere("new")
    house.now += 100
    await keeper.turn()
    assert house.stages() == {"old": "retired", "new": "active"}


async def test_the_schedule_begins_a_rotation(house: House) -> None:
    house.keys.change(D, lambda ring: (Ring(ring.domain, ring.keys, 2e6, ring.rotated_at), []))
    keeper = house.watch()
    await keeper.turn()
    assert list(house.stages()) == ["old"]
    house.now += 1_000_001
    await keeper.turn()
    assert sorted(house.stages().values()) == ["active", "pending"]
    house.now += 1e7
    await keeper.turn()
    assert sorted(house.stages().values()) == ["active", "pending"]  # one at a time


async def test_what_humans_are_told(house: House) -> None:
    keeper = house.watch()
    rotate(house)
    await keeper.turn()
    told = problems(house.keys, house.now, RULES, None, by_hand=True)
    assert told == [
        "dkim: example.test: publish the record of new; mtactl dkim show example.test prints it",
        "dkim: example.test: mail is signed with old, but DNS does not serve it: publish it;"
        " mtactl dkim show example.test prints it",
    ]
    old, new = house.keys.ring(D).keys
    looks = house.keys.looks
    assert waits_for(new, looks[D, "new"], house.now, RULES, None) == "its record at ns0 (words) and ns1 (words)"
    assert waits_for(new, None, house.now, RULES, None) == "the first look at DNS"
    assert "nobody can verify" in waits_for(old, looks[D, "old"], house.now, RULES, None)


async def test_run_looks_again_when_it_is_stirred(house: House) -> None:
    keeper = house.watch()
    house.keys.stir = keeper.stir
    task = asyncio.create_task(keeper.run())
    while not house.asked:
        await asyncio.sleep(0)
    rotate(house)
    house.keys.stir()
    async with asyncio.timeout(20):
        while "new._domainkey.example.test" not in house.asked:
            await asyncio.sleep(0)
    task.cancel()


# --- what a crash leaves behind


def test_half_a_rotation_is_none(house: House) -> None:
    folder = Path(house.keys.list()[0].path).parent
    house.keys.generate(D, "old2", "rsa", NOW, at_once=True)
    house.keys.load()
    house.keys.rotate(D, "new", now=NOW)
    (folder / "new-ed.pem").unlink()  # as if it had died between the two
    house.keys.load()
    assert house.stages() == {"old": "active", "old2": "active", "new": "retired"}
    assert sorted(house.signing()) == ["old", "old2"]
    house.keys.change(D, lambda ring: (ring, []))
    assert not (folder / "new.pem").exists()
    house.keys.rotate(D, "next", now=NOW)
    house.keys.load()
    assert house.stages()["next"] == "pending"


def test_a_state_without_its_file_and_a_file_without_its_state(house: House) -> None:
    folder = Path(house.keys.list()[0].path).parent
    house.keys.generate(D, "two", "ed25519", NOW)
    (folder / "two.pem").unlink()
    assert house.keys.load() == []
    assert house.stages() == {"old": "active"}
    house.keys.generate("fresh.test", "one", "ed25519", NOW)
    (folder.parent / "fresh.test" / "state.json").unlink()  # the first key signs, state or not
    (folder / "dropped.pem").write_bytes((folder.parent / "fresh.test" / "one.pem").read_bytes())
    (folder / "dropped.pem").chmod(0o600)
    house.keys.load()
    assert [key.selector for key in house.keys.keys("fresh.test")] == ["one"]
    assert house.stages() == {"old": "active", "dropped": "pending"}  # beside keys that sign, DNS has the word
    (folder / "old.pem").unlink()
    assert any("is gone; it should sign" in problem for problem in house.keys.load())


@pytest.mark.parametrize(
    "octets", [b"", b"{", b"[]", b"{}", b'{"version": 2, "keys": []}', b"\xff", b"null", b"[" * 9999]
)
def test_a_damaged_state_stops_changes_and_not_mail(house: House, octets: bytes) -> None:
    folder = Path(house.keys.list()[0].path).parent
    (folder / ledger.NAME).write_bytes(octets)
    assert any("is damaged" in problem or "another version" in problem for problem in house.keys.load())
    assert house.signing() == ["old"]
    with pytest.raises(DkimKeyError, match=ledger.NAME):
        house.keys.rotate(D, now=NOW)
    with pytest.raises(DkimKeyError, match=ledger.NAME):
        house.keys.change(D, lambda ring: (ring, []))
    assert (folder / ledger.NAME).read_bytes() == octets


def test_the_state_is_private_and_comes_back_as_it_was(house: House) -> None:
    rotate(house)
    folder = Path(house.keys.list()[0].path).parent
    assert (folder / ledger.NAME).stat().st_mode & 0o777 == 0o600
    assert ledger.read(str(folder.parent), D) == house.keys.ring(D)
    assert "PRIVATE" not in (folder / ledger.NAME).read_text()
    assert json.loads((folder / ledger.NAME).read_text())["version"] == 1
    assert sorted(os.listdir(folder)) == ["new.pem", "old.pem", "state.json"]


def test_a_selector_never_comes_twice(house: House) -> None:
    rotate(house)

    def gone(ring: Ring) -> tuple[Ring, list[Move]]:
        keys = tuple(
            key if key.selector != "new" else KeyState("new", "ed25519", Stage.RETIRED, NOW, NOW, key.record)
            for key in ring.keys
        )
        return Ring(ring.domain, keys), []

    house.keys.change(D, gone)
    with pytest.raises(DkimKeyError, match="has a key at selector new already"):
        house.keys.generate(D, "new", "ed25519", NOW)
    with pytest.raises(DkimKeyError, match="no key at selector new"):
        house.keys.private(D, "new")
