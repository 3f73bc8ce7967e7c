import os
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.config import Address, Config, Delivery, Listen, Local, Paths, RouteRule, Target
from mtad.dns.resolver import DnsTemporary, MxAnswer, NoData, NoSuchName
from mtad.mail.reply import Reply
from mtad.outbound import route
from mtad.outbound.route import Discard, Host, Maildir, Pipe, Remote
from mtad.tls.requirement import Requirement

SMARTHOST = RouteRule("*.lan.test", Target("smtp", "relay.lan.test", 2600, user="u"), "/secret", "verify")
CONFIG = Config(
    "mail.own.test",
    ("own.test",),
    Paths("", "/d", "/r"),
    listen=Listen(smtp=(Address("198.51.100.5", 25), Address("::", 2525))),
    delivery=Delivery(routes=(SMARTHOST,)),
    local=Local(deliver=Target("maildir", path="/m/%d/%u")),
)


def code(plan) -> str:
    assert isinstance(plan, Reply), plan
    return f"{plan.code} {plan.status}"


def test_the_first_matching_rule_then_our_domains_then_mx():
    assert route.rule_for("a.lan.test", CONFIG) is SMARTHOST
    assert route.rule_for("lan.test", CONFIG) is None
    assert route.rule_for("own.test", CONFIG).to == Target("maildir", path="/m/%d/%u")
    assert route.rule_for("sub.own.test", CONFIG) is None
    everything = Config(
        "m", ("own.test",), CONFIG.paths, delivery=Delivery(routes=(RouteRule("*", Target("discard")),))
    )
    assert route.rule_for("own.test", everything).to.scheme == "discard"
    with_mailboxes = replace(everything, local=CONFIG.local)
    assert route.rule_for("own.test", with_mailboxes).to.scheme == "maildir"
    assert route.rule_for("b.test", with_mailboxes).to.scheme == "discard"
    named = replace(with_mailboxes, delivery=Delivery(routes=(RouteRule("own.*", Target("discard")),)))
    assert route.rule_for("own.test", named).to.scheme == "discard"


@pytest.mark.parametrize(
    ("rule", "sender", "user", "holds"),
    [
        ({"senders": ("a@x.test",)}, "A@X.test", "", True),
        ({"senders": ("a@x.test",)}, "b@x.test", "", False),
        ({"senders": ("@x.test",)}, "b@x.test", "", True),
        ({"senders": ("@x.test",)}, "b@sub.x.test", "", False),
        ({"senders": ("@*.x.test",)}, "b@sub.x.test", "", True),
        ({"senders": ("news-*@x.test", "<>")}, "news-7@x.test", "", True),
        ({"senders": ("news-*@x.test", "<>")}, "", "", True),
        ({"senders": ("*",)}, "", "", False),
        ({"senders": ("@x.test",)}, "no address", "", False),
        ({"users": ("alice@own.test",)}, "a@x.test", "Alice@own.test", True),
        ({"users": ("*@own.test",)}, "a@x.test", "bob@own.test", True),
        ({"users": ("*",)}, "a@x.test", "", False),
        ({"users": ("alice@own.test",), "senders": ("@x.test",)}, "a@x.test", "alice@own.test", True),
        ({"users": ("alice@own.test",), "senders": ("@x.test",)}, "a@y.test", "alice@own.test", False),
    ],
)
def test_routes_by_sender_and_user(rule, sender, user, holds):
    narrow = RouteRule("*", Target("discard"), **rule)
    config = replace(CONFIG, delivery=Delivery(routes=(narrow, RouteRule("*.test", Target("reject")))))
    assert (route.rule_for("there.test", config, sender, user) is narrow) is holds
    assert route.rule_for("own.test", config, sender, user) is not narrow  # it stays here


@pytest.mark.parametrize(
    ("prefer", "source", "order"),
    [
        ("ipv4", (), ["1.1.1.1", "::1", "2.2.2.2"]),
        ("ipv6", (), ["::1", "1.1.1.1", "2.2.2.2"]),
        ("ipv4-only", (), ["1.1.1.1", "2.2.2.2"]),
        ("ipv6-only", (), ["::1"]),
        ("ipv4", ("192.0.2.1",), ["1.1.1.1", "2.2.2.2"]),
        ("ipv4", ("2001:db8::1",), ["::1"]),
        ("ipv4", ("2001:db8::1", "192.0.2.1"), ["1.1.1.1", "::1", "2.2.2.2"]),
        ("ipv4-only", ("2001:db8::1",), []),
    ],
)
def test_order_of_addresses(prefer, source, order):
    config = replace(CONFIG, delivery=Delivery(prefer=prefer))
    assert route.in_order(["1.1.1.1", "2.2.2.2", "::1"], config, source) == order


def test_a_source_goes_with_the_plan_and_none_of_its_kind_is_temporary():
    config = replace(CONFIG, delivery=Delivery(source=("192.0.2.1",)))
    assert route.by_mx(("a",), {"a": ("8.8.8.8", "2606:4700::1")}, config) == Remote(
        (Host("a", "8.8.8.8", 25),), source=("192.0.2.1",)
    )
    assert code(route.by_mx(("a",), {"a": ("2606:4700::1",)}, config)) == "451 4.4.4"
    by_dns = RouteRule("*", Target("mx"), tls="verify", source=("2001:db8::1",))
    assert route.by_mx(("a",), {"a": ("8.8.8.8", "2606:4700::1")}, config, by_dns) == Remote(
        (Host("a", "2606:4700::1", 25, Requirement("verify")),), source=("2001:db8::1",)
    )
    smarthost = RouteRule("*", Target("smtp", "h"), source=("192.0.2.1",))
    assert code(route.by_rule(smarthost, ("::1",), config)) == "451 4.4.4"


def test_our_domain_without_local_delivery_waits_for_the_operator():
    assert code(route.rule_for("own.test", Config("m", ("own.test",), CONFIG.paths))) == "451 4.3.5"


@pytest.mark.parametrize(
    ("target", "found", "plan"),
    [
        (Target("discard"), (), Discard()),
        (Target("maildir", path="/m/%u"), (), Maildir("/m/%u")),
        (Target("pipe"), (), Pipe(())),
        (Target("lmtp", path="/run/l"), (), Remote((Host("", "/run/l", 0),), "lmtp", site="/run/l")),
        (Target("lmtp", "h"), ("127.0.0.1",), Remote((Host("h", "127.0.0.1", 24),), "lmtp", site="h:24")),
        (
            Target("smtp", "h", 26),
            ("10.0.0.1", "::1"),
            Remote((Host("h", "10.0.0.1", 26, others=("::1",)),), site="h:26"),
        ),
        (
            Target("smtps", "h", user="u"),
            ("10.0.0.1",),
            Remote((Host("h", "10.0.0.1", 465),), "smtps", user="u", site="h:465"),
        ),
    ],
)
def test_targets(target, found, plan):
    assert route.by_rule(RouteRule("*", target), found, CONFIG) == plan


def test_reject_and_a_host_that_is_not_found():
    assert code(route.by_rule(RouteRule("*", Target("reject", text="No.")), (), CONFIG)) == "550 5.7.1"
    assert route.by_rule(RouteRule("*", Target("reject", text="No.")), (), CONFIG).text == "No."
    for found in (NoSuchName("h"), DnsTemporary("h"), ()):
        assert code(route.by_rule(SMARTHOST, found, CONFIG)) == "451 4.4.4"


def test_tls_credentials_come_along():
    plan = route.by_rule(SMARTHOST, ("192.0.2.1",), CONFIG)
    assert (plan.hosts[0].tls.level, plan.user, plan.password_file) == ("verify", "u", "/secret")


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (Target("smtp", "h"), "h"),
        (Target("lmtp", "h"), "h"),
        (Target("lmtp", path="/s"), ""),
        (Target("discard"), ""),
    ],
)
def test_what_must_be_looked_up(target, name):
    assert route.lookup(target) == name


# --- MX


def names(hosts, rng=None, config=CONFIG):
    return route.names("y.test", MxAnswer(tuple(hosts)), config, rng or random.Random(1))


@pytest.mark.parametrize(
    ("mx", "expected"),
    [
        (NoData("y"), ("y.test",)),
        (MxAnswer(()), ("y.test",)),
        (NoSuchName("y"), "550 5.1.2"),
        (DnsTemporary("y"), "451 4.4.3"),
        (RuntimeError("y"), "451 4.4.3"),
        (MxAnswer(((0, ""),)), "556 5.1.10"),
        (MxAnswer(((0, "."),)), "556 5.1.10"),
        (MxAnswer(((20, "b"), (10, "a"), (20, ""))), ("a", "b")),
        (MxAnswer(((10, "a"), (20, "a"))), ("a",)),
        (MxAnswer(((10, "mail.own.test"),)), "554 5.4.6"),
        (MxAnswer(((5, "a"), (10, "mail.own.test"), (10, "b"), (20, "c"))), ("a",)),
    ],
)
def test_mx(mx, expected):
    found = route.names("y.test", mx, CONFIG, random.Random(1))
    assert (code(found) if isinstance(expected, str) else found) == expected


def test_equal_preferences_share_the_load():
    firsts = {names([(10, "a"), (10, "b"), (10, "c"), (20, "d")], random.Random(seed))[0] for seed in range(50)}
    assert firsts == {"a", "b", "c"}


def test_many_mx_are_bounded():
    assert len(names([(i, f"h{i}") for i in range(200)])) == route.NAMES_MAX


def test_hosts_keep_the_order_of_their_names():
    plan = route.by_mx(("b", "a"), {"a": ("8.8.8.8",), "b": ("1.1.1.1", "2606:4700::1")}, CONFIG)
    assert plan == Remote((Host("b", "1.1.1.1", 25, others=("2606:4700::1",)), Host("a", "8.8.8.8", 25)))


def test_many_addresses_are_bounded():
    found = {
        "a": tuple(f"8.8.8.{n}" for n in range(7)),
        "b": tuple(f"9.9.9.{n}" for n in range(200)),
        "c": ("1.1.1.1",),
    }
    plan = route.by_mx(("a", "b", "c"), found, CONFIG)
    assert [len(host.addresses) for host in plan.hosts] == [7, route.ADDRESSES_MAX - 8, 1]
    one_each = {f"h{n}": tuple(f"8.8.{n}.{m}" for m in range(9)) for n in range(route.NAMES_MAX)}
    assert [len(host.addresses) for host in route.by_mx(tuple(one_each), one_each, CONFIG).hosts] == [1] * 10


def test_what_is_left_of_a_host():
    host = Host("a", "8.8.8.8", 25, others=("9.9.9.9", "::1"))
    assert host.without("9.9.9.9") == Host("a", "8.8.8.8", 25, others=("::1",))
    assert host.without("8.8.8.8") == Host("a", "9.9.9.9", 25, others=("::1",))
    assert host.at("::1") == Host("a", "::1", 25)
    assert host.at("::1").without("::1") is None


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"a": NoSuchName("a")}, "550 5.4.4"),
        ({"a": NoData("a")}, "550 5.4.4"),
        ({"a": DnsTemporary("a")}, "451 4.4.4"),
        ({"a": NoData("a"), "b": DnsTemporary("b")}, "451 4.4.4"),
        ({"a": ("10.0.0.1",)}, "550 5.4.4"),
        ({"a": ("10.0.0.1",), "b": DnsTemporary("b")}, "451 4.4.4"),
        ({"a": ("198.51.100.5",)}, "554 5.4.6"),
        ({"a": ("198.51.100.5",), "b": ("8.8.8.8",)}, "554 5.4.6"),  # the lesser host would give it back to us
        ({"a": DnsTemporary("a"), "b": ("198.51.100.5",)}, "451 4.4.4"),
    ],
)
def test_no_way(found, expected):
    assert code(route.by_mx(tuple(found), found, CONFIG)) == expected


def test_one_good_address_is_enough():
    found = {"a": DnsTemporary("a"), "b": ("127.0.0.1", "8.8.8.8")}
    assert route.by_mx(("a", "b"), found, CONFIG) == Remote((Host("b", "8.8.8.8", 25),))


def test_private_addresses_when_allowed():
    config = Config("m", (), CONFIG.paths, delivery=Delivery(port=26, allow_private_addresses=True))
    assert route.by_mx(("a",), {"a": ("127.0.0.1",)}, config) == Remote((Host("a", "127.0.0.1", 26),))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "224.0.0.1",
        "240.0.0.1", "255.255.255.255", "::1", "::", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "fe80::1",
        "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1", "2002:7f00:1::", "2002:0a00:1::1", "64:ff9b::7f00:1", "what",
    ],
)  # fmt: skip
def test_not_public(address):
    assert not route.public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public(address):
    assert route.public(address)


@pytest.mark.parametrize(
    ("host", "addresses"),
    [
        ("192.0.2.1", ("192.0.2.1",)),
        ("[192.0.2.1]", ("192.0.2.1",)),
        ("[IPv6:2001:db8::1]", ("2001:db8::1",)),
        ("2001:db8::1", ("2001:db8::1",)),
        ("localhost", ("127.0.0.1", "::1")),
        ("mx.test", ()),
        ("[mx.test]", ()),
        ("", ()),
    ],
)
def test_literals(host, addresses):
    assert route.literal(host) == addresses


def test_our_own_listeners():
    assert route.listens(CONFIG, "198.51.100.5", 25)
    assert not route.listens(CONFIG, "198.51.100.5", 26)
    assert not route.listens(CONFIG, "203.0.113.1", 2525)
    assert route.listens(CONFIG, "203.0.113.1", 2525, anywhere=True)


def test_relay_as_the_log_shows_it():
    assert Host("mx.test", "192.0.2.1", 25).relay == "mx.test[192.0.2.1]:25"
    assert Host("", "/run/l.sock", 0).relay == "lmtp:/run/l.sock"


# --- maildir paths


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("alice@own.test", "/m/own.test/alice"),
        ("Alice@own.test", "/m/own.test/alice"),
        ("al+ice@own.test", "/m/own.test/al+ice"),
        ("a.b@own.test", "/m/own.test/a.b"),
        ("../x@own.test", "/m/own.test/%2E.%2Fx"),
        ("..@own.test", "/m/own.test/%2E."),
        (".@own.test", "/m/own.test/%2E"),
        ("/etc/x@own.test", "/m/own.test/%2Fetc%2Fx"),
        ("a\0b@own.test", "/m/own.test/a%00b"),
        ('"a b"@own.test', "/m/own.test/%22a%20b%22"),
        ("a%2eb@own.test", "/m/own.test/a%252eb"),
        ("\u00e4@own.test", "/m/own.test/%C3%A4"),
    ],
)
def test_mailbox(address, path):
    assert route.mailbox("/m/%d/%u", address) == path


@pytest.mark.parametrize("address", ["@own.test", "x" * 300 + "@own.test", "a@", "\u00e4" * 100 + "@own.test"])
def test_no_mailbox(address):
    assert code(route.mailbox("/m/%d/%u", address)) == "550 5.1.1"


def test_a_pattern_without_signs():
    assert route.mailbox("/m/all", "a@b") == "/m/all"


@given(st.text(max_size=80), st.text(max_size=40))
def test_nothing_climbs_out(local, domain):
    path = route.mailbox("/m/%d/%u", f"{local}@{domain}")
    if isinstance(path, str):
        parts = path.split("/")
        assert os.path.normpath(path) == path
        assert len(parts) == 4
        assert parts[:2] == ["", "m"]
        assert "\0" not in path


@given(st.text(max_size=20), st.text(max_size=20))
def test_two_users_never_share_a_mailbox(a, b):
    one, other = (route.mailbox("/m/%u", f"{local}@own.test") for local in (a, b))
    if isinstance(one, str) and one == other:
        assert a.lower() == b.lower()
