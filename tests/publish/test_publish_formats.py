"""Every format is read back by what would read it: the records are the same in all of them."""

import json
import re
from typing import Any

import dns.name
import dns.rdata
import dns.zone
import pytest
import yaml

from mtad.dkim.rotation import Stage
from mtad.publish import formats
from mtad.publish.formats import FORMATS, MERGED
from mtad.publish.host import Host, Key
from mtad.publish.records import Rec, row, sts, sts_policy, wanted
from mtad.tls import mta_sts
from mtad.tls.certificates import Certificate

DOMAIN = "example.test"
KEY = Key("s1", f"s1._domainkey.{DOMAIN}", "v=DKIM1; k=rsa; p=" + "A" * 392, Stage.ACTIVE)
GONE = Key("s0", f"s0._domainkey.{DOMAIN}", "v=DKIM1; k=rsa; p=AAAA", Stage.RETIRED)
OTHERS = '"site-verification=abc"'
OLD = '"v=spf1 mx ~all"'


@pytest.fixture(scope="module")
def host() -> Host:
    from private_ca import make

    leaf = make("mail.example.test", make("authority", ca=True)).der
    certificate = Certificate("cert.pem", "key.pem", ("mail.example.test",), 4e9, leaf)
    return Host("mail.example.test", (DOMAIN,), ("192.0.2.10", "2001:db8::10"), True, certificate, "letsencrypt.org",
                submission=587, submissions=465)  # fmt: skip


@pytest.fixture
def rows(host: Host) -> list[dict[str, Any]]:
    """As `dns records` gives them, where DNS has an old SPF record and one of somebody else."""
    found = []
    for rec in wanted(DOMAIN, host, (KEY, GONE), signed=True):
        apex = rec.name == DOMAIN and rec.kind == "TXT"
        found.append({**row(rec), "live": [OTHERS, OLD] if apex else [], "state": "", "policy": ""})
    return found


def text(style: str, rows: list[dict[str, Any]], policy: str = "") -> str:
    return "".join(f"{line}\n" for line in FORMATS[style](DOMAIN, rows, policy))


def canonical(name: str, kind: str, value: str) -> tuple[str, str, str]:
    """The same for each way to write a record down."""
    rdata = dns.rdata.from_text("IN", kind, value, origin=dns.name.root, relativize=False)
    return name.rstrip("."), kind, rdata.to_text()


def expected(rows: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    return {canonical(one["name"], one["type"], one["value"]) for one in rows if not one["elsewhere"]}


def test_what_is_published(rows: list[dict[str, Any]]) -> None:
    kinds = [(one["name"], one["type"]) for one in rows]
    assert ("example.test", "MX") in kinds
    assert ("_25._tcp.mail.example.test", "TLSA") in kinds
    assert (KEY.name, "TXT") in kinds
    assert not any(name == GONE.name for name, _ in kinds)
    assert {one["name"] for one in rows if one["elsewhere"]} == {
        "10.2.0.192.in-addr.arpa",
        "0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
    }


def test_a_zone_file(rows: list[dict[str, Any]], host: Host) -> None:
    made = text("zone", rows, sts_policy(host))
    zone = dns.zone.from_text(made, origin=f"{DOMAIN}.", relativize=False, check_origin=False)
    found = {
        (name.to_text().rstrip("."), dns.rdatatype.to_text(rdata.rdtype), rdata.to_text())
        for name, _, rdata in zone.iterate_rdatas()
    }
    assert found == expected(rows)
    key = zone.find_rdataset(f"{KEY.name}.", "TXT")[0]
    assert [len(part) for part in key.strings] == [255, len(KEY.record) - 255]
    assert "; mode: enforce" in made


def test_route53_keeps_the_records_of_others(rows: list[dict[str, Any]]) -> None:
    batch = json.loads(text("route53", rows))
    found = set()
    for change in batch["Changes"]:
        assert change["Action"] == "UPSERT"
        one = change["ResourceRecordSet"]
        found |= {canonical(one["Name"], one["Type"], value["Value"]) for value in one["ResourceRecords"]}
    assert found == expected(rows) | {(DOMAIN, "TXT", OTHERS)}


def test_octodns_keeps_them_too(rows: list[dict[str, Any]]) -> None:
    found = set()
    for name, sets in yaml.safe_load(text("octodns", rows)).items():
        at = f"{name}.{DOMAIN}" if name else DOMAIN
        for one in sets:
            for value in one["values"]:
                if isinstance(value, dict):
                    value = " ".join(str(part) for part in value.values())
                elif one["type"] == "TXT":
                    assert re.search(r"(?<!\\);", value) is None
                    value = Rec("", "TXT", value.replace("\\;", ";")).shown
                found.add(canonical(at, one["type"], value))
    assert found == expected(rows) | {(DOMAIN, "TXT", OTHERS)}


def test_cloudflare(rows: list[dict[str, Any]]) -> None:
    found = set()
    for one in json.loads(text("cloudflare", rows))["posts"]:
        value = one.get("content") or " ".join(str(part) for part in one["data"].values())
        found.add(canonical(one["name"], one["type"], f"{one['priority']} {value}." if "priority" in one else value))
        assert one["type"] not in ("A", "AAAA") or one["proxied"] is False
    assert {(name, kind) for name, kind, _ in found} == {(name, kind) for name, kind, _ in expected(rows)}
    assert canonical(DOMAIN, "MX", "10 mail.example.test.") in found


def test_nsupdate_deletes_what_it_replaces_and_nothing_else(rows: list[dict[str, Any]]) -> None:
    lines = text("nsupdate", rows).splitlines()
    assert [line for line in lines if line.startswith("update delete example.test. TXT")] == [
        f"update delete example.test. TXT {OLD}"
    ]
    assert lines[0] == "zone example.test."
    assert lines[-1] == "send"
    added = {
        canonical(name, kind, value)
        for line in lines
        if line.startswith("update add")
        for name, _, kind, value in [line.removeprefix("update add ").split(" ", 3)]
    }
    assert added == expected(rows)


def test_the_policy_is_one(host: Host) -> None:
    policy = mta_sts.parse_policy(
        ("".join(f"{line}\n" for line in FORMATS["mta-sts"](DOMAIN, [], sts_policy(host)))).encode()
    )
    assert policy.mode == "enforce"
    assert policy.mx == ("mail.example.test",)
    assert mta_sts.parse_record(sts(host).encode())


def test_a_parked_domain(host: Host) -> None:
    found = [(rec.kind, rec.value) for rec in wanted(DOMAIN, host, (KEY,), parked=True)]
    assert found == [("MX", "0 ."), ("TXT", "v=spf1 -all"), ("TXT", "v=DMARC1; p=reject")]


def test_without_an_address_the_mx_is_the_sender() -> None:
    found = [rec.value for rec in wanted(DOMAIN, Host("mail.example.test", (DOMAIN,)), ())]
    assert "v=spf1 mx -all" in found


def test_a_host_of_another_zone() -> None:
    found = wanted(DOMAIN, Host("mx.provider.test", (DOMAIN,), ("192.0.2.10",), True), ())
    assert {rec.name for rec in found if rec.elsewhere} == {"mx.provider.test", "10.2.0.192.in-addr.arpa"}


@pytest.mark.parametrize(("value", "joined"), [('"a" "b"', "ab"), ('"a\\"b"', 'a"b'), ('""', ""), ('"x y"', "x y")])
def test_joined(value: str, joined: str) -> None:
    assert formats.joined(value) == joined


def test_formats_that_replace_know_what_there_is() -> None:
    assert set(FORMATS) > MERGED
