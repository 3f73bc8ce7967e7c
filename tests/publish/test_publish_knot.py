"""Knot as primary and as a secondary that lags: what is printed for nsupdate is really sent, with TSIG, and checked."""

import subprocess
import time
from dataclasses import replace
from pathlib import Path

import peer_knot_pair
import pytest
from peer_knot_pair import HOSTS, KEY, SECRET, KnotPair
from peer_process import program
from publish_world import DOMAIN, World, ids

from mtad.config.tree import Address, Config, Delivery, Dns
from mtad.publish.check import check
from mtad.publish.finding import Finding
from mtad.publish.formats import FORMATS
from mtad.publish.host import gather, keys_of
from mtad.publish.records import row, sts_policy, wanted
from mtad.publish.view import View

NSUPDATE = program("nsupdate") or program("knsupdate")
OURS = "127.0.0.1"

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(bool(peer_knot_pair.missing()), reason=peer_knot_pair.missing() or "-"),
    pytest.mark.skipif(not NSUPDATE, reason="neither nsupdate nor knsupdate is installed"),
]


async def test_what_is_printed_is_published_and_checked(tmp_path: Path) -> None:
    world = World(tmp_path / "world")
    spf, mark = '@ 1 TXT "v=spf1 a:nothing.example.test ?all"\n', '_dmarc 1 TXT "v=DMARC1; p=none"\n'
    others = f'@ 1 TXT "site-verification=abc"\n{spf}{mark}'
    pair = KnotPair(tmp_path / "knot", DOMAIN, others, open_updates=False).start()
    try:
        config = replace(
            world.config,
            dns=Dns((Address(HOSTS[0], pair.port),), timeout_s=2.0, addresses=(OURS,)),
            delivery=Delivery(allow_private_addresses=True),
        )
        before = await checked(config, world, pair)
        assert {"mx.missing", "spf.uncovered", "spf.undecided", "dmarc.none", "dkim.missing"} <= ids(before)

        subprocess.run(
            [NSUPDATE, "-y", f"hmac-sha256:{KEY}:{SECRET}"],
            input=f"server {HOSTS[0]} {pair.port}\n{await printed(config, world, pair)}",
            text=True, check=True, capture_output=True, timeout=30,
        )  # fmt: skip
        assert sorted(pair.txt(HOSTS[0], DOMAIN)) == ["site-verification=abc", "v=spf1 ip4:127.0.0.1 -all"]
        lagging = await checked(config, world, pair)
        assert ids(lagging) == {"ns.serial", "ns.disagree"}
        assert all(HOSTS[1] in finding.fix for finding in lagging if finding.id == "ns.disagree")

        pair.catch_up()
        assert await checked(config, world, pair) == []
    finally:
        pair.stop()


async def checked(config: Config, world: World, pair: KnotPair) -> list[Finding]:
    asked = [Address(host, pair.port) for host in HOSTS]
    areas = check(config, world.keys, time.time, DOMAIN, offline=True, asked=asked)
    return [finding async for area in areas for finding in area.findings]


async def printed(config: Config, world: World, pair: KnotPair) -> str:
    """As `dns records --format nsupdate` prints it."""
    from mtad.dns.resolver import Resolver

    resolver = Resolver(config.dns, time.time)
    view = View(resolver, DOMAIN, [Address(HOSTS[0], pair.port)])
    host = await gather(config, resolver)
    rows = []
    for rec in wanted(DOMAIN, host, keys_of(world.keys.ring(DOMAIN))):
        rows.append({**row(rec), "live": list((await view.get(rec.name, rec.kind)).values())})
    await view.close()
    return "".join(f"{line}\n" for line in FORMATS["nsupdate"](DOMAIN, rows, sts_policy(host)))
