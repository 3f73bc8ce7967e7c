"""Changes of a zone: by Knot with TSIG, and what each refusal is called."""

import base64
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import peer_knot_pair
import pytest
from peer_knot_pair import HOSTS, KEY, SECRET, KnotPair

from mtad.config.tree import Address, DnsUpdate
from mtad.dns.update import Change, UpdateError, quoted, send, zone_of

ZONE = "example.test"
LONG = "v=DKIM1; k=rsa; p=" + "A" * 600


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KnotPair]:
    if reason := peer_knot_pair.missing():
        pytest.skip(reason)
    records = 's1._domainkey TXT "stale"\ns1._domainkey TXT "other"\ns1._domainkey 60 A 192.0.2.1\n'
    servers = KnotPair(tmp_path_factory.mktemp("knot"), ZONE, records, open_updates=False).start()
    yield servers
    servers.stop()


@pytest.fixture
def settings(pair: KnotPair, tmp_path: Path) -> DnsUpdate:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    return DnsUpdate(Address(HOSTS[0], pair.port), (), KEY, secret_file=str(tmp_path / "secret"), ttl_s=60.0)


async def test_set_and_removed(pair: KnotPair, settings: DnsUpdate) -> None:
    name = "s1._domainkey.example.test"
    await send(settings, [ZONE], [Change(name, LONG), Change("s2._domainkey.example.test", 'a "quoted\\ text')])
    assert pair.txt(HOSTS[0], name) == [LONG]  # in place of both that were there
    assert pair.txt(HOSTS[0], "s2._domainkey.example.test") == ['a "quoted\\ text']
    await send(settings, [ZONE], [Change(name, "")])
    assert pair.txt(HOSTS[0], name) == []
    await send(settings, [ZONE], [Change(name, "")])  # what is gone may go again


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"key": "nobody.test"}, "does not know the TSIG key nobody.test"),
        ({"secret": base64.b64encode(b"another secret of some length").decode()}, "the secret of update.key.test"),
        ({"key": ""}, "refuses to change example.test: "),
        ({"zones": ("other.test",)}, "is in none of dns.update.zones: other.test"),
        ({"zones": ("test",)}, "is it the primary server of test?"),
        ({"secret": "no base64!"}, "holds no base64"),
        ({"secret_file": "/nonexistent"}, "/nonexistent: No such file"),
        ({"server": Address("127.0.0.1", 9)}, "127.0.0.1 port 9: "),
    ],
)
async def test_refusals(settings: DnsUpdate, tmp_path: Path, wrong: dict[str, object], words: str) -> None:
    wrong = dict(wrong)
    if "secret" in wrong:
        (tmp_path / "secret").write_text(str(wrong.pop("secret")))
    with pytest.raises(UpdateError) as caught:
        await send(replace(settings, **wrong), [ZONE], [Change("s3._domainkey.example.test", "x")])  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)
    assert str(caught.value).isprintable()


def test_the_longest_zone() -> None:
    assert zone_of("a.sub.example.test", ["example.test", "sub.example.test", "test"]) == "sub.example.test"
    with pytest.raises(UpdateError):
        zone_of("notexample.test", ["example.test"])


def test_quoted() -> None:
    assert quoted("x" * 256) == f'"{"x" * 255}" "x"'
    assert quoted("") == '""'
