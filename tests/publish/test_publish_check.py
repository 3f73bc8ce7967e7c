"""`dns check` on a correct zone, on one with two dozen mistakes, and on each kind of mistake by itself."""

import re
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import get_args

import dns.message
import dns.rcode
import pytest
from dns_server import DnsServer
from publish_world import DOMAIN, HOSTNAME, World, give, ids

from mtad.config.tree import Address
from mtad.publish import dkimcheck
from mtad.publish.finding import CATALOGUE
from mtad.publish.records import Rec


def txt(name: str, value: str) -> str:
    return Rec(name, "TXT", value, ttl_s=60).line


async def test_a_correct_zone_has_no_finding(world: World) -> None:
    assert await world.check() == []


async def test_two_servers_that_agree(world: World) -> None:
    world.second = world.lines
    assert await world.check() == []


MISTAKES = {
    "ns.unreachable": "example.test. 3600 IN NS ns3.example.test.",
    "ns.serial": "let it load the zone again",
    "ns.disagree": "let ns2.example.test [127.0.0.2]",
    "mx.alias": "example.test. 3600 IN MX 10 mail.example.test.",
    "mx.unresolved": "ghost.example.test. 3600 IN A 192.0.2.10",
    "host.incomplete": "mail.example.test. 3600 IN AAAA 2001:db8::10",
    "ptr.missing": "8.b.d.0.1.0.0.2.ip6.arpa. 3600 IN PTR mail.example.test.",
    "ptr.forward": "10.2.0.192.in-addr.arpa. 3600 IN PTR mail.example.test.",
    "address.listed": "bl.test",
    "spf.lookups": 'example.test. 3600 IN TXT "v=spf1 ',
    "spf.target": "ip4:198.51.100.1",
    "spf.ptr": 'example.test. 3600 IN TXT "v=spf1 ',
    "spf.undecided": '-all"',
    "spf.host": 'mail.example.test. 3600 IN TXT "v=spf1 a -all"',
    "dkim.mismatch": "s1._domainkey.example.test. 3600 IN TXT",
    "dkim.missing": "s1-ed._domainkey.example.test. 3600 IN TXT",
    "dmarc.none": '"v=DMARC1; p=quarantine; rua=mailto:reports@elsewhere.test"',
    "dmarc.reports": 'example.test._report._dmarc.elsewhere.test. 3600 IN TXT "v=DMARC1"',
    "sts.mx": "mx: alias.example.test",
    "tlsrpt.record": '"v=TLSRPTv1; rua=mailto:postmaster@example.test"',
    "dane.unsigned": "remove the TLSA records",
    "dane.mismatch": "_25._tcp.mail.example.test. 3600 IN TLSA 3 1 1 ",
    "caa.issuer": 'mail.example.test. 3600 IN CAA 0 issue "letsencrypt.org"',
    "srv.elsewhere": "_submission._tcp.example.test. 3600 IN SRV 0 1 587 mail.example.test.",
    "txt.wildcard": '*.example.test. 3600 IN TXT "hello"',
}


async def test_a_zone_with_two_dozen_mistakes(world: World) -> None:
    """All in one zone: each is named, with the line that puts it right."""
    world.patience_s = 1.5
    world.change(r"PTR", "10.2.0.192.in-addr.arpa. 60 IN PTR host-10.provider.test.")
    world.change(r" AAAA ")
    world.change(r"^example.test. 3600 IN MX", "example.test. 60 IN MX 10 alias.example.test.")
    world.lines += [
        "example.test. 60 IN MX 20 ghost.example.test.",
        "example.test. 60 IN MX 30 mail.example.test.",
        "example.test. 60 IN NS ns3.example.test.",
        "ns3.example.test. 60 IN A 127.0.0.3",
        "alias.example.test. 60 IN CNAME mail.example.test.",
        "10.2.0.192.bl.test. 60 IN A 127.0.0.2",
        f"_25._tcp.{HOSTNAME}. 60 IN TLSA 3 1 1 {'00' * 32}",
        '_probe.example.test. 60 IN TXT "x"',
    ]
    world.change(r" CAA ", 'mail.example.test. 60 IN CAA 0 issue "other.example"')
    world.change(r"^example.test. 3600 IN TXT", txt(DOMAIN, "v=spf1 include:big.test include:ghost.test ptr ?all"))
    world.lines.append(txt("big.test", "v=spf1 " + " ".join(f"include:n{n}.test" for n in range(11)) + " -all"))
    world.lines += [txt(f"n{n}.test", f"v=spf1 ip4:198.51.100.{n} -all") for n in range(11)]
    world.change(rf"^{HOSTNAME}. 3600 IN TXT")
    world.change(r"^s1\._domainkey", txt(f"s1._domainkey.{DOMAIN}", "v=DKIM1; k=rsa; p=" + OTHER_KEY))
    world.change(r"^s1-ed\._domainkey")
    world.change(r"^_dmarc", txt(f"_dmarc.{DOMAIN}", "v=DMARC1; p=none; rua=mailto:reports@elsewhere.test"))
    world.change(r"^_smtp._tls", txt(f"_smtp._tls.{DOMAIN}", "v=TLSRPTv1; rua=postmaster@example.test"))
    world.change(r"^_submission._tcp", "_submission._tcp.example.test. 60 IN SRV 0 1 587 old.example.test.")
    world.second = [line for line in world.lines if "_dmarc" not in line]
    world.serials = (7, 6)
    world.lines.append('*.example.test. 60 IN TXT "hello"')

    def wildcard(first: DnsServer, second: DnsServer | None) -> None:
        """The scripted server knows no wildcards: it is taught this one."""
        for server in filter(None, (first, second)):
            give(server, "no-such-name-here.example.test.", "TXT", '"hello"')

    world.wrong = wildcard
    found = await world.check()
    assert ids(found) >= set(MISTAKES), set(MISTAKES) - ids(found)
    for name, fix in MISTAKES.items():
        assert any(fix in finding.fix for finding in found if finding.id == name), [
            finding for finding in found if finding.id == name
        ]
    assert all(finding.why and finding.what for finding in found)


OTHER_KEY = (
    "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYtIxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uB"
    "ItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB"
)

NETS = "ip4:192.0.2.0/24 ip6:2001:db8::/32"
ALONE = [
    ("mx.missing", r"IN MX", "", "example.test. 3600 IN MX 10 mail.example.test."),
    ("mx.null", r"IN MX", "example.test. 60 IN MX 0 .", "example.test. 3600 IN MX 10 mail.example.test."),
    ("mx.address", r"IN MX", "example.test. 60 IN MX 10 192.0.2.10.", "MX 10 mail.example.test."),
    ("mx.elsewhere", r"IN MX", "example.test. 60 IN MX 10 ns1.example.test.", "MX 10 mail.example.test."),
    ("mx.inside", r"^mail.example.test. 3600 IN A ", "mail.example.test. 60 IN A 10.0.0.1", "A 192.0.2.10"),
    ("host.elsewhere", r"^mail.*IN A(AAA)? ", "mail.example.test. 60 IN A 198.51.100.1", "A 192.0.2.10"),
    ("host.address", r"^mail.*IN A(AAA)? ", "", "mail.example.test. 3600 IN A 192.0.2.10"),
    ("spf.missing", r"^example.test.*spf1", "", '"v=spf1 ip4:192.0.2.10 ip6:2001:db8::10 -all"'),
    ("spf.syntax", r"^example.test.*spf1", 'example.test. 60 IN TXT "v=spf1 ipv4:192.0.2.10 -all"', "ip4:192.0.2.10"),
    ("spf.syntax", r"^example.test.*spf1", 'example.test. 60 IN TXT "v=spf2 ip4:192.0.2.10 -all"', "ip4:192.0.2.10"),
    ("spf.multiple", r"nothing", 'example.test. 60 IN TXT "v=spf1 mx ~all"', "ip6:2001:db8::10"),
    ("spf.open", r"^example.test.*spf1", f'example.test. 60 IN TXT "v=spf1 {NETS} +all"',
     f'"v=spf1 {NETS} -all"'),
    ("spf.undecided", r"^example.test.*spf1", f'example.test. 60 IN TXT "v=spf1 {NETS}"',
     f'"v=spf1 {NETS} -all"'),
    ("spf.dead", r"^example.test.*spf1", f'example.test. 60 IN TXT "v=spf1 {NETS} -all a"',
     f'"v=spf1 {NETS} -all"'),
    ("spf.uncovered", r"^example.test.*spf1", 'example.test. 60 IN TXT "v=spf1 ip4:192.0.2.10 -all"',
     "ip6:2001:db8::10"),
    ("spf.voids", r"^example.test.*spf1", f'example.test. 60 IN TXT "v=spf1 {NETS} a:x1.test a:x2.test a:x3.test -all"',
     f'"v=spf1 {NETS} -all"'),
    ("dkim.revoked", r"^s1\.", 's1._domainkey.example.test. 60 IN TXT "v=DKIM1; k=rsa; p="', "replace it by"),
    ("dkim.syntax", r"^s1\.", 's1._domainkey.example.test. 60 IN TXT "v=DKIM1; k=rsa; p=MII!"', "replace it by"),
    ("dkim.syntax", r"^s1\.", 's1._domainkey.example.test. 60 IN TXT "garbage"', "replace it by"),
    ("dkim.multiple", r"nothing", 's1._domainkey.example.test. 60 IN TXT "v=DKIM1; p=AAAA"', "remove all but"),
    ("dmarc.missing", r"^_dmarc", "", '_dmarc.example.test. 3600 IN TXT "v=DMARC1; p=quarantine; rua='),
    ("dmarc.multiple", r"nothing", '_dmarc.example.test. 60 IN TXT "v=DMARC1; p=reject"', "remove all but one"),
    ("dmarc.syntax", r"^_dmarc", '_dmarc.example.test. 60 IN TXT "v=dmarc1; p=reject"', '"v=DMARC1; p=quarantine'),
    ("dmarc.syntax", r"^_dmarc", '_dmarc.example.test. 60 IN TXT "v=DMARC1; p=rejekt"', '"v=DMARC1; p=quarantine'),
    ("dmarc.syntax", r"^_dmarc", '_dmarc.example.test. 60 IN TXT "v=DMARC1; p=reject; rua=a@example.test"',
     "rua=mailto:a@example.test"),
    ("dmarc.testing", r"^_dmarc", '_dmarc.example.test. 60 IN TXT "v=DMARC1; p=reject; t=y; rua=mailto:a@example.test"',
     '"v=DMARC1; p=reject; rua=mailto:a@example.test"'),
    ("dmarc.silent", r"^_dmarc", '_dmarc.example.test. 60 IN TXT "v=DMARC1; p=reject"',
     '"v=DMARC1; p=reject; rua=mailto:postmaster@example.test"'),
    ("sts.absent", r"^_mta-sts", "", '_mta-sts.example.test. 3600 IN TXT "v=STSv1; id='),
    ("sts.record", r"^_mta-sts", '_mta-sts.example.test. 60 IN TXT "v=STSv1; id=2026-01-01"', '"v=STSv1; id='),
    ("sts.fetch", r"^mta-sts", "", "mta-sts.example.test. 3600 IN A 192.0.2.10"),
    ("tlsrpt.absent", r"^_smtp", "", '_smtp._tls.example.test. 3600 IN TXT "v=TLSRPTv1;'),
    ("dane.unusable", r"nothing", f"_25._tcp.mail.example.test. 60 IN TLSA 1 1 1 {'00' * 32}", "TLSA 3 1 1"),
    ("txt.large", r"nothing", "example.test. 60 IN TXT " + " ".join([f'"{"x" * 250}"'] * 80), "remove or shorten"),
]  # fmt: skip


def together() -> list[list[tuple[str, str, str, str]]]:
    """Mistakes of different records do not touch each other: a zone holds one of each."""
    groups: dict[str, list[tuple[str, str, str, str]]] = {}
    for one in ALONE:
        group = one[0].partition(".")[0]
        groups.setdefault("mx" if group == "host" else group, []).append(one)
    return [[one for one in several if one] for several in zip_longest(*groups.values())]


@pytest.mark.parametrize("mistakes", together())
async def test_mistakes(world: World, mistakes: list[tuple[str, str, str, str]]) -> None:
    for _, pattern, line, _ in mistakes:
        world.change(pattern, line)
    found = await world.check(offline=not any(name.startswith("sts") for name, *_ in mistakes))
    for name, _, _, fix in mistakes:
        assert any(fix in one.fix for one in found if one.id == name), (name, found)


async def test_the_corrected_spf_record_is_correct(world: World) -> None:
    """What is printed as the fix is put into the zone."""
    world.change(
        r"^example.test. 3600 IN TXT", txt(DOMAIN, "v=spf1 include:big.test a:ghost.test ptr include:no.test ?all")
    )
    world.lines.append(txt("big.test", "v=spf1 " + " ".join(f"include:n{n}.test" for n in range(11)) + " -all"))
    world.lines += [txt(f"n{n}.test", f"v=spf1 ip4:198.51.100.{n} -all") for n in range(11)]
    found = await world.check(offline=True)
    assert {one.id for one in found} >= {"spf.lookups", "spf.ptr", "spf.undecided", "spf.target"}
    [fix] = {one.fix for one in found if one.id.startswith("spf.")}
    world.change(r"^example.test. 60 IN TXT .v=spf1", fix.partition("\n")[2])
    assert not [one for one in await world.check(offline=True) if one.id.startswith("spf.")]


async def test_the_policy_that_is_served_is_another(world: World) -> None:
    """A file of one's own is no mistake; an id that was made for another policy is."""
    world.policy = world.policy.replace("enforce", "testing")
    found = {one.id: one for one in await world.check() if one.id.startswith("sts")}
    assert set(found) == {"sts.mode", "sts.other"}
    assert "has mode: testing and lacks mode: enforce" in found["sts.other"].what
    assert "mode: enforce" in found["sts.other"].fix
    world.config = replace(world.config, dns=replace(world.config.dns, sts_mode="testing"))
    await world.correct()
    assert {one.id for one in await world.check() if one.id.startswith("sts")} == {"sts.mode"}


async def test_the_id_of_another_policy(world: World) -> None:
    """The backup's MX was added, the record was forgotten."""
    before = next(line for line in world.lines if line.startswith("_mta-sts"))
    world.config = replace(world.config, dns=replace(world.config.dns, sts_mx=("mx2.example.test",)))
    world.policy = world.policy.replace("max_age", "mx: mx2.example.test\r\nmax_age")
    await world.correct()
    assert not [one for one in await world.check() if one.id.startswith("sts")]
    right = next(line for line in world.lines if line.startswith("_mta-sts"))
    world.change("^_mta-sts", before)
    [found] = [one for one in await world.check() if one.id.startswith("sts")]
    assert (found.id, found.fix) == ("sts.id", f"replace it by\n{right}")
    world.policy = world.policy.replace("\r\n", "\n")  # an editor's line ends change nothing
    world.change("^_mta-sts", right)
    assert not [one for one in await world.check() if one.id.startswith("sts")]
    world.change("^_mta-sts", txt("_mta-sts.example.test", "v=STSv1; id=20261125"))  # somebody counts by days
    assert not [one for one in await world.check() if one.id.startswith("sts")]


async def test_who_serves_it_from_here_is_told_the_line_of_the_proxy(world: World) -> None:
    world.change("^mta-sts", "mta-sts.example.test. 60 IN A 127.0.0.3")
    world.config = replace(world.config, listen=replace(world.config.listen, http=Address("127.0.0.1", 8080)))
    [found] = [one for one in await world.check() if one.id == "sts.fetch"]
    assert "proxy_pass http://127.0.0.1:8080;" in found.fix


def silent(query: object) -> None:
    return None


def lame(query: dns.message.Message) -> bytes:
    response = dns.message.make_response(query)
    response.set_rcode(dns.rcode.REFUSED)
    return response.to_wire()


async def test_servers_that_do_not_serve(world: World) -> None:
    """One is silent over TCP only, one is lame, one has no address: each is named, and what there is is judged."""
    world.second = world.lines
    world.lines = [*world.lines, "example.test. 60 IN NS ns4.elsewhere.test."]
    second_names = [DOMAIN, *(line.split()[0].rstrip(".") for line in world.lines)]

    def wrong(first: DnsServer, second: DnsServer | None) -> None:
        assert second is not None
        second.wrong = dict.fromkeys(second_names, lame)

    world.wrong = wrong
    found = await world.check(offline=True)
    assert ids(found) == {"ns.lame", "ns.unresolved"}
    [what] = [one.what for one in found if one.id == "ns.lame"]
    assert what.startswith("name server ns2.example.test [127.0.0.2]")
    assert "REFUSED" in what


async def test_a_server_that_was_named_need_not_be_in_the_zone(world: World) -> None:
    """Nobody is told to publish, or to remove, an NS record for whatever was asked by --server."""
    found = await world.check(offline=True, asked=[Address("127.0.0.1", 9)])
    [one] = [one for one in found if one.id == "ns.unreachable"]
    assert one.what.startswith("name server 127.0.0.1 port 9: ")
    assert one.fix == (
        "set the zone example.test up on 127.0.0.1 port 9, or ask another server (--server, dns.authorities)"
    )


async def test_nobody_answers(world: World) -> None:
    """Bounded in time, and a finding for what cannot be judged."""

    def wrong(first: DnsServer, second: DnsServer | None) -> None:
        names = {name.to_text(omit_final_dot=True) for name in first.zone.nodes}
        first.wrong = dict.fromkeys(names | {"test", ""}, silent)

    world.wrong, world.patience_s = wrong, 0.5
    found = await world.check(offline=True, check_s=8.0)
    assert "check.incomplete" in ids(found) or "ns.none" in ids(found)
    assert not [one for one in found if one.id.startswith(("spf.", "dkim.missing"))]


@pytest.mark.parametrize(
    "answer",
    [b"", b"\0", b"garbage that is no message", bytes(12), None],
    ids=["nothing", "octet", "garbage", "head", "silence"],
)
async def test_what_is_no_answer(world: World, answer: bytes | None) -> None:
    def wrong(first: DnsServer, second: DnsServer | None) -> None:
        first.wrong[f"_dmarc.{DOMAIN}"] = lambda query: answer

    world.wrong, world.patience_s = wrong, 0.5
    assert "check.incomplete" in ids(await world.check(offline=True))


async def test_truncated_over_udp(world: World) -> None:
    world.wrong = lambda first, second: setattr(first, "truncate", True)
    assert await world.check(offline=True) == []


async def test_a_parked_domain(world: World) -> None:
    world.lines += [f"parked.test. 60 IN MX 10 {HOSTNAME}.", txt("parked.test", "v=spf1 mx -all")]
    found = await world.check(domain="parked.test", parked=True)
    assert {one.id: one.fix.rpartition("\n")[2] for one in found if one.id.startswith("parked")} == {
        "parked.mx": "parked.test. 3600 IN MX 0 .",
        "parked.spf": 'parked.test. 3600 IN TXT "v=spf1 -all"',
        "parked.dmarc": '_dmarc.parked.test. 3600 IN TXT "v=DMARC1; p=reject"',
    }
    world.lines = [line for line in world.lines if "parked" not in line]
    world.lines += [one.fix.rpartition("\n")[2] for one in found if one.id.startswith("parked")]
    found = await world.check(domain="parked.test", parked=True)
    assert not [one for one in found if one.id.startswith("parked")]


async def test_keys_for_tests_align_with_nobody(world: World) -> None:
    """RFC 6376 3.6.1: with t=y a receiver takes the mail for unsigned."""
    await world.correct()
    world.change(r'^example\.test\. .*"v=spf1', 'example.test. 60 IN TXT "v=spf1 -all"')
    assert "dmarc.alignment" not in ids(await world.check())
    world.lines = [line.replace('"v=DKIM1; ', '"v=DKIM1; " "t=y; ') for line in world.lines]
    assert {"dkim.testing", "dmarc.alignment"} <= ids(await world.check())


async def test_an_international_domain(world: World) -> None:
    found = await world.check(domain="xn--bcher-kva.test", offline=True)
    assert {"mx.missing", "spf.missing", "dmarc.missing", "dkim.none", "domain.unknown"} <= ids(found)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("v=DKIM1; k=rsa; p=AAAA; t=y", ["testing"]),
        ("v=DKIM1; k=rsa; p=AA AA; t=s", []),
        ("k=rsa; h=sha1; p=AAAA", ["restricted"]),
        ("k=rsa; s=other; p=AAAA", ["restricted"]),
        ("v=DKIM2; p=AAAA", ["syntax"]),
        ("v=DKIM1; k=ed25519; p=AAAA", ["mismatch"]),
        ("v=DKIM1; p=BBBB", ["mismatch"]),
        ("v=DKIM1; p=AAAA; p=AAAA", ["syntax"]),
        ("k=rsa; v=DKIM1; p=AAAA", ["syntax"]),
        ("v=DKIM1", ["syntax"]),
        ("p", ["syntax"]),
    ],
)
def test_a_key_record(text: str, fault: list[str]) -> None:
    assert [name for name, _ in dkimcheck.judge(text, "v=DKIM1; k=rsa; p=AAAA")] == fault


def test_every_finding_has_its_reason(repository: Path) -> None:
    """Each id that is used is in the catalogue, and each of the catalogue is used, and is in the documentation."""
    source = "".join(path.read_text() for path in (repository / "mtad" / "publish").glob("*.py"))
    used = set(re.findall(r'(?:find|found)\(\s*f?"([a-z]+\.[a-z]+)"', source))
    assert used <= set(CATALOGUE)
    faults = {f"dkim.{fault}" for fault in get_args(dkimcheck.Fault)}
    assert set(CATALOGUE) == used | faults
    text = (repository / "docs" / "dns.md").read_text()
    assert [name for name in CATALOGUE if f"`{name}`" not in text] == []
