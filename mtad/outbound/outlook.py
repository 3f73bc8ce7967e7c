"""How the site of a plan is paced now, in words, for an operator who asks."""

from collections.abc import Sequence

from mtad.mail.envelope import Clock
from mtad.outbound.explain import Outlook, Pace
from mtad.outbound.route import Plan, Remote
from mtad.outbound.site import Site
from mtad.outbound.sites import Sites


def outlook(sites: Sites, clock: Clock) -> Outlook:
    def of(domain: str, user: str, plan: Plan) -> Sequence[Pace]:
        now = clock()
        if not isinstance(plan, Remote):
            return _closed(sites, Site(domain, local=True), domain, user, now)
        name = plan.site or domain
        hosts = tuple(dict.fromkeys(host.name for host in plan.hosts if host.name))
        site = sites.named(name) or Site(name, hosts)
        said = _closed(sites, site, domain, user, now)
        if site.pace.open and site.pace.probe_at <= now:
            said.append(Pace(f"the site did not take mail; one mail tries it now. It said last: {site.pace.cause}"))
        room, most = sites.room(site, now), sites.ceiling(site)
        said.append(Pace(_room(site.running, room, most), site.name))
        slot_at = sites.slot_at(site)
        if slot_at > now:
            said.append(Pace("the next mail by its rate", until=slot_at))
        return said

    return of


def _room(running: int, room: int, most: int) -> str:
    """ "one delivery at a time, and up to 20 when it goes on taking mail; none is at work now"."""
    if not room:
        return f"no delivery until it is tried again; {running} at work" if running else "no delivery for now"
    many = "one delivery at a time" if room == 1 else f"up to {room} deliveries at the same time"
    grows = f", and up to {most} when it goes on taking mail" if room < most else ""
    return f"{many}{grows}; {running or 'none'} {'are' if running > 1 else 'is'} at work now"


def _closed(sites: Sites, site: Site, domain: str, user: str, now: float) -> list[Pace]:
    closed = sites.closed(site, domain, user, now)
    return [] if closed is None else [Pace(closed.reply.text, closed.reply.cause, wait=True, until=closed.until)]
