"""Certificates: which are in use, reading them again, and what others see of TLS."""

import asyncio
import random
import socket
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from ipaddress import ip_address

from mtad.config import Address, ConfigErrors, Tls
from mtad.control.admin import Admin, Args, Failed, Handler, Row
from mtad.dns.resolver import DnsTemporary, NoData, NoSuchName, Resolver
from mtad.events import Events
from mtad.mail.reply import Reply
from mtad.outbound.dial import dial
from mtad.outbound.planner import Planner
from mtad.outbound.policies import Policies
from mtad.outbound.route import Host, Remote
from mtad.outbound.security import Security
from mtad.tls import chain, probe
from mtad.tls.certificates import Certificate
from mtad.tls.mta_sts import Known
from mtad.tls.probe import Seen, Way
from mtad.tls.requirement import OPPORTUNISTIC, Requirement

HOSTS_MAX = 10
SUBMISSIONS_PORT = 465


async def tls_show(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    """The files as they are now; `in_use`: the daemon has this very certificate in its hands."""
    used = {(one.cert, one.expires_at) for one in admin.app.certificates()}
    for number, (cert, key) in enumerate(pairs(admin.config.tls)):
        hostname = admin.config.hostname if number == 0 else ""
        found = await asyncio.to_thread(chain.examine, cert, key, hostname, admin.clock())
        leaf = found.links[0] if found.links else None
        in_use = leaf is not None and (cert, leaf.expires_at) in used
        problems = list(found.problems)
        if used and not in_use:
            problems.append("the daemon still has another one in use: mtactl tls reload")
        yield {
            "cert": cert,
            "key": key,
            "names": list(leaf.names) if leaf else [],
            "expires": int(leaf.expires_at) if leaf else None,
            "chain": [_link(one) for one in found.links],
            "matches": found.matches,
            "in_use": in_use,
            "distrust": found.distrust,
            "problems": problems,
        }


def pairs(tls: Tls) -> list[tuple[str, str]]:
    """Certificate and key of each pair in the settings, the default first."""
    return [(tls.cert, tls.key)] * bool(tls.cert) + [(one.cert, one.key) for one in tls.certificates]


async def tls_reload(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    try:
        loaded = await admin.app.reload_tls()
    except ConfigErrors as errors:
        raise Failed("BadConfig", f"{errors}\nnothing was changed: the certificates of before stay in use") from None
    for certificate in loaded:
        yield _row(certificate)


async def tls_test(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    bad = count = 0
    rows = _remote(admin, args["host"]) if args["host"] else _own(admin)
    async for row in rows:
        count += 1
        bad += bool(row["problems"])
        yield row
    if not count:
        raise Failed("NothingMatched", "nothing listens: see listen.smtp, listen.submission and listen.submissions")
    if bad:
        raise Failed("ProblemFound", f"{bad} of {count} {'has a problem' if bad == 1 else 'have problems'}")


async def _own(admin: Admin) -> AsyncGenerator[Row, None]:
    listen, hostname = admin.config.listen, admin.config.hostname
    ways: tuple[tuple[Sequence[Address], Way], ...] = (
        (listen.smtp, "STARTTLS"),
        (listen.submission, "STARTTLS"),
        (listen.submissions, "implicit"),
    )
    for addresses, way in ways:
        for address in addresses:
            host = reachable(address.host)
            seen = await probe.look(partial(_dialled, (host,), address.port), hostname, way, ehlo=hostname)
            yield _seen(admin, f"{shown(host)}:{address.port}", hostname, seen, OPPORTUNISTIC, ours=True)


def reachable(host: str) -> str:
    """Where to find a listener from this host."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104  (compared, not bound)


def shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


async def _remote(admin: Admin, given: str) -> AsyncGenerator[Row, None]:
    hosts, source = await _hosts(admin, given)
    for host, way in hosts:
        name = host.tls.names[0] if host.tls.names else host.name
        connect = partial(_dialled, host.addresses, host.port, source)
        seen = await probe.look(connect, name, way, ehlo=admin.config.hostname)
        yield _seen(admin, f"{host.name}:{host.port}", name, seen, host.tls, ours=False)


async def _hosts(admin: Admin, given: str) -> tuple[list[tuple[Host, Way]], tuple[str, ...]]:
    """The servers to look at, and our addresses to connect from. Failed."""
    config = admin.config
    resolver = Resolver(config.dns, admin.clock)
    name, port = _place(given)
    if port:
        found = await _addresses(resolver, name)
        return [(Host(name, found[0], port, others=found[1:4]), "implicit" if port == 465 else "STARTTLS")], ()
    security, policies = admin.app.security(), None
    if security is None:
        # What a policy is fetched for here is this look alone: no log, no store.
        quiet = Events(admin.clock, lambda line: None)
        policies = Policies(config, resolver, _Nowhere(), quiet, admin.clock)
        security = Security(config, resolver, policies, quiet, admin.clock)
        await security.look()
    try:
        trace = await Planner(config, resolver, security, random.Random()).trace(name)
    finally:
        if policies is not None:
            await policies.close()
    plan = trace.plan
    if isinstance(plan, Reply):
        raise Failed("NotFound", f"mail for {name} has no way now: {plan}{f' ({plan.cause})' if plan.cause else ''}")
    if not isinstance(plan, Remote):
        raise Failed("NotFound", f"mail for {name} does not leave over SMTP: `mtactl explain postmaster@{name}`")
    way: Way = "implicit" if plan.scheme == "smtps" else "STARTTLS"
    return [(host, way) for host in plan.hosts[:HOSTS_MAX] if host.port], plan.source


async def _addresses(resolver: Resolver, name: str) -> tuple[str, ...]:
    try:
        return (str(ip_address(name)),)
    except ValueError:
        pass
    try:
        return await resolver.system_addresses(name)
    except (DnsTemporary, NoSuchName, NoData) as error:
        raise Failed("NotFound", f"{name} has no address: {error}") from None


def _place(given: str) -> tuple[str, int]:
    """Host and port, 0 where there is none. Failed."""
    host, colon, port = given.rpartition(":")
    if given.startswith("["):
        host, _, port = given[1:].partition("]")
        colon, port = port[:1], port[1:]
    elif not colon or ":" in host:
        host, colon, port = given, "", ""
    if not host or (colon and not (port.isdecimal() and port.isascii() and 0 < int(port) < 65536)):
        raise Failed("Usage", f"host: {given[:60]!a} is no HOST or HOST:PORT")
    return host.lower().removesuffix("."), int(port or 0)


async def _dialled(addresses: Sequence[str], port: int, source: Sequence[str] = ()) -> socket.socket:
    sock, _ = await dial(addresses, port, source)
    return sock


class _Nowhere:
    """A store of MTA-STS policies that keeps none."""

    async def load_policies(self) -> Sequence[Known]:
        return ()

    async def save_policies(self, policies: Sequence[Known]) -> None:
        pass

    async def delete_policies(self, domains: Sequence[str]) -> None:
        pass


def _seen(admin: Admin, where: str, name: str, seen: Seen, need: Requirement, *, ours: bool) -> Row:
    now, links = admin.clock(), chain.links(seen.chain)
    problems = judge_own(seen, links, name, now) if ours else judge_remote(seen, need, name, now)
    return {
        "where": where,
        "name": name,
        "way": seen.way,
        "greeting": seen.greeting,
        "protocol": seen.protocol,
        "cipher": seen.cipher,
        "chain": [_link(one) for one in links],
        "distrust": seen.distrust,
        "old": None if seen.old is None else list(seen.old),
        "auth": list(seen.auth),
        "needs": "" if ours else str(need),
        "result": _result(seen, need, problems, ours=ours),
        "problems": problems,
    }


def judge_own(seen: Seen, links: Sequence[chain.Link], name: str, now: float) -> list[str]:
    """What is wrong with a listener of ours. Pure."""
    if not seen.encrypted:
        return [seen.problem]
    said = chain.faults(links, name, now)
    lacking = chain.missing(links, seen.distrust)
    if lacking:
        said.insert(0, lacking)
    elif seen.distrust and not said:
        said.append(f"clients do not trust it: {seen.distrust}")
    if seen.old:
        said.append(f"old protocols are taken: {', '.join(seen.old)}")
    if seen.early_auth:
        said.append("AUTH is offered before TLS: passwords could be overheard")
    return said


def judge_remote(seen: Seen, need: Requirement, name: str, now: float) -> list[str]:
    """Why our mail would not go to this host as it should. Pure; what is optional is no problem."""
    if need.refusal is not None:
        return [need.refusal.text]
    if not seen.encrypted:
        if not seen.greeting or need.level != "may":
            return [seen.problem]
        return []
    fault = need.check(seen.chain, name, now)
    if fault is not None:
        return [fault.words]
    if need.level == "verify" and seen.distrust:
        return [f"its certificate cannot be verified: {seen.distrust}"]
    if need.testing and seen.distrust:
        return [f"its MTA-STS policy is in testing, and its certificate would fail it: {seen.distrust}"]
    return []


def _result(seen: Seen, need: Requirement, problems: Iterable[str], *, ours: bool) -> str:
    if ours:
        return "a problem" if list(problems) else "good"
    if list(problems):
        return "mail waits" if need.authenticates or need.refusal or not seen.greeting else "a problem"
    if not seen.encrypted:
        return "mail goes in the clear"
    return "mail goes encrypted, and to the right host" if need.authenticates else "mail goes encrypted"


def _link(one: chain.Link) -> Row:
    row = asdict(one)
    return {**row, "names": list(one.names), "starts_at": int(one.starts_at), "expires_at": int(one.expires_at)}


def _row(certificate: Certificate) -> Row:
    return {
        "cert": certificate.cert,
        "key": certificate.key,
        "names": list(certificate.names),
        "expires": int(certificate.expires_at),
    }


HANDLERS: Mapping[str, Handler] = {
    "tls.show": tls_show,
    "tls.test": tls_test,
    "tls.reload": tls_reload,
}
