"""mtad.toml and variables -> the tree, or all problems."""

import contextlib
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.config import Address, Config, ConfigErrors, Rate, SiteRule, Target, describe, load, locate
from mtad.config import keys as table

MINIMAL = 'hostname = "mail.example.test"\ndomains = ["example.test"]\n'
USER = 12345  # no account of that number is needed


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Config]:
    def call(text: str = MINIMAL, **environ: str) -> Config:
        (tmp_path / "mtad.toml").write_text(text)
        return load(str(tmp_path), environ=environ, uid=USER, clock=lambda: 1_700_000_000.0)

    return call


def problems(call: Callable[..., Config], *args: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        call(*args, **environ)
    return [str(error) for error in caught.value.errors]


def test_minimal_under_a_root(read: Callable[..., Config], tmp_path: Path) -> None:
    config = read()
    root = str(tmp_path)
    assert (config.hostname, config.domains) == ("mail.example.test", ("example.test",))
    assert (config.paths.config, config.paths.data, config.paths.run) == (
        f"{root}/mtad.toml", f"{root}/data", f"{root}/run",
    )  # fmt: skip
    assert config.local.deliver == Target("maildir", path=f"{root}/data/mailboxes/%d/%u")
    assert config.local.aliases == (f"{root}/aliases",)
    assert config.listen.smtp == (Address("127.0.0.1", 2525),)
    # No certificate, and nobody asked for these: off, with a word about it.
    assert config.listen.submission == config.listen.submissions == ()
    assert [warning.partition(":")[0] for warning in config.warnings] == ["listen.submission", "listen.submissions"]


def test_the_documented_example(read: Callable[..., Config]) -> None:
    config = read(
        MINIMAL
        + """
        [listen]
        smtp = ["127.0.0.1:2525", "[::1]:2525"]
        http = "127.0.0.1:8080"
        [access]
        trusted_networks = ["127.0.0.0/8", "::1"]
        [dns]
        servers = ["127.0.0.1:5353", "[::1]"]
        [delivery]
        retry = ["5m", "90s", "2h", "3d"]
        expire = "5d"
        delay_warning = 0
        [[delivery.route]]
        match = "*.lan.test"
        to = "smtp://127.0.0.1:2600"
        [[delivery.route]]
        match = "lists.test"
        to = "lmtp:///run/lists/lmtp.sock"
        [[delivery.route]]
        match = "old.test"
        to = "reject: moved away"
        [[delivery.route]]
        match = "*"
        to = "smtps://[2001:db8::1]"
        tls = "verify"
        [local]
        deliver = "maildir:///var/mail/%d/%u"
        [limits]
        message_size = "50M"
        """
    )
    assert config.listen.smtp == (Address("127.0.0.1", 2525), Address("::1", 2525))
    assert config.listen.http == Address("127.0.0.1", 8080)
    assert config.access.trusted_networks == ("127.0.0.0/8", "::1/128")
    assert config.dns.servers == (Address("127.0.0.1", 5353), Address("::1", 53))
    assert config.delivery.retry_s == (300.0, 90.0, 7200.0, 259200.0)
    assert config.delivery.delay_warning_s == 0
    assert [(rule.match, rule.to, rule.tls) for rule in config.delivery.routes] == [
        ("*.lan.test", Target("smtp", host="127.0.0.1", port=2600), "may"),
        ("lists.test", Target("lmtp", path="/run/lists/lmtp.sock"), "may"),
        ("old.test", Target("reject", text="moved away"), "may"),
        ("*", Target("smtps", host="2001:db8::1", port=465), "verify"),
    ]
    assert config.local.deliver == Target("maildir", path="/var/mail/%d/%u")
    assert config.limits.message_size_bytes == 50 * 1024 * 1024
    assert config.warnings == ()


def test_the_defaults_of_table_and_tree_are_the_same(read: Callable[..., Config]) -> None:
    plain = read()
    lines: dict[str, list[str]] = {}
    for key in table.KEYS:
        if not key.default.startswith("("):
            lines.setdefault(key.section, []).append(f"{key.name} = {key.default}")
    for section in table.REPEATED:
        lines.pop(section, None)
    explicit = MINIMAL + "\n".join(line for section, body in lines.items() for line in (f"[{section}]", *body))
    assert tomllib.loads(explicit)["limits"]["errors"] == 20
    assert read(explicit) == plain


def test_every_key_is_described_and_lands_in_the_tree() -> None:
    rows = describe()
    assert len({key for key, *_ in rows}) == len(rows) == len(table.KEYS)
    assert all(kind and default and text.endswith(".") for _, kind, default, text in rows)
    assert {key.section for key in table.KEYS} == set(table.SECTIONS)


def test_all_problems_come_at_once_with_key_and_hint(read: Callable[..., Config]) -> None:
    found = problems(
        read,
        """
        hostnme = "x"
        domains = ["a b"]
        retry = ["1m"]
        [listen]
        smtp = ["::1:25"]
        submission = ["127.0.0.1:2587"]
        [acess]
        [access]
        admin_token = "<generate a token>"
        trusted_networks = ["10.0.0.1/8"]
        [tls]
        cert = "nope.pem"
        key = "nope.key"
        [dns]
        timeout = "fast"
        [delivery]
        retry = []
        workers = "many"
        expire = "5"
        [[delivery.route]]
        to = "smtp://bob:geheim@relay.test:587"
        [[delivery.route]]
        match = "*"
        to = "smtp://bob@relay.test:587"
        password_file = "missing"
        [local]
        catch_all = "nobody"
        delimiter = "++"
        deliver = "maildir://relative"
        """,
    )
    text = "\n".join(found)
    for wanted in (
        r"^hostnme: unknown key \(did you mean hostname\?\)",
        r"^domains: 'a b'",
        r"^retry: unknown key \(it belongs to \[delivery\]\)",
        r"^listen.smtp: .*brackets",
        r"^acess: unknown key \(did you mean access\?\)",
        r"^access.admin_token: is a placeholder",
        r"^access.trusted_networks: .*10\.0\.0\.0/8",
        r"^tls.cert: .*nope.pem cannot be read: No such file",
        r"^tls.key: .*nope.key cannot be read: No such file",
        r"^dns.timeout: 'fast' is no time",
        r"^delivery.retry: is empty",
        r"^delivery.workers: 'many'",
        r"^delivery.expire: '5' is no time",
        r"^delivery.route\[1\].to: a password does not belong here",
        r"^delivery.route\[1\].match: is missing",
        r"^local.catch_all: 'nobody'",
        r"^local.delimiter: ",
        r"^local.deliver: a maildir needs an absolute path",
        r"^hostname: is missing",
    ):
        assert re.search(wanted, text, re.MULTILINE), f"{wanted}\nnot in\n{text}"
    assert "geheim" not in text


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('hostname = "a.test\n', r"is not TOML: .*line 1"),
        (MINIMAL + "\n\nx = \n", r"is not TOML: .*line 5"),
        (MINIMAL + "domains = []\n", r"is not TOML: Cannot overwrite .*\(each key and each \[section\] once\)"),
        ("listen = 3\n" + MINIMAL, r"^listen: is a section"),
        (MINIMAL + "[delivery]\nroute = 3\n", r"^delivery.route: is not a list of tables"),
        (MINIMAL.replace("mail.example.test", "192.0.2.1"), r"^hostname: .*IP address"),
        (MINIMAL.replace("mail.example.test", "mail_x.example.test"), r"^hostname: .*no domain name"),
        (MINIMAL.replace('["example.test"]', "[]"), r"^domains: is empty"),
        (MINIMAL.replace('["example.test"]', '"example.test"') + "x = 1", r"^x: unknown key"),
        (MINIMAL + '[listen]\nsubmissions = ["127.0.0.1:465"]\n', r"^listen.submissions: needs a certificate .*cert"),
        (MINIMAL + '[listen]\nsmtp = ["127.0.0.1:25", "127.0.0.1:25"]\n', r"^listen.smtp: .* is taken"),
        (MINIMAL + '[listen]\nhttp = "0.0.0.0:80"\n', r"^listen.http: is open to the network"),
        (MINIMAL + '[tls]\ncert = "x.pem"\n', r"^tls.key: is missing"),
        (MINIMAL + '[access]\nadmin_token = "short"\n', r"^access.admin_token: is shorter"),
        (MINIMAL + "[delivery]\nretry = [5]\n", r"^delivery.retry: a number where a time is expected .*\"90s\""),
        (MINIMAL + "[delivery]\nretry = [\"0s\"]\n", r"^delivery.retry: must be more than 0"),
        (MINIMAL + "[delivery]\nport = 70000\n", r"^delivery.port: 70000 is not a port"),
        (MINIMAL + "[delivery]\nworkers = true\n", r"^delivery.workers: true or false where a whole number"),
        (MINIMAL + '[limits]\nmessage_size = "big"\n', r"^limits.message_size: 'big' is no size"),
        (MINIMAL + '[local]\naliases = ["none"]\n', r"^local.aliases: .*/none does not exist"),
        (MINIMAL + '[dns]\nservers = ["ns.test"]\n', r"^dns.servers: .*is a name"),
        (MINIMAL + '[[delivery.route]]\nmatch="*"\nto="ftp://x"\n', r"^delivery.route\[1\].to: .* is no target"),
        (MINIMAL + '[[delivery.route]]\nmatch="*"\nto="maildir:///m/%x"\n', r"route\[1\].to: .*unknown sign '%x'"),
        (MINIMAL + '[local]\ndeliver="maildir:///m/%u%"\n', r"^local.deliver: .*unknown sign '%'"),
        (MINIMAL + '[[delivery.route]]\nmatch="*"\nto="smtp://u@r.test"\n', r"route\[1\].password_file: is missing"),
        (MINIMAL + '[[delivery.route]]\nmatch="*"\nto="discard:"\ntlss="may"\n', r"route\[1\].tlss: .*mean tls"),
    ],
)  # fmt: skip
def test_one_wrong_thing(read: Callable[..., Config], text: str, wanted: str) -> None:
    found = problems(read, text)
    assert re.search(wanted, "\n".join(found), re.MULTILINE), found


def test_percent_signs_in_patterns(tmp_path: Path) -> None:
    root = tmp_path / "100%d"
    root.mkdir()
    (root / "mtad.toml").write_text(MINIMAL)
    plain = load(str(root), environ={}, uid=USER).local.deliver
    assert plain == Target("maildir", path=f"{tmp_path}/100%%d/data/mailboxes/%d/%u")
    (root / "mtad.toml").write_text(MINIMAL + '[local]\ndeliver = "maildir:///m/%%x/%dab/%u/"\n')
    assert load(str(root), environ={}, uid=USER).local.deliver == Target("maildir", path="/m/%%x/%dab/%u")


def test_secrets_are_not_printed(read: Callable[..., Config]) -> None:
    assert "0123456789abcdef" not in repr(read(MTA_ADMIN_TOKEN="0123456789abcdef"))


def test_what_is_told_is_fit_for_a_terminal(read: Callable[..., Config]) -> None:
    found = problems(read, MINIMAL + '"\\u001b[31mkey" = 1\n[dns]\n"\\u202e" = 2\n')
    assert [error.partition(":")[0] for error in found] == ["\\x1b[31mkey", "dns.\\u202e"]
    [long] = problems(read, MINIMAL + f'[dns]\ntimeout = "{"x" * 10_000}"\n')
    assert len(long) < 1000


def test_an_unreadable_file_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "mtad.toml").mkdir()
    assert problems(lambda: load(str(tmp_path), environ={}, uid=USER)) == [
        f"{tmp_path}/mtad.toml: cannot be read: Is a directory"
    ]
    [missing] = problems(lambda: load(str(tmp_path / "other"), environ={}, uid=USER))
    assert missing.endswith(
        f"does not exist (make one: mtactl --root {tmp_path}/other init --hostname HOST --domain DOMAIN)"
    )
    [missing] = problems(lambda: load("", str(tmp_path / "other"), {}, USER))
    assert missing.endswith("does not exist (make one: mtactl init --hostname HOST --domain DOMAIN)")
    (tmp_path / "latin.toml").write_bytes(b'hostname = "a.test"\n# \xe4\n')
    assert problems(lambda: load("", str(tmp_path / "latin.toml"), {}, USER)) == [
        f"{tmp_path}/latin.toml: is not UTF-8 (line 2)"
    ]


def test_variables_override_the_file(read: Callable[..., Config], tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("0123456789abcdef0123\n")
    config = read(
        MTA_HOSTNAME="mx.example.org",
        MTA_DOMAIN="example.org, example.net",
        MTA_ADMIN_TOKEN_FILE=str(secret),
        MTA_DELIVERY_WORKERS="7",
        MTA_MAX_CONNECTIONS_GLOBAL="5000",
        MTA_MAX_CONN_PER_DOMAIN="3",
        MTA_DELIVERY_INTERVAL="2",
        MTA_LOG_LEVEL="debug",
        MTA_FAULT="",
        MTA_HOSTNMAE="x",
    )
    assert (config.hostname, config.domains) == ("mx.example.org", ("example.org", "example.net"))
    assert config.access.admin_token == "0123456789abcdef0123"
    assert (config.delivery.workers, config.delivery.max_per_domain, config.delivery.interval_s) == (7, 3, 2.0)
    assert config.limits.connections == 5000
    assert config.warnings[0] == "MTA_HOSTNMAE: unknown variable, ignored (did you mean MTA_HOSTNAME?)"
    assert not any("LOG" in warning or "FAULT" in warning for warning in config.warnings)


def test_variables_are_judged_too(read: Callable[..., Config], tmp_path: Path) -> None:
    found = problems(
        read,
        "",
        MTA_HOSTNAME="a b",
        MTA_DOMAIN="x.test",
        MTA_DOMAIN_FILE="/also",
        MTA_DELIVERY_WORKERS="lots",
        MTA_ADMIN_TOKEN_FILE=str(tmp_path / "none"),
    )
    assert {error.partition(":")[0] for error in found} == {
        "MTA_HOSTNAME", "MTA_DOMAIN", "MTA_DELIVERY_WORKERS", "MTA_ADMIN_TOKEN_FILE",
    }  # fmt: skip


def test_variables_alone_suffice(tmp_path: Path) -> None:
    config = load(str(tmp_path), environ={"MTA_HOSTNAME": "mx.example.org", "MTA_DOMAIN": "example.org"}, uid=USER)
    assert config.domains == ("example.org",)


def test_systemd_credentials_hold_the_token(read: Callable[..., Config], tmp_path: Path) -> None:
    (tmp_path / "admin_token").write_text("f" * 32 + "\n")
    assert read(CREDENTIALS_DIRECTORY=str(tmp_path)).access.admin_token == "f" * 32
    assert read(CREDENTIALS_DIRECTORY=str(tmp_path), MTA_ADMIN_TOKEN="e" * 32).access.admin_token == "e" * 32


@pytest.mark.parametrize(
    ("root", "config", "environ", "uid", "wanted"),
    [
        ("", "", {}, 0, ("/etc/mtad/mtad.toml", "/var/lib/mtad", "/run/mtad")),
        ("/r", "", {"MTA_ROOT": "/x"}, 0, ("/r/mtad.toml", "/r/data", "/r/run")),
        ("", "", {"MTA_ROOT": "/x"}, 0, ("/x/mtad.toml", "/x/data", "/x/run")),
        ("", "/c.toml", {"MTA_CONFIG": "/d.toml"}, 0, ("/c.toml", "/var/lib/mtad", "/run/mtad")),
        ("", "", {"MTA_CONFIG": "/d.toml", "MTA_ROOT": "/x"}, USER, ("/d.toml", "/x/data", "/x/run")),
        (
            "", "", {"HOME": "/home/u"}, USER,
            ("/home/u/.config/mtad/mtad.toml", "/home/u/.local/state/mtad", "/home/u/.local/state/mtad/run"),
        ),
        (
            "", "", {"XDG_CONFIG_HOME": "/c", "XDG_STATE_HOME": "/s", "XDG_RUNTIME_DIR": "/run/u"}, USER,
            ("/c/mtad/mtad.toml", "/s/mtad", "/run/u/mtad"),
        ),
    ],
)  # fmt: skip
def test_places(root: str, config: str, environ: dict[str, str], uid: int, wanted: tuple[str, str, str]) -> None:
    paths = locate(root, config, environ, uid).paths
    assert (paths.config, paths.data, paths.run) == wanted


def test_the_service_listens_on_the_well_known_ports(tmp_path: Path) -> None:
    (tmp_path / "mtad.toml").write_text(MINIMAL)
    config = load("", str(tmp_path / "mtad.toml"), {}, 0)
    assert config.listen.smtp == (Address("0.0.0.0", 25), Address("::", 25))
    assert config.local.aliases == ("/etc/aliases",)


def test_naming_one_mail_listener_turns_the_others_off(read: Callable[..., Config]) -> None:
    assert read(MINIMAL + '[listen]\nsmtp = ["127.0.0.1:0"]\n').listen.smtp == (Address("127.0.0.1", 0),)
    only_http = read(MINIMAL + '[listen]\nhttp = "127.0.0.1:8080"\n').listen
    assert (only_http.smtp, only_http.http) == ((Address("127.0.0.1", 2525),), Address("127.0.0.1", 8080))
    off = read(MINIMAL + "[listen]\nsmtp = []\n")
    assert off.listen.smtp == ()
    assert off.warnings == ()


def test_a_root_too_deep_for_sockets(tmp_path: Path) -> None:
    root = tmp_path / ("d" * 100)
    root.mkdir()
    (root / "mtad.toml").write_text(MINIMAL)
    [error] = problems(lambda: load(str(root), environ={}, uid=USER))
    assert "too long for a socket" in error


def test_a_smarthost_with_a_user_must_prove_its_name(read: Callable[..., Config], tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("geheim\n")
    (tmp_path / "pw").chmod(0o600)
    route = MINIMAL + '[listen]\nsmtp=[]\n[[delivery.route]]\nmatch = "*"\npassword_file = "pw"\n'
    rule = read(route + 'to = "smtp://u%40example.org@relay.test:587"\n').delivery.routes[0]
    assert (rule.to.user, rule.tls, rule.password_file) == ("u@example.org", "verify", f"{tmp_path}/pw")
    assert read(route + 'to = "smtp://u@127.0.0.1:2600"\n').delivery.routes[0].tls == "may"
    [error] = problems(read, route + 'to = "smtp://u@relay.test:587"\ntls = "may"\n')
    assert "would send the password unencrypted" in error
    (tmp_path / "pw").chmod(0o644)
    assert "open to everybody" in read(route + 'to = "smtp://u@relay.test"\n').warnings[0]


TOML_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(key=st.sampled_from(table.KEYS), value=TOML_VALUES)
def test_no_value_breaks_a_parser(key: table.Key, value: object) -> None:
    from mtad.config.parse import BadValue

    with contextlib.suppress(BadValue):
        hash(key.parse(value))  # the tree is frozen through and through


@given(octets=st.binary(max_size=200))
def test_no_file_breaks_the_loader(tmp_path_factory: pytest.TempPathFactory, octets: bytes) -> None:
    root = tmp_path_factory.getbasetemp()
    (root / "garbage.toml").write_bytes(octets)
    with pytest.raises(ConfigErrors):
        load("", str(root / "garbage.toml"), {}, USER)


@pytest.mark.parametrize(("value", "octets"), [("0", 0), ("998", 998), ('"1M"', 1 << 20), ("2048", 2048)])
def test_line_length(read: Callable[..., Config], value: str, octets: int) -> None:
    assert read(f"{MINIMAL}[limits]\nline_length = {value}\n").limits.line_length_bytes == octets


@pytest.mark.parametrize("value", ["997", "-1", '"x"', "true"])
def test_a_line_length_that_would_refuse_any_mail(read: Callable[..., Config], value: str) -> None:
    assert problems(read, f"{MINIMAL}[limits]\nline_length = {value}\n")


def test_fewer_recipients_than_every_sender_may_count_on_are_odd(read: Callable[..., Config]) -> None:
    assert any("limits.recipients" in warning for warning in read(f"{MINIMAL}[limits]\nrecipients = 99\n").warnings)
    assert not any(
        "limits.recipients" in warning for warning in read(f"{MINIMAL}[limits]\nrecipients = 100\n").warnings
    )


def test_routes_by_sender_user_source_and_program(read: Callable[..., Config]) -> None:
    config = read(
        MINIMAL
        + """
        [delivery]
        source = ["192.0.2.7"]
        [[delivery.route]]
        match = "*"
        from = ["Alice@Example.test", "@News.example.test", "bounce-*@*", "<>"]
        user = ["Bob@example.test"]
        to = "mx:"
        source = ["2001:DB8::7", "192.0.2.8"]
        [[delivery.route]]
        match = "lists.example.test"
        to = "pipe:"
        command = ["/bin/cat", "--for", "%u@%d"]
        run_as = "list:list"
        [[delivery.route]]
        match = "old.example.test"
        to = "maildir:///var/old/%u"
        quota = "100M"
        [local]
        quota = "1G"
        """
    )
    by_sender, program, files = config.delivery.routes
    assert by_sender.senders == ("alice@example.test", "@news.example.test", "bounce-*@*", "<>")
    assert by_sender.users == ("bob@example.test",)
    assert (by_sender.to.scheme, by_sender.source) == ("mx", ("2001:db8::7", "192.0.2.8"))
    assert (program.command, program.run_as) == (("/bin/cat", "--for", "%u@%d"), "list:list")
    assert (files.quota_bytes, config.local.quota_bytes) == (100 << 20, 1 << 30)
    assert config.delivery.source == ("192.0.2.7",)


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ('to = "pipe:"', "command"),
        ('to = "pipe:cat"', "to"),
        ('to = "pipe:"\ncommand = ["cat"]', "command"),
        ('to = "pipe:"\ncommand = ["/bin/%u"]', "command"),
        ('to = "pipe:"\ncommand = ["/bin/cat", "%x"]', "command"),
        ('to = "mx:"\ncommand = ["/bin/cat"]', "command"),
        ('to = "mx:"\nrun_as = "nobody"', "run_as"),
        ('to = "mx:"\nquota = "1M"', "quota"),
        ('to = "mx:"\nsource = ["a.test"]', "source"),
        ('to = "mx:"\nsource = ["192.0.2.1", "192.0.2.2"]', "source"),
        ('to = "discard:"\nsource = ["192.0.2.1"]', "source"),
        ('to = "mx:"\nfrom = ["nobody"]', "from"),
        ('to = "mx:"\nuser = [""]', "user"),
    ],
)
def test_bad_routes_are_named(read: Callable[..., Config], lines: str, key: str) -> None:
    [problem] = problems(read, f'{MINIMAL}[[delivery.route]]\nmatch = "*"\n{lines}\n')
    assert problem.startswith(f"delivery.route[1].{key}: ")


def test_a_byte_order_mark_is_no_mistake(read: Callable[..., Config]) -> None:
    assert read("\ufeff" + MINIMAL) == read()


def test_a_site_is_read_whole(read: Callable[..., Config]) -> None:
    [site] = read(
        MINIMAL
        + """
        [delivery.site."Gmail.com"]
        connections = 5
        rate = "100/1m"
        per_day = 50
        growth = 1.5
        retry = ["15m", "1h", "4h"]
        """
    ).delivery.sites
    assert site == SiteRule("gmail.com", 5, Rate(100, 60.0), 50, 1.5, (900.0, 3600.0, 14400.0))


def test_rules_of_tls_are_read_whole(read: Callable[..., Config]) -> None:
    digest = "0123456789abcdef" * 4
    config = read(
        MINIMAL
        + f"""
        [dns]
        trust_ad = "yes"
        [[delivery.tls]]
        match = "*.Partner.example"
        mode = "verify"
        mx = ["*.MX.partner.example", "mx.bücher.example"]
        [[delivery.tls]]
        match = "bank.example"
        mode = "pinned"
        pins = ["sha256:{digest}", "ASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4mrze8="]
        """
    )
    first, second = config.delivery.tls
    assert (first.match, first.mode, first.mx) == (
        "*.partner.example",
        "verify",
        ("*.mx.partner.example", "mx.xn--bcher-kva.example"),
    )
    assert second.pins == (digest, digest)
    assert config.dns.trust_ad == "yes"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[[delivery.tls]]\nmatch="a.example"\nmode="pinned"\n', r"^delivery.tls\[1\].pins: is missing"),
        ('[[delivery.tls]]\nmatch="a.example"\nmode="may"\npins=["' + "0" * 64 + '"]\n', r"tls\[1\].mode: .*are pins"),
        ('[[delivery.tls]]\nmatch="a.example"\nmode="pinned"\npins=["00"]\n', r"tls\[1\].pins: .*no SHA-256 digest"),
        ('[[delivery.tls]]\nmatch="a.example"\n', r"^delivery.tls\[1\].mode: is missing"),
        ('[[delivery.tls]]\nmatch="a.example"\nmode="may"\nmx=["a.*.example"]\n', r"tls\[1\].mx: "),
        ('[dns]\ntrust_ad = "always"\n', r"^dns.trust_ad: .*one of: loopback, yes, no"),
        ('[tls]\nserver_ca = "/nowhere/ca.pem"\n', r"^tls.server_ca: /nowhere/ca.pem cannot be read"),
    ],
)
def test_bad_rules_of_tls(read: Callable[..., Config], text: str, problem: str) -> None:
    assert any(re.search(problem, one) for one in problems(read, MINIMAL + text))
