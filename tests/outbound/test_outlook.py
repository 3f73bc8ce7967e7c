"""The pace of a site in words."""

import random
from dataclasses import replace

import pytest

from mtad.config import Config, Delivery, Paths
from mtad.events import Events
from mtad.mail.reply import Reply
from mtad.outbound.outlook import outlook
from mtad.outbound.route import Host, Maildir, Remote
from mtad.outbound.sites import Sites
from mtad.outbound.suspensions import Suspensions
from mtad.queue.sitestore import Suspension

NOW = 1_800_000_000.0
PLAN = Remote((Host("mx.far.test", "8.8.8.8", 25),), site="mx.far.test")


class Shelf:
    async def save_suspension(self, one):
        pass


@pytest.fixture
def sites():
    config = Config("m.test", ("own.test",), Paths("", "", ""), delivery=Delivery(max_per_domain=20))
    events = Events(lambda: NOW, lambda line: None)
    return Sites(config, Shelf(), Suspensions(Shelf(), lambda: NOW), events, lambda: NOW, random.Random(1))


def test_a_site_of_which_nothing_is_known(sites):
    [pace] = outlook(sites, lambda: NOW)("far.test", "", PLAN)
    assert pace.what == "one delivery at a time, and up to 20 when it goes on taking mail; none is at work now"
    assert (pace.why, pace.wait) == ("mx.far.test", False)
    assert outlook(sites, lambda: NOW)("own.test", "", Maildir("/m/%u")) == []
    assert sites.all() == []


async def test_suspended(sites):
    await sites.suspensions.add(Suspension("domain", "far.test", "they move", "uid=0", NOW, NOW + 60))
    for plan in (PLAN, Reply(451, "4.4.3", "DNS"), Maildir("/m")):
        first = outlook(sites, lambda: NOW)("far.test", "", plan)[0]
        assert (first.wait, first.until) == (True, NOW + 60)
        assert "they move" in first.what
    assert not outlook(sites, lambda: NOW)("other.test", "", replace(PLAN, site="other"))[0].wait


def test_broken(sites):
    site = sites.learn("far.test", "mx.far.test", ("mx.far.test",))
    for _ in range(5):
        sites.begin(site, NOW)
        sites.end(site, [Reply(421, "4.7.0", "Try again later, too many messages", "mx.far.test", "mail")], NOW)
    first = outlook(sites, lambda: NOW)("far.test", "", PLAN)[0]
    assert first.wait
    assert first.until > NOW
    assert "too many messages" in first.what
    later = outlook(sites, lambda: first.until + 1)("far.test", "", PLAN)
    assert not any(pace.wait for pace in later)
    assert "one mail tries it now" in later[0].what
