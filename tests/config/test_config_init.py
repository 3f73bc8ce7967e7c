"""`mtactl init`: what it writes works, and it replaces nothing."""

import os
import re
import sys
import tomllib
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tls"))

from tls_certificates import make

from mtactl.init import InitError, render, write_config
from mtad.config import Config, Target, load, locate
from mtad.config.keys import KEYS, REPEATED

HOST, DOMAINS = "mail.example.test", ["example.test", "example.org"]
NOW = 1_700_000_000.0


def test_the_file_works_as_it_is(tmp_path: Path) -> None:
    path = write_config(HOST, DOMAINS, root=str(tmp_path / "new"), environ={"MTA_HOSTNAME": "bad name"}, uid=12345)
    assert path == f"{tmp_path}/new/mtad.toml"
    config = load(str(tmp_path / "new"), environ={}, uid=12345)
    assert (config.hostname, config.domains) == (HOST, tuple(DOMAINS))
    assert config.delivery.routes == ()
    assert os.listdir(tmp_path / "new") == ["mtad.toml"]
    assert Path(path).stat().st_mode & 0o777 == 0o640


def test_every_setting_is_explained() -> None:
    text = render(locate("/srv/mail"), HOST, DOMAINS)
    for key in KEYS:
        assert f"{key.name} = " in text
    assert max(map(len, text.splitlines())) <= 100
    # Each commented setting can be used by taking its comment sign away.
    bare = "\n".join(line.removeprefix("# ") if " = " in line or "[[" in line else line for line in text.splitlines())
    assert set(tomllib.loads(bare)) == {key.path.partition(".")[0] for key in KEYS}


@pytest.mark.parametrize(
    ("root", "uid"), [("", 0), ("", 12345), ("here", 12345), ('q"uo\\te %d é', 12345)],
    ids=["the system's", "a user's", "under a root", "under a root with a strange name"],
)  # fmt: skip
def test_what_stands_behind_a_comment_sign_is_what_holds(tmp_path: Path, root: str, uid: int) -> None:
    make(tmp_path / "tls", start=NOW - 86400.0, end=NOW + 90 * 86400.0)
    root = root and str(tmp_path / root)
    place = locate(root, environ={"HOME": "/home/u"}, uid=uid)
    untouched = render(place, HOST, DOMAINS)
    shown: list[str] = []

    def used(text: str) -> Config:
        (tmp_path / "mtad.toml").write_text(text)
        return load(root, str(tmp_path / "mtad.toml"), {"HOME": "/home/u"}, uid, clock=lambda: NOW)

    def with_certificate(text: str) -> str:
        return re.sub(r'(?m)^# (cert|key) = ""', rf'\1 = "{tmp_path}/tls/\1.pem"', text, count=2)

    def bare(line: str) -> str:
        shown.append(line)
        return line.removeprefix("# ")

    uncommented, section = [], ""
    for line in with_certificate(untouched).splitlines():
        section = line if line.startswith(("[", "# [")) else section
        setting = re.match(r"# [a-z_]+ = ", line) and not section.startswith("# [")
        uncommented.append(bare(line) if setting else line)
    assert used("\n".join(uncommented)) == used(with_certificate(untouched))
    # All were looked at but hostname, domains, the certificate, and the tables that are examples.
    assert len(shown) == sum(key.section not in REPEATED for key in KEYS) - 4


@pytest.mark.parametrize("smarthost", ["", "smtp://relay.test", "smtp://u@relay.test", "smtp://u@127.0.0.1:2525"])
def test_so_do_the_defaults_of_the_tables(tmp_path: Path, smarthost: str) -> None:
    make(tmp_path / "tls/other.example", start=NOW - 86400.0, end=NOW + 90 * 86400.0)
    for name in ("cert", "key"):
        file = tmp_path / f"tls/other.example/{name}.pem"
        file.rename(file.with_name("fullchain.pem" if name == "cert" else "privkey.pem"))
    (tmp_path / "secret").write_text("geheim12")
    place = locate(str(tmp_path), environ={})
    lines = render(place, HOST, DOMAINS, smarthost, "secret" if "@" in smarthost else "").splitlines()

    def used(optional: bool) -> Config:
        found, section = [], ""
        for line in lines:
            header = re.match(r'(# )?\[+([a-z._]+)(?:\."gmail\.com")?\]+$', line)
            section = header[2] if header else section
            name = re.match(r"# ([a-z_]+) = ", line)
            needed = name and any(key.path == f"{section}.{name[1]}" and key.default == "(required)" for key in KEYS)
            wanted = section in REPEATED and (header or needed or (name and optional))
            found.append(line.removeprefix("# ") if wanted else line)
        text = "\n".join(found).replace("[tls]", "[tls]\ncert = 'tls/other.example/fullchain.pem'")
        text = text.replace("[tls]", "[tls]\nkey = 'tls/other.example/privkey.pem'", 1)
        (tmp_path / "mtad.toml").write_text(text)
        return load(str(tmp_path), environ={}, clock=lambda: NOW)

    bare, full = used(optional=False), used(optional=True)
    assert len(bare.delivery.routes) == len(bare.delivery.tls) == len(bare.delivery.sites) == len(bare.dkim.rules) == 1
    [site] = full.delivery.sites
    assert (site.connections, site.retry_s) == (bare.delivery.max_per_domain, bare.delivery.retry_s)
    assert full.delivery.routes == bare.delivery.routes
    assert (full.delivery.tls, full.tls, full.dkim) == (bare.delivery.tls, bare.tls, bare.dkim)
    [plain] = bare.delivery.sites
    assert (site.rate, site.per_day, site.growth) == (plain.rate, plain.per_day, plain.growth)


def test_a_smarthost(tmp_path: Path) -> None:
    write_config(HOST, DOMAINS, "smtp://u@relay.example.net:587", password="geheim12", root=str(tmp_path), environ={})
    secret = tmp_path / "smarthost.password"
    assert secret.read_text() == "geheim12\n"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert "geheim12" not in (tmp_path / "mtad.toml").read_text()
    [rule] = load(str(tmp_path), environ={}).delivery.routes
    assert (rule.match, rule.to, rule.tls) == ("*", Target("smtp", "relay.example.net", 587, user="u"), "verify")
    assert rule.password_file == str(secret)


def test_a_refused_file_leaves_no_directory(tmp_path: Path) -> None:
    with pytest.raises(InitError):
        write_config("a b", DOMAINS, root=str(tmp_path / "new"), environ={})
    assert not os.listdir(tmp_path)


def test_a_smarthost_without_a_user_needs_no_password(tmp_path: Path) -> None:
    write_config(HOST, DOMAINS, "smtp://relay.example.net", root=str(tmp_path), environ={})
    assert os.listdir(tmp_path) == ["mtad.toml"]


@pytest.mark.parametrize(
    ("hostname", "domains", "smarthost", "password", "wanted"),
    [
        ("a b", DOMAINS, "", "", "hostname: 'a b' is no domain name"),
        ('x"\nevil = 1\n#', DOMAINS, "", "", "hostname: holds control characters"),
        (HOST, [], "", "", "domains: is empty"),
        (HOST, DOMAINS, "relay.example.net", "", "the smarthost is no URL: write smtp://relay.example.net"),
        (HOST, DOMAINS, "smtp://u@relay.test", "", "smtp://u@relay.test names a user: give the password too"),
        (HOST, DOMAINS, "smtp://u:p@relay.test", "x", "delivery.route[1].to: a password does not belong here"),
        (HOST, DOMAINS, "smtp://u@relay.test", "a\nb", "the password is more than one line"),
        ("\udcff", DOMAINS, "", "", "the values are not UTF-8"),
    ],
)
def test_what_does_not_work_leaves_nothing(
    tmp_path: Path, hostname: str, domains: list[str], smarthost: str, password: str, wanted: str
) -> None:
    with pytest.raises(InitError) as caught:
        write_config(hostname, domains, smarthost, password=password, root=str(tmp_path), environ={})
    assert caught.value.text.startswith(wanted)
    assert caught.value.code == 65
    assert os.listdir(tmp_path) == []


def test_nothing_is_replaced(tmp_path: Path) -> None:
    for name in ("mtad.toml", "smarthost.password"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(InitError, match="exists already") as caught:
            write_config(HOST, DOMAINS, "smtp://u@r.test", password="geheim12", root=str(tmp_path), environ={})
        assert caught.value.code == 73
        assert (tmp_path / name).read_text() == "mine"
        assert os.listdir(tmp_path) == [name]
        (tmp_path / name).unlink()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InitError, match="cannot be written") as caught:
        write_config(HOST, DOMAINS, root=str(tmp_path / "file"), environ={})
    assert caught.value.code == 73
