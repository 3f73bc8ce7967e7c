"""The sites that mail goes to, and what operators suspended."""

from collections.abc import AsyncGenerator, Mapping

from mtad.config import RouteRule
from mtad.control.admin import Admin, Args, Failed, Handler, Row
from mtad.outbound import sitewords
from mtad.outbound.route import rule_for, site_of_route
from mtad.outbound.site import Site
from mtad.outbound.suspensions import SuspensionError, canonical
from mtad.queue import pace
from mtad.queue.sitestore import Suspension
from mtad.queue.store import RetryAt, Selector

DOMAINS_SHOWN = 50
KINDS = ("domain", "site", "user")
OPERATOR = "operator"  # the class of mail that waits because of one


async def site_list(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    queued = await _queued(admin)
    for site in admin.sites.all():
        yield _state(admin, site, queued)


async def site_show(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    site = _site(admin, args["site"])
    one = site.pace
    yield {
        **_state(admin, site, await _queued(admin)),
        "asked": args["site"],
        "cause": one.cause,
        "opened": int(one.opened_at) if one.open else None,
        "probe": int(one.probe_at) if one.open else None,
        "probe_plan": [_pause(wait_s) for wait_s in pace.probe_waits_s(one.blocked)] if one.open else [],
        "seen": one.seen,
        "retry": [_pause(pause_s) for pause_s in admin.sites.schedule_of(site)],
        "hosts": list(site.hosts),
        "domains": sorted(site.domains)[:DOMAINS_SHOWN],
    }


async def site_reset(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    site = _site(admin, args["site"])
    admin.sites.reset(site)
    await admin.sites.save()
    admin.app.wake()
    yield {"site": site.name, "asked": args["site"], "state": sitewords.state(admin.sites, site, admin.clock())}


async def suspend_list(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    for one in admin.sites.suspensions.list():
        yield _suspension(one)


async def suspend_add(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    kind, value = _what(args)
    now, reason = admin.clock(), args["reason"] or ""
    until_at = now + args["for"] if args["for"] is not None else 0.0
    one = Suspension(kind, value, reason, str(admin.caller), now, until_at)
    try:
        await admin.sites.suspensions.add(one)
    except SuspensionError as error:
        raise Failed("BadData", str(error)) from None
    if kind == "user":
        # What waits is put off in one step; what comes, when it is looked at.
        longest_s = admin.sites.longest_wait_s()
        later = now + min(args["for"] or longest_s, longest_s)
        await admin.store.change(Selector(user=value, states=("ready",)), RetryAt(later), now)
    admin.events.suspended(kind, value, until_at, reason)
    yield _suspension(one)


async def suspend_remove(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    kind, value = _what(args)
    one = await admin.sites.suspensions.remove(kind, value)
    if one is None:
        raise Failed("NotFound", f"the {kind} {value} is not suspended; `mtactl suspend list` shows what is")
    now = admin.clock()
    # For a site: all that was put off because of a suspension. What another one is for is put off again.
    what = {"user": Selector(user=value), "domain": Selector(domain=value), "site": Selector(error=OPERATOR)}[kind]
    await admin.store.change(what, RetryAt(now), now)
    admin.events.resumed(kind, value, f"removed by {admin.caller}")
    admin.app.wake()
    yield _suspension(one)


def _what(args: Args) -> tuple[str, str]:
    given = [(kind, str(args[kind])) for kind in KINDS if args[kind] is not None]
    if len(given) != 1:
        raise Failed("Usage", "say what: one of --domain, --site and --user")
    kind, value = given[0]
    try:
        return kind, canonical(kind, value)
    except SuspensionError as error:
        raise Failed("BadData", str(error)) from None


def _site(admin: Admin, name: str) -> Site:
    """The site of that name, or that mail for that domain goes to: as was seen, or as a route of the settings says."""
    sites, domain = admin.sites, name.lower().removesuffix(".")
    site = sites.find(name)
    if (site is None or not site.hosts) and not sites.known(domain) and ":" not in domain:
        rule = rule_for(domain, admin.config)
        site = (sites.named(site_of_route(rule.to)) if isinstance(rule, RouteRule) else None) or site
    if site is None or site.local:
        raise Failed("NotFound", f"nothing is known of a site {name}; `mtactl site list` shows the known ones")
    return site


async def _queued(admin: Admin) -> Mapping[str, int]:
    return {group.key: group.open for group in await admin.store.groups("domain")}


def _state(admin: Admin, site: Site, queued: Mapping[str, int]) -> Row:
    sites, now = admin.sites, admin.clock()
    suspension = sites.suspensions.of("", site.names, "")
    return {
        "site": site.name,
        "state": sitewords.state(sites, site, now),
        "concurrency": sites.room(site, now),
        "ceiling": sites.ceiling(site),
        "running": site.running,
        "queued": sum(queued.get(domain, 0) for domain in site.domains or (site.name,)),
        "rate": sitewords.rate(site),
        "breaker": sitewords.breaker(site, now),
        "warmup": sitewords.warmup(sites, site, now),
        "suspended": sitewords.suspended(suspension) if suspension is not None else "",
    }


def _suspension(one: Suspension) -> Row:
    return {
        "kind": one.kind,
        "value": one.value,
        "reason": one.reason,
        "made_by": one.made_by,
        "created": int(one.made_at),
        "expires": int(one.until_at) if one.until_at else None,
    }


def _pause(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:g}s"


HANDLERS: Mapping[str, Handler] = {
    "site.list": site_list,
    "site.show": site_show,
    "site.reset": site_reset,
    "suspend.list": suspend_list,
    "suspend.add": suspend_add,
    "suspend.remove": suspend_remove,
}
