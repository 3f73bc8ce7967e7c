"""MTA-STS texts: the published cases, and what must never be raised."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.tls import mta_sts
from mtad.tls.mta_sts import Known, Malformed, Policy

SUITE = Path(__file__).resolve().parents[3] / "shared" / "suites" / "mta-sts-mox" / "vectors.json"
VECTORS = json.loads(SUITE.read_text()) if SUITE.exists() else {}
published = pytest.mark.skipif(not VECTORS, reason="the shared suites are not here")


@published
def test_published_records():
    assert [mta_sts.parse_record(one.encode()) for one in VECTORS["record_good"]] == [
        "20160831085700Z",
        "20160831085700Z",
        "a",
        "a",
    ]
    for record, why in VECTORS["record_bad"]:
        with pytest.raises(Malformed):
            pytest.fail(f"{record!r} is {why}: {mta_sts.parse_record(record.encode())}")


@published
def test_published_policies():
    for text, expected in VECTORS["policy_good"]:
        policy = mta_sts.parse_policy(text.encode())
        assert policy == Policy(expected["mode"], tuple(expected["mx"]), expected["max_age"]), text
    for text, why in VECTORS["policy_bad"]:
        with pytest.raises(Malformed):
            pytest.fail(f"{text!r} is bad ({why}): {mta_sts.parse_policy(text.encode())}")


@published
def test_published_lookups():
    zone, expected = VECTORS["lookup"]["zone"], VECTORS["lookup"]["expect"]
    assert len(expected) == 6
    for domain, wanted in expected.items():
        records = [record.encode() for record in zone.get(f"_mta-sts.{domain}.", [])]
        try:
            found = mta_sts.record_id(records)
        except Malformed:
            found = ""
        assert found == wanted.removeprefix("id=") if wanted.startswith("id=") else found == "", domain


@pytest.mark.parametrize(
    ("records", "found"),
    [
        ([], ""),
        ([b"v=spf1 -all", b"v=STSv1; id=a;"], "a"),
        ([b"v=STSv1;id=a"], "a"),
        ([b"v=STSv1 ; id=a ; "], "a"),
        ([b"v=STSv1; id=a; id=b"], "a"),
        ([b"v=STSv10; id=a"], ""),  # of another kind
    ],
)
def test_records(records, found):
    assert mta_sts.record_id(records) == found


@pytest.mark.parametrize(
    "record", [b"v=STSv1; id=\xff", b"v=STSv1; id=a; x=\x01", b"v=STSv1;; id=a", b"v=STSv1; id = a", b" v=STSv1; id=a"]
)
def test_bad_records(record):
    with pytest.raises(Malformed):
        mta_sts.parse_record(record)


HEAD = b"version: STSv1\nmode: enforce\n"


@pytest.mark.parametrize(
    ("octets", "policy"),
    [
        (HEAD + b"mx: MX.Example.ORG.\nmax_age: 99999999\n", Policy("enforce", ("mx.example.org",), 31_557_600)),
        (HEAD + "mx: *.bücher.example\nmax_age: 1\n".encode(), Policy("enforce", ("*.xn--bcher-kva.example",), 1)),
        (b"max_age: 5\nmode: none\nversion: STSv1", Policy("none", (), 5)),
        (HEAD + b"mode: none\nmx: a.example\nmax_age: 1\nmax_age: 2", Policy("enforce", ("a.example",), 1)),
    ],
)
def test_policies(octets, policy):
    assert mta_sts.parse_policy(octets) == policy
    assert mta_sts.parse_policy("\r\n".join(mta_sts.lines(policy)).encode()) == policy


@pytest.mark.parametrize(
    "octets",
    [
        HEAD + b"mx: a.example\n\nmax_age: 1",
        HEAD + b"mx: a..example\nmax_age: 1",
        HEAD + b"mx: *\nmax_age: 1",
        HEAD + b"mx: *.\nmax_age: 1",
        HEAD + b"mx: a.*.example\nmax_age: 1",
        HEAD + b"mx: a.example\rmax_age: 1",
        HEAD + b"mx: a.example\0\nmax_age: 1",
        HEAD + b"mx: a.example\nmax_age: -1",
        HEAD + b"mx: a.example\nmax_age: 1\n" + b"x: y\n" * 20_000,
        HEAD + b"mx: a.example\n" * 101 + b"max_age: 1",
        b"\xff\xfe",
        b"<!doctype html>",
    ],
)
def test_bad_policies(octets):
    with pytest.raises(Malformed):
        mta_sts.parse_policy(octets)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("mx.example.org", True),
        ("MX.Example.org.", True),
        ("a.wild.example", True),
        ("a.b.wild.example", False),  # one label only
        ("wild.example", False),
        ("other.example", False),
        ("", False),
    ],
)
def test_hosts_against_patterns(host, expected):
    assert mta_sts.matches(("mx.example.org", "*.wild.example"), host) is expected


def test_how_long_a_policy_holds():
    known = Known("d.example", "1", Policy("enforce", ("*.d.example",), 1000), fetched_at=100)
    assert [known.holds(now) for now in (99, 100, 1099, 1100)] == [False, True, True, False]
    assert [known.stale(now) for now in (100, 599, 600)] == [False, False, True]
    long = Known("d.example", "1", Policy("enforce", (), 10**7), fetched_at=0)
    assert [long.stale(now) for now in (86_399, 86_400)] == [False, True]


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: f"v=STSv1; {text}".encode("utf-8", "replace")))
def test_any_record_is_an_id_or_malformed(octets):
    with contextlib.suppress(Malformed):
        assert mta_sts.parse_record(octets).isalnum()


@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda text: HEAD + text.encode("utf-8", "replace")))
def test_any_policy_is_one_or_malformed(octets):
    try:
        policy = mta_sts.parse_policy(octets)
    except Malformed:
        return
    assert mta_sts.parse_policy("\n".join(mta_sts.lines(policy)).encode()) == policy
