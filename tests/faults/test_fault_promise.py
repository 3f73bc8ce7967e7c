"""The promise under faults, in short; `scripts/faults.sh --long` is the long form."""

import pytest
from fault_ledger import Ledger
from fault_order import unsynced


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("name", "count"),
    [("kills", 4), ("points", 4), ("torn", 3), ("failures", 4), ("power", 1), ("order", 2), ("disk", 1)],
)
def test_nothing_is_lost_doubled_or_changed(scenario, name: str, count: int) -> None:
    result = scenario(name, count, **({"places": {"database": "data"}} if name == "disk" else {}))
    assert result.good, result.verdict
    assert result.runs
    assert result.verdict.accepted


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", ["normal", "nosync"])
def test_without_the_flush_mail_is_lost(scenario, name: str) -> None:
    """Controls: were these clean, the power cut above would prove nothing."""
    result = scenario(name, 20)
    assert result.verdict.lost, result.verdict


def test_the_ledger_sees_each_kind_of_wrong() -> None:
    ledger = Ledger()
    mails = {}
    for name in ("lost", "phantom", "corrupt", "twice", "stray", "wrong", "delayed"):
        mail, octets = ledger.new((f"{name}@sink.test",), 100)
        mails[name] = mail, octets
        ledger.word(mail, "no" if name == "phantom" else "yes", 0.0)
    for name in ("phantom", "twice", "stray", "wrong", "delayed"):
        ledger.arrived(f"{name}@sink.test", mails[name][1], 10.0)
    ledger.arrived("corrupt@sink.test", mails["corrupt"][1].replace(b"quick", b"slow"), 10.0)
    ledger.died(10.5, 1)
    ledger.arrived("twice@sink.test", mails["twice"][1], 11.0)
    ledger.deaths.append(500.0)
    ledger.arrived("stray@sink.test", mails["stray"][1].replace(b"\n", b"\r\n"), 10.2)
    for name, action in (("wrong", "failed"), ("delayed", "delayed")):
        report = f"\nFinal-Recipient: rfc822; {name}@sink.test\nAction: {action}\n\n".encode() + mails[name][1]
        ledger.arrived("s@sink.test", b"Subject: no\n\n" + report.replace(b"X-Token", b"\nX-Token"), 12.0)
    found = ledger.verdict()
    assert [one.split()[1].partition("@")[0] for one in found.lost] == ["lost"]
    assert [one.split()[1].partition("@")[0] for one in found.phantom] == ["phantom"]
    assert [one.split()[1].partition("@")[0] for one in found.corrupt] == ["corrupt"]
    assert [one.split()[1].partition("@")[0] for one in found.strays] == ["stray"]
    assert [one.split()[1].partition("@")[0] for one in found.wrong_bounces] == ["wrong"]
    assert found.duplicates == 2
    assert found.bound == 1
    assert not found.clean


LOG = "/m/data/mta.db-wal"


@pytest.mark.parametrize(
    ("trace", "left"),
    [
        ([f'1 pwrite64(3<{LOG}>, "x", 1, 0) = 1', f"1 fdatasync(3<{LOG}>) = 0"], 0),
        ([f'1 pwrite64(3<{LOG}>, "x", 1, 0) = 1'], 1),
        ([f"1 fdatasync(3<{LOG}>) = 0", f'1 pwrite64(3<{LOG}>, "x", 1, 0) = 1'], 1),
        ([f'1 pwrite64(3<{LOG}>, "x", 1, 0) = 1', f"1 fdatasync(3<{LOG}>) = -1 EIO (Input/output error)"], 1),
        (['1 write(4</m/data/queue/a.new>, "x", 1) = 1', '1 rename("/m/data/queue/a.new", "/m/data/queue/a") = 0'], 2),
        (['1 rename("/m/data/queue/a.new", "/m/data/queue/a") = 0', "1 fsync(5</m/data/queue>) = 0"], 0),
        (["1 fdatasync(3<x> <unfinished ...>", f'2 pwrite64(3<{LOG}>, "x", 1, 0) = 1'], 1),
    ],
)
def test_the_order_proof_sees_what_is_not_flushed(trace: list[str], left: int) -> None:
    assert len(unsynced("\n".join([*trace, '1 sendto(9<s>, "250 queued", 10) = 10']), "250 queued")) == left
