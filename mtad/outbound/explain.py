"""What would become of a mail to an address, in words: the same decisions as a delivery makes, with their reasons."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, assert_never

from mtad.accounts.directory import ALWAYS, Directory, Elsewhere, Forward, Mailbox, Step, Unknown
from mtad.config import Config, RouteRule
from mtad.dns.resolver import MxAnswer, NoData
from mtad.mail import address as addresses
from mtad.mail.reply import Refused, Reply
from mtad.outbound import route
from mtad.outbound.planner import Planner, Trace
from mtad.outbound.route import Discard, Maildir, Pipe, Plan, Remote

DOMAINS_MAX = 20  # that are planned; an alias may lead to hundreds
STEPS_MAX = 200  # of an expansion that are told

_NOBODY = Reply(550, "5.1.1", "No such mailbox")
_BEHIND = "not better than this host itself"

Verdict = Literal["now", "later", "never"]


@dataclass(frozen=True, slots=True)
class Pace:
    """Something about the pace of a site. `wait`: nothing goes out there now; `until`: unix seconds, 0 = open."""

    what: str
    why: str = ""
    wait: bool = False
    until: float = 0.0


Suppressed = Callable[[str, str], Reply | None]
"""(user, address): what becomes of mail of this user to an address that is not tried."""

Held = Callable[[str], str]
"""(address): why an operator's rule holds new mail to it; "" when none does."""

Outlook = Callable[[str, str, Plan], Sequence[Pace]]
"""(domain, user, plan): how its site is paced now."""


@dataclass(frozen=True, slots=True)
class Expanded:
    """One step of the expansion."""

    address: str
    depth: int
    says: str


@dataclass(frozen=True, slots=True)
class Server:
    """One host of a way. `tls` is the level ("" where there is none), `refused` why it is not used now."""

    name: str
    addresses: tuple[str, ...]
    port: int
    preference: int | None = None
    tls: str = ""
    why: str = ""
    refused: str = ""


@dataclass(frozen=True, slots=True)
class LeftOut:
    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Way:
    """What becomes of the mail to one domain."""

    domain: str
    addresses: tuple[str, ...]
    sender: str  # as it is written
    sender_why: str
    route: str
    route_why: str
    result: str
    verdict: Verdict
    servers: tuple[Server, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    pace: tuple[Pace, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    address: str
    sender: str
    user: str
    steps: tuple[Expanded, ...]
    ways: tuple[Way, ...]
    more: int = 0  # domains that were not looked at
    problem: str = ""  # why it goes nowhere at all


async def explain(
    config: Config,
    directory: Directory,
    planner: Planner,
    outlook: Outlook,
    suppressed: Suppressed,
    address: str,
    sender: str,
    user: str,
    held: Held = lambda address: "",
) -> Explanation:
    """`address` and `sender` in canonical form; `sender` "" is the null sender, `user` "" nobody who signed in."""
    steps: list[Step] = []
    problem = ""
    try:
        steps.extend(directory.walk(address))
    except Refused as refused:
        problem = f"it would be refused: {refused.reply}"
    told = tuple(Expanded(step.address, step.depth, _says(step, config)) for step in steps[:STEPS_MAX])
    if problem:
        return Explanation(address, sender, user, told, (), 0, problem)
    finals: dict[str, str] = {}
    for step in steps:
        for final in step.final:
            finals.setdefault(addresses.fold(final), final)
    if not finals:
        return Explanation(address, sender, user, told, (), 0, "it would be refused: 550 5.1.1 No such user here")
    groups: dict[str, list[str]] = {}
    for final in finals.values():
        groups.setdefault(addresses.domain_of(final), []).append(final)
    ways: list[Way] = []
    for domain, members in list(groups.items())[:DOMAINS_MAX]:
        trace = await planner.trace(domain, sender, user)
        written = directory.sender_for(sender, address, members[0])
        stopped = {one: reply for one in members if (reply := _stopped(directory, suppressed, user, one)) is not None}
        holds = tuple(Pace(why, wait=True) for why in dict.fromkeys(held(one) for one in members) if why)
        pace = (*holds, *outlook(domain, user, trace.plan))
        ways.append(_way(config, trace, domain, members, stopped, written, sender, pace))
    return Explanation(address, sender, user, told, tuple(ways), max(len(groups) - DOMAINS_MAX, 0))


def _stopped(directory: Directory, suppressed: Suppressed, user: str, address: str) -> Reply | None:
    """Why an address is not tried."""
    if isinstance(directory.resolve(address), Unknown):
        return _NOBODY
    return suppressed(user, address)


def _says(step: Step, config: Config) -> str:
    if step.loop:
        return "a loop: it is being expanded already; mail goes to the mailbox of that name"
    match step.resolution:
        case Mailbox(name):
            if name.partition("@")[0] in ALWAYS:
                return "mailbox (always there)"
            return "mailbox" if addresses.same(name, step.address) else f"mailbox of {name}"
        case Forward(targets, mailboxes, report):
            if report:
                return f"a sender of forwarded mail: reports go back to {targets[0]}"
            if targets == (config.local.catch_all,) and not mailboxes:
                return f"nobody of that name; local.catch_all takes it: {targets[0]}"
            own = " and its own mailbox" if mailboxes else ""
            return f"alias of {len(targets)} {'address' if len(targets) == 1 else 'addresses'}{own}"
        case Unknown():
            return "nobody of that name"
        case Elsewhere():
            return "elsewhere"
        case never:
            assert_never(never)


def _way(
    config: Config,
    trace: Trace,
    domain: str,
    members: Sequence[str],
    stopped: Mapping[str, Reply],
    written: str,
    sender: str,
    pace: tuple[Pace, ...],
) -> Way:
    plan = trace.plan
    name, why = _route(config, trace, domain)
    result, verdict = _result(plan, members, stopped, pace)
    sender_why = ""
    if written != sender:
        sender_why = f"SRS: {sender} is not ours"
    return Way(
        domain,
        tuple(members),
        written,
        sender_why,
        name,
        why,
        result,
        verdict,
        _servers(trace),
        (*(LeftOut(one, str(reply)) for one, reply in stopped.items()), *_left_out(config, trace)),
        pace,
    )


def _route(config: Config, trace: Trace, domain: str) -> tuple[str, str]:
    """What decides, and why."""
    rule = trace.rule
    if rule is None:
        if domain in config.domains:
            return "local.deliver", "is not set, and no [[delivery.route]] matches"
        if domain.startswith("["):
            return "by address", "no [[delivery.route]] matches"
        by = "its own address, as it has no MX" if isinstance(trace.mx, NoData) else "by MX"
        return by, "no [[delivery.route]] matches"
    number = next((n for n, one in enumerate(config.delivery.routes, 1) if one is rule), 0)
    if not number:
        return _written(rule), "local.deliver; no [[delivery.route]] matches"
    return _written(rule), f"[[delivery.route]] {number}: {_conditions(rule)}"


def _conditions(rule: RouteRule) -> str:
    said = [f"match {rule.match}"]
    if rule.senders:
        said.append(f"from {', '.join(rule.senders)}")
    if rule.users:
        said.append(f"user {', '.join(rule.users)}")
    return "; ".join(said)


def _written(rule: RouteRule) -> str:
    """The target of a rule; of a program, what is run."""
    return f"pipe: {' '.join(rule.command)}" if rule.to.scheme == "pipe" else rule.to.written()


def _servers(trace: Trace) -> tuple[Server, ...]:
    plan = trace.plan
    if not isinstance(plan, Remote):
        return ()
    ranks = {name: rank for rank, name in reversed(trace.mx.hosts)} if isinstance(trace.mx, MxAnswer) else {}
    made = []
    for host in plan.hosts:
        need = host.tls
        made.append(
            Server(
                host.name or "this machine",
                host.addresses,
                host.port,
                ranks.get(host.name),
                need.level if host.port else "",
                need.why or (need.origin if need.origin != "opportunistic" else ""),
                str(need.refusal.text) if need.refusal is not None else "",
            )
        )
    return tuple(made)


def _left_out(config: Config, trace: Trace) -> list[LeftOut]:
    """What DNS named and the plan does not use."""
    out: list[LeftOut] = []
    by_dns = trace.rule is None or trace.rule.to.scheme == "mx"
    mx = trace.mx
    if isinstance(mx, MxAnswer):
        ours = [rank for rank, name in mx.hosts if name == config.hostname.lower()]
        best = min(ours, default=None)
        listed = sorted({(rank, name) for rank, name in mx.hosts if name not in ("", ".")})
        for rank, name in listed:
            if best is not None and rank >= best:
                why = "this host itself" if name == config.hostname.lower() else _BEHIND
                out.append(LeftOut(f"mx {rank} {name}", why))
            elif trace.names and name not in trace.names:
                out.append(LeftOut(f"mx {rank} {name}", f"only the first {route.NAMES_MAX} hosts are looked at"))
    hosts = trace.plan.hosts if isinstance(trace.plan, Remote) else ()
    used = {(host.name, one) for host in hosts for one in host.addresses}
    behind = False  # of a host that is this one
    for name in trace.names:
        found = trace.found.get(name, ())
        if isinstance(found, Exception):
            out.append(LeftOut(name, f"no address: {found}"))
            continue
        out += [
            LeftOut(f"{address} of {name}", _BEHIND if behind else _why_not(config, address, by_dns=by_dns))
            for address in found
            if (name, address) not in used
        ]
        behind = behind or (by_dns and any(route.left_out(address, config) == "own" for address in found))
    return out


def _why_not(config: Config, address: str, *, by_dns: bool) -> str:
    match route.left_out(address, config) if by_dns else "":
        case "own":
            return "this host itself: the mail would loop"
        case "private":
            return "private, see delivery.allow_private_addresses"
        case _:
            return "not used, see source and delivery.prefer; or more than are tried at once"


def _result(
    plan: Plan, members: Sequence[str], stopped: Mapping[str, Reply], pace: Sequence[Pace]
) -> tuple[str, Verdict]:
    left = [one for one in members if one not in stopped]
    if not left:
        return f"would be returned to its sender: {stopped[members[0]]}", "never"
    closed = [one for one in pace if one.wait]
    match plan:
        case Reply():
            if plan.permanent:
                return f"would be returned to its sender: {plan}", "never"
            return f"would wait: {plan}{f' ({plan.cause})' if plan.cause else ''}", "later"
        case Discard():
            return "would be discarded now", "now"
        case Maildir(pattern):
            path = route.mailbox(pattern, left[0])
            if isinstance(path, Reply):
                return f"would be returned to its sender: {path}", "never"
            more = f" and {len(left) - 1} more" if len(left) > 1 else ""
            result = f"to the maildir {path}{more}"
        case Pipe(command):
            result = f"to the program {command[0]}"
        case Remote():
            usable = [host for host in plan.hosts if host.tls.refusal is None]
            if not usable:
                return f"would wait: {plan.hosts[0].tls.refusal}", "later"
            result = f"to {usable[0].relay}"
        case never:
            assert_never(never)
    if closed:
        return f"would wait: {closed[0].what}{f' ({closed[0].why})' if closed[0].why else ''}", "later"
    return f"would be delivered now {result}", "now"
