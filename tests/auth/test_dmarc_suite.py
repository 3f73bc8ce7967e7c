"""Published DMARC cases, and the walk up the tree as RFC 9989 has it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mtad.auth import dmarc, dmarc_record
from mtad.dns.resolver import DnsTemporary, NoData, NoSuchName

SUITE = Path(__file__).resolve().parents[3] / "shared" / "suites" / "dmarc-mailauth" / "dmarc-cases.json"
CASES = json.loads(SUITE.read_text()) if SUITE.exists() else []
# What is about that library's own results: texts, counters, and its form of a refusal.
NOT_OURS = {"error", "pct", "info", "status.comment", "status.header.d", "alignment.dkim.underSized", ""}


class Zone:
    def __init__(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        self._records = records
        self.asked: list[str] = []

    async def txt(self, name: str) -> list[bytes]:
        self.asked.append(name)
        found = self._records.get(name)
        if found is None:
            raise NoSuchName(name)
        if "_error" in found:
            raise DnsTemporary(found["_error"])
        if "TXT" not in found:
            raise NoData(name)
        return ["".join(strings).encode() for strings in found["TXT"]]

    async def exists(self, name: str) -> bool:
        return any(kind in self._records.get(name, ()) for kind in ("A", "AAAA", "MX"))


def zone(**texts: str) -> Zone:
    return Zone({f"_dmarc.{name}": {"TXT": [[text]]} for name, text in texts.items()})


def seen(result: dmarc.Result, path: str) -> object:
    record = result.record
    return {
        "status.result": result.verdict,
        "policy": result.policy,
        "p": record and record.p,
        "sp": record and record.sp,
        "rr": record and record.text,
        "domain": result.organizational_domain,
        "status.header.from": result.author_domain,
        "alignment.dkim.strict": record and record.strict_dkim,
        "alignment.spf.strict": record and record.strict_spf,
        "alignment.dkim.result": next(iter(result.aligned_dkim), None),
        "alignment.spf.result": next(iter(result.aligned_spf), None),
    }[path]


@pytest.mark.skipif(not CASES, reason="the shared suites are not here")
@pytest.mark.parametrize("case", [pytest.param(case, id=case["name"][-60:]) for case in CASES])
async def test_the_suite(case: Mapping[str, Any]) -> None:
    results = []
    for call in case["calls"]:
        given = call["input"]
        sender = given["headerFrom"] if isinstance(given["headerFrom"], list) else [given["headerFrom"]]
        if len(sender) > 1:
            return  # more than one author is refused before DMARC is asked
        names = [
            [one if isinstance(one, str) else one["domain"] for one in given[kind]]
            for kind in ("spfDomains", "dkimDomains")
        ]
        results.append(await dmarc.evaluate(Zone(call["zone"]), sender[0].rpartition("@")[2], *names))
    at = 0
    for expected in case["expect"]:
        if expected["path"] == "---next-call---":
            at += 1
        elif expected["path"] not in NOT_OURS:
            value = seen(results[at], expected["path"])
            match expected["op"]:
                case "equal":
                    assert value == expected["value"], expected
                case "contain" | "include":
                    assert expected["value"] in str(value), expected
                case "true":
                    assert value, expected
                case _:
                    assert not value, expected


async def test_a_long_name_costs_eight_questions() -> None:
    zone_ = Zone({})
    await dmarc.walk_up(zone_, "a.b.c.d.e.f.g.h.i.j.mail.example.com")
    tails = ("a.b.c.d.e.f.g.h.i.j.mail.example.com", "g.h.i.j.mail.example.com", "h.i.j.mail.example.com",
             "i.j.mail.example.com", "j.mail.example.com", "mail.example.com", "example.com", "com")  # fmt: skip
    assert zone_.asked == [f"_dmarc.{name}" for name in tails]


@pytest.mark.parametrize(
    ("records", "start", "organizational"),
    [
        ({"mail.example.com": "v=DMARC1", "example.com": "v=DMARC1"}, "a.mail.example.com", "example.com"),
        ({"mail.example.com": "v=DMARC1; psd=n", "example.com": "v=DMARC1"}, "a.mail.example.com", "mail.example.com"),
        ({"com": "v=DMARC1; psd=y"}, "a.mail.example.com", "example.com"),
        ({"example.com": "v=DMARC1; psd=y"}, "a.mail.example.com", "mail.example.com"),
        ({"example.com": "v=DMARC1; psd=y"}, "example.com", "example.com"),
        ({}, "a.mail.example.com", "a.mail.example.com"),
    ],
)
async def test_the_organizational_domain(records: Mapping[str, str], start: str, organizational: str) -> None:
    assert (await dmarc.walk_up(zone(**records), start)).organizational == organizational


@pytest.mark.parametrize(
    ("records", "author", "policy"),
    [
        ({"example.com": "v=DMARC1; p=reject; t=y"}, "example.com", "quarantine"),
        ({"example.com": "v=DMARC1; p=quarantine; t=y"}, "example.com", "none"),
        ({"example.com": "v=DMARC1; p=none; sp=quarantine; np=reject"}, "real.example.com", "quarantine"),
        ({"example.com": "v=DMARC1; p=none; sp=quarantine; np=reject"}, "ghost.example.com", "reject"),
        ({"example.com": "v=DMARC1; p=quarantine; np=reject"}, "real.example.com", "quarantine"),
        ({"com": "v=DMARC1; psd=y; p=none; sp=reject"}, "real.example.com", "reject"),
        ({"example.com": "v=DMARC1; rua=mailto:a@example.com"}, "example.com", "none"),
        ({"example.com": "v=DMARC1; p=bogus; rua=mailto:a@example.com"}, "example.com", "none"),
        ({"example.com": "v=DMARC1; p=bogus"}, "example.com", None),
        ({"example.com": "v=DMARC1; p=reject; sp=bogus"}, "example.com", None),
    ],
)
async def test_the_policy(records: Mapping[str, str], author: str, policy: str | None) -> None:
    known = {f"_dmarc.{name}": {"TXT": [[text]]} for name, text in records.items()}
    result = await dmarc.evaluate(Zone({**known, "real.example.com": {"A": ["192.0.2.1"]}}), author, [], [])
    assert result.policy == policy
    assert result.verdict == ("none" if policy is None else "fail")


async def test_a_sibling_under_a_public_suffix_is_not_aligned() -> None:
    suffix = {"com": "v=DMARC1; psd=y; p=none", "example.com": "v=DMARC1; p=reject"}
    result = await dmarc.evaluate(zone(**suffix), "example.com", ["other.com"], ["com"])
    assert result.verdict == "fail"


async def test_an_identifier_below_another_organization_is_not_aligned() -> None:
    records = {"example.com": "v=DMARC1; p=reject", "tenant.example.com": "v=DMARC1; psd=n"}
    result = await dmarc.evaluate(zone(**records), "example.com", [], ["mail.tenant.example.com"])
    assert result.verdict == "fail"


@pytest.mark.parametrize("text", ["", "v=spf1", "p=reject; v=DMARC1", "V=DMARC1", "v=DMARC1x", "v=DMARC1" + "x" * 9000])
def test_no_record(text: str) -> None:
    assert dmarc_record.parse(text) is None
