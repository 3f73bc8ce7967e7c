"""mtactl user ...: what the operator types and reads."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from control_daemon import Daemon

Run = Callable[..., "subprocess.CompletedProcess[str]"]
HASH = "{SHA256}Xd/C008MH4nAjKOAu5URtczuJ3GFdtoycHLduFX03Hw="


@pytest.fixture
def alice(daemon: Daemon, mtactl: Run) -> None:
    assert mtactl("user", "add", "alice", stdin="long enough\n").returncode == 0


def test_verify(alice: None, mtactl: Run) -> None:
    done = mtactl("user", "verify", "alice", stdin="long enough\n")
    assert (done.returncode, done.stdout) == (0, "alice@example.test: the password is right\n")
    done = mtactl("user", "verify", "alice", stdin="wrong\n")
    assert (done.returncode, done.stdout) == (77, "")
    assert done.stderr == "mtactl: this is not a password of alice@example.test\n"


def test_disable(alice: None, mtactl: Run) -> None:
    assert mtactl("user", "disable", "alice", "--reason", "call us").stdout == "alice@example.test: disabled\n"
    assert "call us" in mtactl("user", "list").stdout
    done = mtactl("user", "verify", "alice", stdin="long enough\n")
    assert (done.returncode, done.stderr) == (77, "mtactl: This account is disabled: call us\n")
    assert mtactl("user", "enable", "alice").stdout == "alice@example.test: enabled\n"


def test_app_passwords_are_shown_once(alice: None, mtactl: Run) -> None:
    done = mtactl("user", "app-password", "add", "alice", "phone")
    password = done.stdout.strip()
    assert done.stderr == "mtactl: it is shown this once, and kept nowhere\n"
    assert mtactl("user", "verify", "alice", stdin=f"{password}\n").returncode == 0
    listed = mtactl("user", "app-password", "list", "alice").stdout
    assert listed.splitlines()[0].split() == ["LABEL", "ADDED", "USED"]
    assert password not in listed + mtactl("user", "show", "alice", "--json").stdout
    assert mtactl("user", "app-password", "remove", "alice", "phone").returncode == 0
    assert mtactl("user", "verify", "alice", stdin=f"{password}\n").returncode == 77


def test_passwd_says_what_else_is_a_password(alice: None, mtactl: Run) -> None:
    done = mtactl("user", "passwd", "alice", "--reason", "stolen", stdin="even longer\n")
    assert (done.returncode, done.stdout) == (0, "alice@example.test: password changed\n")
    assert json.loads(mtactl("audit", "--json").stdout.splitlines()[-1])["reason"] == "stolen"
    mtactl("user", "app-password", "add", "alice", "phone")
    mtactl("user", "disable", "alice", "--reason", "call us")
    shown = mtactl("user", "passwd", "alice", stdin="even longer\n").stdout
    assert "app passwords still work: phone\n" in shown
    assert "mtactl user app-password remove alice@example.test LABEL\n" in shown
    assert "still disabled (call us): mtactl user enable alice@example.test\n" in shown


def test_a_freeze_and_a_thaw_say_what_comes_next(alice: None, mtactl: Run, daemon: Daemon) -> None:
    name = "alice@example.test"
    daemon.accept("a@b.test", "c@b.test", user=name)
    mtactl("user", "app-password", "add", "alice", "phone")
    mtactl("user", "limit", "alice", "--messages-per-day", "20", "--new-recipients-per-day", "2")
    frozen = mtactl("user", "freeze", "alice", "--reason", "stolen")
    number = json.loads(mtactl("audit", "--json").stdout.splitlines()[-1])["number"]
    assert f"mtactl queue list --audit {number}   # audit {number} = this freeze\n" in frozen.stdout
    assert f"mtactl user passwd {name}" in frozen.stdout
    assert "# there are: phone\n" in frozen.stdout
    assert "with --release it is sent, spam too\n" in frozen.stdout
    assert frozen.stderr == f"mtactl: to undo it: mtactl user thaw {name}\n"
    thawed = mtactl("user", "thaw", "alice")
    assert f"the password is still the one from before: mtactl user passwd {name}\n" in thawed.stdout
    assert "app passwords still work: phone\n" in thawed.stdout
    assert "0 of 2 new recipients are left within 24 hours\n" in thawed.stdout
    assert "of 20 messages" not in thawed.stdout
    assert thawed.stderr == f"mtactl: to undo it: mtactl user freeze {name}\n"
    mtactl("user", "freeze", "alice")
    mtactl("user", "passwd", name, stdin="even longer\n")
    assert "from before" not in mtactl("user", "thaw", "alice").stdout


def test_show(alice: None, mtactl: Run) -> None:
    assert mtactl("user", "grant", "alice", "@shop.test").stdout == "alice@example.test may also send as: @shop.test\n"
    assert mtactl("user", "limit", "alice", "--messages-per-day", "0").returncode == 0
    mtactl("user", "certificate", "add", "alice", "AB" * 32)
    shown = mtactl("user", "show", "alice").stdout.splitlines()
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in shown)}
    assert facts["also sends as"] == "@shop.test"
    assert facts["messages"] == "0 of any number within 24 hours"
    assert facts["new recipients"] == "0 of 200"
    assert facts["certificates"] == "ab" * 32
    assert mtactl("user", "revoke", "alice", "@shop.test").stdout == "alice@example.test may also send as: -\n"


@pytest.mark.parametrize("value", ["-1", "x", "", "1.5", "99999999999"])
def test_limits_are_numbers(alice: None, mtactl: Run, value: str) -> None:
    assert mtactl("user", "limit", "alice", "--messages-per-day", value).returncode == 64


def test_import(alice: None, mtactl: Run, tmp_path: Path) -> None:
    file = tmp_path / "passwd"
    file.write_text(f"# users\n\nbob:{HASH}:1:2\nalice:{HASH}\ncarol:{{CRAM-MD5}}x\n")
    done = mtactl("user", "import", str(file), "--dry-run")
    assert (done.returncode, done.stderr) == (65, "mtactl: 1 line could not be used\n")
    assert done.stdout.splitlines()[-1] == "1 user would be added"
    done = mtactl("user", "import", str(file))
    lines = done.stdout.splitlines()
    assert lines[1].split() == ["3", "bob@example.test", "added"]
    assert lines[2].split() == ["4", "alice@example.test", "exists"]
    assert lines[3].split()[:4] == ["5", "carol", "refused", "CRAM-MD5:"]
    assert lines[4:] == ["1 user added"]
    assert mtactl("user", "verify", "bob", stdin="schemepass\n").returncode == 0
    assert mtactl("user", "import", str(file)).returncode == 65
    assert mtactl("user", "import", str(tmp_path / "none")).returncode == 64
    assert mtactl("user", "import", "-", stdin="# nothing\n").returncode == 1


def test_import_of_many_from_standard_input(alice: None, mtactl: Run) -> None:
    text = "".join(f"user{n}:{HASH}\n" for n in range(450))
    *rows, counts = map(json.loads, mtactl("user", "import", "-", "--json", stdin=text).stdout.splitlines())
    assert [row["line"] for row in rows] == list(range(1, 451))
    assert counts == {"changed": 450, "problems": 0}


def test_without_a_daemon(mtactl: Run, short_dir: Path) -> None:
    (short_dir / "mtad.toml").write_text('hostname = "mx.example.test"\ndomains = ["example.test"]\n')
    (short_dir / "data").mkdir()
    assert mtactl("user", "import", "-", stdin=f"bob:{HASH}\n").returncode == 0
    assert mtactl("user", "verify", "bob", stdin="schemepass\n").returncode == 0
    assert mtactl("user", "disable", "bob").returncode == 0
    assert mtactl("user", "verify", "bob", stdin="schemepass\n").returncode == 77


def test_a_password_that_cannot_be_one_is_no_option(here: Run, daemon: Daemon) -> None:
    for line, said in (("with\ttab1234\n", "control characters"), ("x" * 2000 + "\n", "longer than")):
        refused = here("user", "add", "zoe", stdin=line)
        assert refused.returncode == 64
        assert refused.stderr.startswith("mtactl: the password ")
        assert said in refused.stderr
        assert line.strip() not in refused.stderr
