"""Row 34 of the security checklist: what a stranger's DNS can say, and where that leads: to no host of ours, and to no
lost mail."""

import asyncio

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from dns_server import serving as dns_serving
from smtp_peer import Peer, serving
from test_scheduler import house, running

from mtad.mail.envelope import State

PRIVATE = {
    "loopback": "127.0.0.1",
    "another-loopback": "127.8.9.10",
    "loopback6": "::1",
    "anywhere": "0.0.0.0",
    "anywhere6": "::",
    "mapped": "::ffff:127.0.0.1",
    "mapped-private": "::ffff:10.0.0.1",
    "compatible": "::127.0.0.1",
    "nat64": "64:ff9b::7f00:1",
    "six-to-four": "2002:7f00:1::",
    "metadata": "169.254.169.254",
    "ten": "10.1.2.3",
    "ours": "172.16.0.1",
    "lan": "192.168.1.1",
    "link": "fe80::1",
    "local6": "fd00::1",
    "multicast": "224.0.0.1",
    "broadcast": "255.255.255.255",
    "carrier": "100.64.0.1",
    "example": "192.0.2.1",
}
ZONE = "$ORIGIN test.\n@ 60 SOA ns h 1 1 1 1 1\n@ 60 NS ns\n"
ZONE += "".join(
    f"{name} 60 MX 10 mx.{name}\nmx.{name} 60 {'AAAA' if ':' in address else 'A'} {address}\n"
    for name, address in PRIVATE.items()
)


async def test_row_34_no_address_of_this_machine_or_network_is_connected_to(tmp_path):
    async with serving(Peer()) as peer, dns_serving(ZONE) as server:
        async with house(tmp_path, dns=server.port, port=peer.port) as made, running(made) as scheduler:
            name = await made.put(*(f"b@{domain}.test" for domain in PRIVATE), "b@[127.0.0.1]", sender="")
            scheduler.wake()
            rows = await made.settled(name)
    assert peer.connections == 0
    assert {f"{row.last.code} {row.last.status}" for row in rows} == {"550 5.4.4"}, rows
    assert all(row.state is State.FAILED for row in rows)


def _code(code: int):
    def answer(query: dns.message.Message) -> bytes:
        response = dns.message.make_response(query)
        response.set_rcode(code)
        return response.to_wire()

    return answer


WRONG = {
    "servfail": (_code(dns.rcode.SERVFAIL), "451 4.4.3"),
    "refused": (_code(dns.rcode.REFUSED), "451 4.4.3"),
    "silent": (lambda query: None, "451 4.4.3"),
    "garbage": (lambda query: b"\xff" * 40, "451 4.4.3"),
    "nxdomain": (_code(dns.rcode.NXDOMAIN), "550 5.1.2"),
}


async def test_row_34_dns_that_fails_delays_and_only_a_clear_no_returns(tmp_path):
    async with serving(Peer()) as peer, dns_serving(ZONE) as server:
        server.wrong = {f"{name}.test": answer for name, (answer, _) in WRONG.items()}
        async with house(tmp_path, dns=server.port, port=peer.port) as made, running(made) as scheduler:
            name = await made.put(*(f"b@{domain}.test" for domain in WRONG), sender="")
            scheduler.wake()
            rows = await made.settled(name)
    said = {row.domain.removesuffix(".test"): f"{row.last.code} {row.last.status}" for row in rows}
    assert said == {name: expected for name, (_, expected) in WRONG.items()}


MORE = {
    "null": ("null 60 MX 0 .\n", "556 5.1.10"),
    "null-and-more": ("null-and-more 60 MX 0 .\nnull-and-more 60 MX 10 good\n", "250 2.0.0"),
    "cname": ("cname 60 MX 10 alias\nalias 60 CNAME other\nother 60 CNAME good\n", "250 2.0.0"),
    "itself": ("itself 60 CNAME elsewhere\nelsewhere 60 MX 10 good\n", "250 2.0.0"),
    "implicit": ("implicit 60 A 127.0.0.1\n", "250 2.0.0"),
    "nowhere": ("nowhere 60 MX 10 gone\n", "550 5.4.4"),
    "literal": ("literal 60 MX 10 127.0.0.1.\n", "250 2.0.0"),
    "self": ("self 60 MX 10 mail.own\nmail.own 60 A 127.0.0.1\n", "554 5.4.6"),
    "round": ("round 60 MX 10 ring\nring 60 CNAME rung\nrung 60 CNAME ring\n", "451 4.4.4"),
    "crowd": ("".join(f"crowd 60 MX {n} h{n}.crowd\n" for n in range(1, 200)), "550 5.4.4"),
}


@pytest.mark.parametrize("truncated", [False, True])
async def test_row_34_odd_and_large_answers(tmp_path, truncated):
    zone = ZONE + "good 60 A 127.0.0.1\n" + "".join(lines for lines, _ in MORE.values())
    async with serving(Peer()) as peer, dns_serving(zone) as server:
        server.truncate = truncated
        settings = {"dns": server.port, "port": peer.port, "allow_private_addresses": True}
        async with house(tmp_path, **settings) as made, running(made) as scheduler:
            name = await made.put(*(f"b@{domain}.test" for domain in MORE), sender="")
            scheduler.wake()
            rows = await made.settled(name)
        asked = [host for host, kind in server.asked if host.endswith(".crowd.test") and kind == "A"]
    said = {row.domain.removesuffix(".test"): f"{row.last.code} {row.last.status}" for row in rows}
    assert said == {name: expected for name, (_, expected) in MORE.items()}
    assert len(set(asked)) <= 10


async def test_row_34_an_address_that_changes_between_check_and_connect_changes_nothing(tmp_path):
    """The first answer is private; whatever the second would be, it is not asked for."""
    answers = iter(["10.0.0.1", "127.0.0.1", "127.0.0.1"])

    def changing(query: dns.message.Message) -> bytes:
        response = dns.message.make_response(query)
        if query.question[0].rdtype == 1:
            response.answer.append(dns.rrset.from_text(query.question[0].name, 0, "IN", "A", next(answers)))
        else:
            response.flags |= dns.flags.AA
        return response.to_wire()

    zone = ZONE + "turn 60 MX 10 mx.turn\n"
    async with serving(Peer()) as peer, dns_serving(zone) as server:
        server.wrong["mx.turn.test"] = changing
        async with house(tmp_path, dns=server.port, port=peer.port) as made, running(made) as scheduler:
            name = await made.put("b@turn.test", sender="")
            scheduler.wake()
            [row] = await made.settled(name)
        assert (row.last.status, peer.connections) == ("5.4.4", 0)
        assert [kind for host, kind in server.asked if host == "mx.turn.test"].count("A") == 1
    await asyncio.sleep(0)
