"""MTA-STS policies and the counts of TLSRPT in the store."""

import pytest

from mtad.config import Paths
from mtad.queue import tlsrows
from mtad.queue.sqlite import open_store
from mtad.tls.mta_sts import Known, Policy
from mtad.tls.tlsrpt import Counted

ONE = Known("a.example", "1", Policy("enforce", ("*.a.example", "mx.a.example"), 100), 5.0, 6.0)
NONE = Known("b.example", "2", Policy("none", (), 0), 7.0)


def counted(domain: str, count: int = 1, day: int = 3, result: str = "") -> Counted:
    return Counted(day, domain, "[]", result, "mx", "192.0.2.1", "198.51.100.1", "why", count)


@pytest.fixture
async def store(tmp_path):
    made = open_store(Paths("", str(tmp_path), str(tmp_path)), lambda: 0.0)
    yield made
    await made.close()


async def test_policies_come_back_as_they_were(store):
    await store.save_policies([ONE, NONE])
    assert await store.load_policies() == [ONE, NONE]
    newer = Known("a.example", "9", Policy("testing", ("mx.a.example",), 1), 8.0, 8.0)
    await store.save_policies([newer])
    assert await store.load_policies() == [newer, NONE]
    await store.delete_policies(["a.example", "absent.example"])
    assert await store.load_policies() == [NONE]


async def test_counts_add_up_until_they_are_forgotten(store):
    await store.count_tls([counted("a.example", 2), counted("a.example", 1, result="certificate-expired")])
    await store.count_tls([counted("a.example", 3), counted("b.example"), counted("a.example", day=4)])
    assert await store.tls_days(4) == [(3, "a.example"), (3, "b.example")]
    found = {one.result: one.count for one in await store.tls_counted(3, "a.example")}
    assert found == {"": 5, "certificate-expired": 1}
    await store.forget_tls(3, "a.example")
    assert await store.tls_days(9) == [(3, "b.example"), (4, "a.example")]


async def test_the_table_does_not_grow_without_end(store, monkeypatch):
    monkeypatch.setattr(tlsrows, "SESSIONS_MAX", 3)
    await store.count_tls([counted(f"d{number}.example") for number in range(9)])
    await store.count_tls([counted("d1.example")])
    assert await store.tls_days(9) == [(3, f"d{number}.example") for number in range(3)]
    assert [one.count for one in await store.tls_counted(3, "d1.example")] == [2]
