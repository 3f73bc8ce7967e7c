"""`mtactl dns records` and `dns check` on a stopped daemon's data: what is printed, and the exit codes."""

import json
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.rcode
import dns.zone
import pytest
from cli_run import Run
from control_daemon import Daemon
from dns_thread import DnsServer, dns_thread

from mtad.dkim.keys import Keys

DOMAIN = "example.test"
RIGHT = """
example.test. MX 10 mail.example.test.
mail.example.test. A 192.0.2.10
10.2.0.192.in-addr.arpa. PTR mail.example.test.
example.test. TXT "v=spf1 ip4:192.0.2.10 -all"
mail.example.test. TXT "v=spf1 a -all"
_dmarc.example.test. TXT "v=DMARC1; p=quarantine; rua=mailto:postmaster@example.test"
_mta-sts.example.test. TXT "v=STSv1; id=1"
_smtp._tls.example.test. TXT "v=TLSRPTv1; rua=mailto:postmaster@example.test"
"""


def settings(root: Path, port: int) -> None:
    (root / "mtad.toml").write_text(
        'hostname = "mail.example.test"\ndomains = ["example.test"]\n[listen]\nsmtp = []\n'
        f'[dns]\nservers = ["127.0.0.1:{port}"]\nauthorities = ["127.0.0.1:{port}"]\naddresses = ["192.0.2.10"]\n'
        'timeout = "1s"\n'
    )


@pytest.fixture
def server(short_dir: Path) -> Iterator[DnsServer]:
    keys = Keys(str(short_dir / "data" / "dkim"))
    (short_dir / "data").mkdir()
    [key] = keys.generate(DOMAIN, "s1", "ed25519", 1.0)
    with dns_thread(f'{RIGHT}{key.name}. TXT "{key.record}"\n') as running:
        settings(short_dir, running.port)
        yield running


def test_the_zone_is_one(here: Run, server: DnsServer) -> None:
    done = here("dns", "records", "Example.TEST", "--format", "zone")
    assert done.returncode == 0, done.stderr
    zone = dns.zone.from_text(done.stdout, origin=DOMAIN, check_origin=False)
    assert zone.find_rdataset("@", "MX")[0].preference == 10
    assert "s1._domainkey" in {name.to_text() for name in zone.nodes}
    assert here("dns", "records", DOMAIN).stdout == done.stdout  # the default in a pipe


@pytest.mark.parametrize("style", ["table", "json", "nsupdate", "cloudflare", "route53", "octodns", "mta-sts"])
def test_each_format(here: Run, server: DnsServer, style: str) -> None:
    done = here("dns", "records", DOMAIN, "--format", style)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_json_has_an_object_per_record(here: Run, server: DnsServer) -> None:
    rows = [json.loads(line) for line in here("dns", "records", DOMAIN, "--json").stdout.splitlines()]
    assert {(row["name"], row["type"]) for row in rows} >= {(DOMAIN, "MX"), ("mail.example.test", "A")}
    [mark] = [row for row in rows if row["name"] == f"_dmarc.{DOMAIN}"]
    assert (mark["text"][:8], mark["value"][:9]) == ("v=DMARC1", '"v=DMARC1')


def test_what_differs(here: Run, server: DnsServer) -> None:
    done = here("dns", "records", DOMAIN, "--diff")
    assert done.returncode == 1
    assert '- _mta-sts.example.test. 3600 IN TXT "v=STSv1; id=1"\n+ _mta-sts.example.test. 3600' in done.stdout
    assert "+ mta-sts.example.test. 3600 IN A 192.0.2.10\n" in done.stdout
    assert "_dmarc" not in done.stdout
    assert here("dns", "records", DOMAIN, "--parked", "--diff").returncode == 1


def test_a_check_without_a_finding(here: Run, server: DnsServer) -> None:
    done = here("dns", "check", DOMAIN, "--offline")
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("example.test: nothing is wrong\n")
    one = json.loads(here("dns", "check", DOMAIN, "--offline", "--json").stdout)
    assert (one["domain"], one["findings"]) == (DOMAIN, [])


def gone(query: dns.message.Message) -> bytes:
    response = dns.message.make_response(query)
    response.flags |= dns.flags.AA
    response.set_rcode(dns.rcode.NXDOMAIN)
    return response.to_wire()


def test_a_check_with_one(here: Run, server: DnsServer) -> None:
    server.wrong[f"_dmarc.{DOMAIN}"] = gone
    done = here("dns", "check", DOMAIN, "--offline", "--json")
    assert done.returncode == 1
    [finding] = json.loads(done.stdout)["findings"]
    assert set(finding) == {"id", "severity", "what", "why", "fix"}
    assert (finding["id"], finding["severity"]) == ("dmarc.missing", "error")
    told = here("dns", "check", DOMAIN, "--offline")
    assert f"  fix: {finding['fix']}\n" in told.stdout
    assert told.stdout.endswith("example.test: 1 error\n")


def test_until_it_is_green(here: Run, server: DnsServer) -> None:
    """The record comes with the second look."""
    fixed = server.zone.get_rrset(f"_dmarc.{DOMAIN}.", "TXT")
    looks: list[int] = []

    def later(query: dns.message.Message) -> bytes:
        if query.flags & dns.flags.RD:  # the resolver's question is asked once in each look
            looks.append(query.id)
        if len(looks) < 2:
            return gone(query)
        response = dns.message.make_response(query)
        response.flags |= dns.flags.AA
        response.answer.append(fixed)
        return response.to_wire()

    server.wrong[f"_dmarc.{DOMAIN}"] = later
    done = here("dns", "check", DOMAIN, "--offline", "--watch", "--interval", "1s")
    assert done.returncode == 0, done.stdout
    assert "gone  dmarc.missing: " in done.stdout
    assert done.stdout.endswith("nothing is wrong any more\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("check", "a..b"), "'a..b': malformed domain"),
        (("check", DOMAIN, "--server", "nowhere"), "--server: 'nowhere' is no address"),
        (("check", DOMAIN, "--server", "127.0.0.1:99999"), "is no address"),
        (("check", DOMAIN, "--watch", "--interval", "soon"), "--interval: is not an age"),
        (("records", DOMAIN, "--format", "bind"), "'bind' is not one of"),
    ],
)
def test_bad_usage(here: Run, server: DnsServer, words: tuple[str, ...], told: str) -> None:
    done = here("dns", *words)
    assert done.returncode == 64
    assert told in done.stderr


def test_through_the_daemon(here: Run, daemon: Daemon) -> None:
    """An operator who may not read the keys asks the daemon."""
    done = here("dns", "records", DOMAIN, "--format", "zone")
    assert done.returncode == 0, done.stderr
    assert "not running" not in done.stderr
    assert " IN MX 10 " in done.stdout
