"""What listeners show, against what MX, MTA-STS and TLSA promise: real handshakes with listeners of this host."""

import datetime as dt
import ssl
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import private_ca
import pytest
import smtp_peer
from private_ca import DAY, Holder
from publish_world import HOSTNAME, World, ids

from mtad.config.tree import Address, Listen
from mtad.publish.finding import Finding
from mtad.publish.records import tlsa

MONTH = 30 * DAY
HOOK = "--deploy-hook /opt/mtad/scripts/certbot.sh"


def leaf(world: World, name: str = HOSTNAME, **more: Any) -> Holder:
    return private_ca.make(name, world.authority, **{"end": MONTH, **more})


def uses(world: World, holder: Holder, folder: Path) -> None:
    """The settings name this certificate."""
    cert, key = holder.write(folder)
    world.config = replace(world.config, tls=replace(world.config.tls, cert=str(cert), key=str(key)))


@asynccontextmanager
async def listening(world: World, smtp: ssl.SSLContext | None, *, users: ssl.SSLContext | None = None) -> Any:
    """One listener for servers, and with `users` one of each kind for them."""
    async with AsyncExitStack() as stack:
        peer = await stack.enter_async_context(smtp_peer.serving(smtp_peer.Peer(tls=smtp)))
        world.listen = Listen(smtp=(Address("0.0.0.0", peer.port),))
        if users is not None:
            submission = await stack.enter_async_context(smtp_peer.serving(smtp_peer.Peer(tls=users)))
            implicit = await stack.enter_async_context(smtp_peer.serving(smtp_peer.Peer(), implicit_tls=users))
            world.listen = replace(
                world.listen,
                submission=(Address("127.0.0.1", submission.port),),
                submissions=(Address("127.0.0.1", implicit.port),),
            )
        yield world.listen


async def certificates(world: World) -> list[Finding]:
    return [one for one in await world.check() if one.id.startswith(("tls.", "sts.", "dane.mis"))]


async def test_what_is_shown_is_right(world: World, tmp_path: Path) -> None:
    good = leaf(world)
    uses(world, good, tmp_path)
    world.lines.append(f"_25._tcp.{HOSTNAME}. 60 IN TLSA {tlsa(good.der)}")
    async with listening(world, good.context(tmp_path / "in"), users=good.context(tmp_path / "in")) as listen:
        areas = await world.areas()
    assert ids(finding for area in areas for finding in area.findings) == {"dane.unsigned"}
    said = {area.name: area.said for area in areas}
    where = [f"127.0.0.1:{one[0].port}" for one in (listen.smtp, listen.submission, listen.submissions)]
    assert f"{where[0]} shows {HOSTNAME} a certificate for {HOSTNAME}" in said["certificate"]
    assert f"{where[1]} shows {HOSTNAME} a certificate for {HOSTNAME}" in said["certificate"]
    assert f"{where[2]} shows {HOSTNAME} a certificate for {HOSTNAME}" in said["certificate"]
    assert said["dane"] == [f"_25._tcp.{HOSTNAME} matches what {where[0]} shows"]


async def test_a_renewed_certificate_that_is_not_in_use(world: World, tmp_path: Path) -> None:
    """By the file all is well; senders see the one of before. DNS is right, so no record is to be changed."""
    new, old = leaf(world), leaf(world, end=dt.timedelta(seconds=-5))
    uses(world, new, tmp_path / "new")
    world.lines.append(f"_25._tcp.{HOSTNAME}. 60 IN TLSA {tlsa(new.der)}")
    async with listening(world, old.context(tmp_path / "old")):
        found = {one.id: one for one in await certificates(world)}
    assert set(found) == {"tls.stale", "tls.expired", "sts.certificate", "dane.mismatch"}
    assert {one.fix for one in found.values()} == {"mtactl tls reload"}
    assert "its certificate has expired" in found["sts.certificate"].what


@pytest.mark.parametrize(
    ("shows", "mild", "hard", "says"),
    [
        ({"name": "other.test"}, "tls.name", "tls.name", "is not for mail.example.test but for other.test"),
        ({"issuer": None}, "tls.untrusted", "tls.untrusted", "is signed by itself"),
        ({"start": DAY}, "tls.expired", "tls.expired", "not valid yet"),
    ],
)
async def test_what_senders_refuse(
    world: World, tmp_path: Path, shows: dict[str, Any], mild: str, hard: str, says: str
) -> None:
    """With the file it is told in: a server that does not verify takes it, one that heeds MTA-STS does not, and no
    mail program does."""
    issuer = shows.pop("issuer", world.authority)
    bad = private_ca.make(shows.pop("name", HOSTNAME), issuer, **{"end": MONTH, **shows})
    uses(world, bad, tmp_path)
    context = bad.context(tmp_path / "in")
    async with listening(world, context, users=context) as listen:
        found = await certificates(world)
    by_port = {(one.id, one.what.partition(":")[2].partition(":")[0]): one for one in found if one.id != "sts.mode"}
    smtp, submission = listen.smtp[0].port, listen.submission[0].port
    if hard != "tls.expired":
        assert by_port[mild, str(smtp)].severity == "info"
    assert by_port[hard, str(submission)].severity == "error"
    [policy] = [one for one in found if one.id == "sts.certificate"]
    assert says in policy.what
    assert f"127.0.0.1:{smtp}" in policy.what
    assert policy.fix == f"certbot certonly -d {HOSTNAME} {HOOK}\nmtactl tls reload"


async def test_the_key_is_another_than_tlsa_says(world: World, tmp_path: Path) -> None:
    good, other = leaf(world), leaf(world)
    uses(world, good, tmp_path)
    world.lines.append(f"_25._tcp.{HOSTNAME}. 60 IN TLSA {tlsa(other.der)}")
    async with listening(world, good.context(tmp_path / "in")):
        [found] = [one for one in await world.check() if one.id == "dane.mismatch"]
    assert found.fix == f"replace it by\n_25._tcp.{HOSTNAME}. 3600 IN TLSA {tlsa(good.der)}"


async def test_tlsa_of_an_authority_wants_the_name_too(world: World, tmp_path: Path) -> None:
    """2 1 1 (RFC 7672 3.1.2). The authority has to be among what is shown."""
    import hashlib

    good, wrong = leaf(world), leaf(world, "other.test")
    uses(world, good, tmp_path)
    digest = hashlib.sha256(world.authority.spki).hexdigest()
    world.lines.append(f"_25._tcp.{HOSTNAME}. 60 IN TLSA 2 1 1 {digest}")
    for shown, chain, mismatch in ((good, True, False), (good, False, True), (wrong, True, True)):
        context = shown.context(tmp_path / "in", *([world.authority] if chain else []))
        async with listening(world, context):
            found = ids(await world.check())
        assert ("dane.mismatch" in found) is mismatch


async def test_without_tls(world: World, tmp_path: Path) -> None:
    async with listening(world, None):
        found = {one.id: one for one in await certificates(world)}
    assert set(found) == {"tls.missing", "sts.certificate"}
    assert "STARTTLS is not offered" in found["tls.missing"].what
    world.config = replace(world.config, tls=replace(world.config.tls, cert="", key=""))
    async with listening(world, None):
        [fix] = [one.fix for one in await certificates(world) if one.id == "tls.missing"]
    assert f"certbot certonly --standalone -d {HOSTNAME} {HOOK}\n" in fix
    assert "/etc/letsencrypt" not in fix  # the daemon may not read it


async def test_an_mx_of_another_name_is_looked_at_by_that_name(world: World, tmp_path: Path) -> None:
    good = leaf(world)
    uses(world, good, tmp_path)
    world.lines += ["mx2.example.test. 60 IN A 192.0.2.10", "example.test. 60 IN MX 20 mx2.example.test."]
    world.policy = world.policy.replace("mx: mail", "mx: mx2.example.test\r\nmx: mail")
    async with listening(world, good.context(tmp_path / "in")):
        found = [one for one in await certificates(world) if one.id == "sts.certificate"]
    assert len(found) == 1
    assert "mx2.example.test" in found[0].what
    assert found[0].fix.startswith(f"certbot certonly -d {HOSTNAME} -d mx2.example.test ")


async def test_where_nobody_answers_the_file_is_judged(world: World, tmp_path: Path) -> None:
    uses(world, private_ca.make("other.test", world.authority), tmp_path)
    async with listening(world, None) as listen:
        pass  # it is closed now
    world.listen = listen
    areas = await world.areas()
    [policy] = [one for area in areas for one in area.findings if one.id == "sts.certificate"]
    assert "chain.pem is not for mail.example.test" in policy.what
    assert any("does not answer" in one for area in areas for one in area.said)


async def test_one_that_says_nothing_does_not_hold_the_rest_up(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mtad.publish import shown

    monkeypatch.setattr(shown, "LOOK_S", 0.3)
    silent = smtp_peer.Peer(says={"banner": ""})
    async with smtp_peer.serving(silent):
        world.listen = Listen(smtp=(Address("127.0.0.1", silent.port),))
        areas = await world.areas()
    said = next(area.said for area in areas if area.name == "certificate")
    assert said == [f"127.0.0.1:{silent.port} does not answer (no answer within 0.3 s): judged by the file"]
