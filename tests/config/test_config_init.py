"""`mtactl init`: what it writes works, and it replaces nothing."""

import os
import tomllib
from pathlib import Path

import pytest

from mtactl.init import InitError, render, write_config
from mtad.config import Target, load
from mtad.config.keys import KEYS

HOST, DOMAINS = "mail.example.test", ["example.test", "example.org"]


def test_the_file_works_as_it_is(tmp_path: Path) -> None:
    path = write_config(HOST, DOMAINS, root=str(tmp_path / "new"), environ={"MTA_HOSTNAME": "bad name"}, uid=12345)
    assert path == f"{tmp_path}/new/mtad.toml"
    config = load(str(tmp_path / "new"), environ={}, uid=12345)
    assert (config.hostname, config.domains) == (HOST, tuple(DOMAINS))
    assert config.delivery.routes == ()
    assert os.listdir(tmp_path / "new") == ["mtad.toml"]
    assert Path(path).stat().st_mode & 0o777 == 0o640


def test_every_setting_is_explained() -> None:
    text = render(HOST, DOMAINS)
    for key in KEYS:
        assert f"{key.name} = " in text
    assert max(map(len, text.splitlines())) <= 100
    # Each commented setting can be used by taking its comment sign away.
    bare = "\n".join(line.removeprefix("# ") if " = " in line or "[[" in line else line for line in text.splitlines())
    assert set(tomllib.loads(bare)) == {key.path.partition(".")[0] for key in KEYS}


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
