"""How a site is served now, in words. Pure but for the local time zone."""

import time

from mtad.mail.classify import classify
from mtad.mail.reply import Reply
from mtad.mail.text import clean
from mtad.outbound.site import Site
from mtad.outbound.sites import Sites
from mtad.queue import pace
from mtad.queue.sitestore import Suspension


def state(sites: Sites, site: Site, now: float) -> str:
    """One word: working, untried, suspended, broken, probing, warm-up."""
    closed = sites.closed(site, "", "", now)
    if closed is not None:
        return closed.why
    if site.pace.open:
        return "probing"
    return "working" if site.pace.proven else "untried" if not site.pace.failures else "failing"


def breaker(site: Site, now: float) -> str:
    """ "open since 10:02, 421 x 40, probe at 10:17"; "" when it is closed."""
    one = site.pace
    if not one.open:
        return ""
    code = one.cause[:3] if one.cause[:3].isdigit() else "failed"
    probe = "probe due" if now >= one.probe_at else f"probe at {clock_time(one.probe_at, now)}"
    return f"open since {clock_time(one.opened_at, now)}, {code} x {one.seen}, {probe}"


def listed(site: Site) -> bool:
    """Whether it says that it takes no mail because of a list or a bad reputation."""
    code, _, rest = site.pace.cause.partition(" ")
    status, _, text = rest.partition(" ")
    reply = Reply(int(code), status, text, site.name) if len(code) == 3 and code.isdecimal() else None
    return site.pace.open and reply is not None and classify(reply) == "reputation"


def warmup(sites: Sites, site: Site, now: float) -> str:
    """ "31 of 50 today"; "" without a warm-up."""
    rule = site.rule
    if rule is None or not rule.per_day:
        return ""
    today = pace.today(site.warmup, now)
    return f"{today.sent} of {pace.quota(rule.per_day, rule.growth, today.step)} today"


def rate(site: Site) -> str:
    return str(site.rule.rate) if site.rule is not None and site.rule.rate.count else ""


def suspended(one: Suspension) -> str:
    """ "suspended by uid=0: mail to the domain example.org"."""
    what = {"domain": "mail to the domain", "site": "mail to the site", "user": "mail of the user"}[one.kind]
    return clean(f"suspended by {one.made_by}: {what} {one.value}", 500)


def clock_time(at: float, now: float) -> str:
    """ "10:02", with the day when it is another one. The daemon's local time."""
    there, here = time.localtime(at), time.localtime(now)
    return time.strftime("%H:%M" if there[:3] == here[:3] else "%Y-%m-%d %H:%M", there)
