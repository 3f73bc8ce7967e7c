"""mtactl from the outside: exit codes, what it prints, what it asks, what it imports."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from cli_run import Run
from control_daemon import Daemon, make_config

from mtad.control.operation import Operation
from mtad.control.operations import OPERATIONS
from mtad.mail.reply import Reply

LATER = Reply(451, "4.7.1", "try later", host="mx.b.test", stage="rcpt")
EVERY = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)


def rows(done: "subprocess.CompletedProcess[str]") -> list[dict[str, object]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


UNDER_ANOTHER_NAME = {("dns.records", "live")}  # --diff asks for it


@EVERY
def test_help_of_every_command(here: Run, operation: Operation) -> None:
    done = here(*operation.name.replace("_", "-").split("."), "-h")
    assert done.returncode == 0
    assert "Examples:\n" in done.stdout
    assert operation.examples[0] in done.stdout
    assert "--json" in done.stdout
    for param in operation.params:
        if not param.positional and param.kind != "secret" and (operation.name, param.name) not in UNDER_ANOTHER_NAME:
            assert f"--{param.name.replace('_', '-')} " in done.stdout + " "


def test_examples_are_right(here: Run) -> None:
    """Each example of mtactl parses: with its daemon down it says so, or reads what a stopped one left."""
    import shlex

    for operation in OPERATIONS:
        for example in operation.examples:
            words = shlex.split(example.partition(" | jq")[0].rpartition("| ")[2])
            reads = {"backup.stream", "dkim.import"}
            if words[0] != "mtactl" or operation.name in reads or "/etc/dovecot/users" in words:
                continue
            done = here(*words[1:], stdin="a long password\n")
            expected = 64 if "say --yes" in done.stderr else 69
            assert done.returncode == expected, (example, done.stderr)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 64, "Commands:"),
        (["queue"], 64, "purge"),
        (["queu"], 64, "Did you mean 'queue'"),
        (["queue", "lst"], 64, "Did you mean 'list'"),
        (["hold"], 64, "Did you mean 'queue hold'"),
        (["queue", "list", "--form", "x"], 64, "--from"),
        (["queue", "list", "--older", "5"], 64, "--older: '5' is not an age"),
        (["queue", "list", "--state", "x"], 64, "--state"),
        (["queue", "list", "--limit", "0"], 64, "--limit"),
        (["queue", "list", "--limit", "x"], 64, "--limit"),
        (["queue", "list", "--to", ""], 64, "--to: is empty"),
        (["queue", "list", "../../x"], 64, "ID: '../../x' is not a queue id"),
        (["user", "passwd", "a b"], 64, "USER: 'a b' is not a user name"),
        (["queue", "list", "--to", "a\x1b[2J\n"], 64, "control characters"),
        (["queue", "list", "--format", "x"], 64, "--format"),
        (["queue", "list", "--format", "grid", "--json"], 64, "--json"),
        (["queue", "flush"], 64, "select something, or say --all"),
        (["queue", "hold", "--dry-run"], 64, "select something, or say --all"),
        (["queue", "show"], 64, "ID"),
        (["queue", "purge", "--all"], 64, "say --yes"),
        (["user", "remove", "alice"], 64, "say --yes"),
        (["user", "add"], 64, "USER"),
        (["user", "add", "alice", "secret"], 64, "unexpected extra argument"),
        (["completion", "csh"], 64, "csh"),
        (["nonsense\x1b[31m"], 64, "There is no command"),
    ],
)
def test_usage(mtactl: Run, words: list[str], code: int, said: str) -> None:
    done = mtactl(*words)
    assert done.returncode == code
    assert said in done.stderr
    assert not done.stdout
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr


def test_arguments_that_are_not_utf8(mtactl: Run, daemon: Daemon) -> None:
    assert mtactl("queue", "list", "--to", "\udcff@b.test").returncode == 64


def test_version(mtactl: Run) -> None:
    done = mtactl("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("mtactl ")


def test_the_daemon_is_down(mtactl: Run, short_dir: Path) -> None:
    done = mtactl("status")
    assert done.returncode == 69
    assert f"{short_dir}/run/control.sock" in done.stderr
    assert f"Start it with `mtad run --root {short_dir}`" in done.stderr
    assert "`systemctl start mtad`" in mtactl("status", "--socket", "/nonexistent").stderr
    (short_dir / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(f"{short_dir}/run/control.sock")
    assert mtactl("status").returncode == 69
    assert mtactl("--socket", "/nonexistent", "status").returncode == 69
    assert mtactl("status", "--socket", "/nonexistent").returncode == 69
    assert mtactl("queue", "list", "--socket", "/nonexistent").returncode == 69
    assert mtactl("status", "--root", "/" + "x" * 120).returncode == 69


def test_list_and_show(mtactl: Run, daemon: Daemon) -> None:
    assert mtactl("queue", "list").stdout == ""
    message_id = daemon.accept("b@b.test", "c@c.test", sender="", size=4200, ago_s=7300, reply=LATER)
    done = mtactl("queue", "list")
    assert done.returncode == 0
    header, first, second = done.stdout.splitlines()
    assert header.split() == ["ID", "STATE", "AGE", "SIZE", "TRIES", "NEXT", "FROM", "TO", "REASON"]
    assert first.split()[:8] == [f"{message_id}.1", "deferred", "2h", "4.1k", "1", "59m", "<>", "b@b.test"]
    assert first.endswith("  451 4.7.1 try later (in reply to RCPT TO)")
    assert second.index("c@c.test") == first.index("b@b.test") == header.index("TO")
    (row,) = rows(mtactl("queue", "list", "--json"))
    assert row["queue_id"] == message_id
    assert row["queue_name"] == "deferred"
    assert rows(mtactl("--json", "queue", "list")) == [row]
    shown = mtactl("queue", "show", message_id[:11]).stdout
    for words in ("subject:    Hi", "to c@c.test", "mx.test[192.0.2.1]:25", "451 4.7.1 try later", "helo=client.test"):
        assert words in shown


def test_nothing_matched(mtactl: Run, daemon: Daemon) -> None:
    for words in (["queue", "list", "--to", "x@y.test"], ["queue", "show", "3kf9x2m7q0w1"], ["dkim", "show", "x.test"]):
        done = mtactl(*words)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr
    for words in (["queue", "hold", "--to", "x@y.test"], ["queue", "purge", "--to", "x@y.test", "--yes"],
                  ["queue", "restore", "--last"]):  # fmt: skip
        done = mtactl(*words, "--json")
        assert (done.returncode, rows(done)) == (1, [{"changed": 0}])
    # All of nothing is nothing, and that is fine: a timer may flush an empty queue.
    done = mtactl("queue", "flush", "--all", "--json")
    assert (done.returncode, rows(done)) == (0, [{"changed": 0}])


def test_changes_print_their_count(mtactl: Run, daemon: Daemon) -> None:
    daemon.accept("b@b.test", "c@b.test")
    assert [row["changed"] for row in rows(mtactl("queue", "hold", "--domain", "b.test", "--json"))] == [2]
    assert mtactl("queue", "release", "--all").stdout == "2 recipients released\n"
    assert mtactl("queue", "retry", "--to", "b@b.test", "--in", "2h").stdout == "1 recipient rescheduled\n"
    assert mtactl("queue", "flush", "--all").stdout == "2 recipients due now\n"
    dry = mtactl("queue", "purge", "--all", "--dry-run").stdout.splitlines()
    assert [line.split()[-2:] for line in dry[1:-1]] == [["b@b.test", "Hi"], ["c@b.test", "Hi"]]
    assert dry[-1] == "2 recipients would be purged"
    assert rows(mtactl("queue", "purge", "--all", "--dry-run", "--json"))[-1] == {
        "changed": 0, "would_change": 2, "trash_s": 3 * 86400,
    }  # fmt: skip
    assert mtactl("queue", "purge", "--all", "--yes", "--reason", "spam").stdout == "2 recipients purged\n"
    assert any("reason=spam" in line for line in daemon.bench.lines)
    assert mtactl("queue", "restore", "--last").stdout == "2 recipients restored\n"


def test_a_flush_of_held_mail_says_what_to_do(mtactl: Run, daemon: Daemon) -> None:
    daemon.accept("b@b.test")
    mtactl("queue", "hold", "--all")
    done = mtactl("queue", "flush", "--domain", "b.test")
    assert (done.returncode, done.stdout) == (1, "0 recipients due now\n")
    assert "held mail needs `mtactl queue release`" in done.stderr
    assert mtactl("queue", "flush", "--domain", "b.test", "--json").stderr == ""


def test_ids_from_standard_input(mtactl: Run, daemon: Daemon) -> None:
    first, second, third = (daemon.accept(f"{n}@b.test") for n in "abc")
    assert [
        row["changed"] for row in rows(mtactl("queue", "hold", "-", third, "--json", stdin=f"{first}\n{second}\n"))
    ] == [3]
    done = mtactl("queue", "hold", "-", stdin="")
    assert done.returncode == 1


def on_terminal(
    words: list[str], answers: list[str], root: Path, repository: Path, columns: int = 200, **more: str
) -> tuple[int, str]:
    """Run mtactl on a terminal of its own, typing `answers`; the exit code and everything that was shown."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(repository)
        environ = {
            "PATH": os.environ["PATH"],
            "MTA_ROOT": str(root),
            "TERM": "xterm",
            "COLUMNS": str(columns),
            "HOME": str(root),
            **more,
        }
        os.execve(sys.executable, [sys.executable, "-m", "mtactl", *words], environ)
    shown = b""
    for answer in answers:
        # Type only when it asks, as a person does.
        while not shown.rstrip().endswith((b":", b"]:")):
            shown += os.read(terminal, 1024)
        os.write(terminal, answer.encode() + b"\n")
        shown += b"|"
    try:
        while chunk := os.read(terminal, 1024):
            shown += chunk
    except OSError:
        pass  # Linux: the other end is closed
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


def test_purge_asks_on_a_terminal(daemon: Daemon, short_dir: Path, repository: Path) -> None:
    daemon.accept("b@b.test", "c@b.test")
    code, shown = on_terminal(["queue", "purge", "--all"], ["n"], short_dir, repository)
    assert code == 1
    assert "queue purge: 2 recipients to the trash for 3 days. Go on? [y/N]:" in shown
    assert "nothing was changed" in shown
    code, shown = on_terminal(["queue", "purge", "--all"], ["y"], short_dir, repository)
    assert code == 0
    assert "2 recipients purged" in shown


def test_a_terminal_gets_a_table(daemon: Daemon, short_dir: Path, repository: Path) -> None:
    daemon.accept("b@b.test", sender="[red]x[/]@b.test", reply=Reply(451, "4.0.0", "\x1b[2J[bold]hi \u202e[/"))
    code, shown = on_terminal(["queue", "list"], [], short_dir, repository)
    assert code == 0
    assert "[red]x[/]@b.test" in shown
    assert "\\x1b[2J[bold]hi \\u202e[/" in shown
    assert "\x1b[2J" not in shown
    assert "\x1b[33m" in shown  # our own colour


@pytest.mark.parametrize("columns", [60, 80, 100, 130])
def test_a_row_is_one_line_of_the_terminal(daemon: Daemon, short_dir: Path, repository: Path, columns: int) -> None:
    daemon.accept("somebody@b.test", sender="newsletter-department@example.test", reply=LATER)
    code, shown = on_terminal(["queue", "list"], [], short_dir, repository, columns)
    assert code == 0
    title, line, rest = re.sub(r"\x1b\[[0-9;]*m", "", shown).split("\r\n")
    assert rest == ""
    assert max(len(title), len(line)) <= columns
    assert "ID " in title
    assert "TO " in title
    assert "REASON" in title
    assert re.match(r"[0-9a-z]{12}\.1 ", line)
    assert "451 4" in line or "host mx" in line


def test_nothing_is_told_on_a_terminal(daemon: Daemon, short_dir: Path, repository: Path) -> None:
    assert on_terminal(["queue", "list"], [], short_dir, repository) == (0, "mtactl: the queue is empty\r\n")
    assert on_terminal(["queue", "list", "--json"], [], short_dir, repository) == (0, "")
    assert on_terminal(["queue", "mailq"], [], short_dir, repository) == (0, "Mail queue is empty\r\n")


def test_users(mtactl: Run, daemon: Daemon, short_dir: Path, repository: Path) -> None:
    assert mtactl("user", "add", "alice", stdin="long enough\n").stdout == "alice@example.test: added\n"
    done = mtactl("user", "add", "alice", stdin="long enough\n")
    assert done.returncode == 73
    assert mtactl("user", "add", "bob", stdin="short\n").returncode == 65
    assert mtactl("user", "add", "bob", stdin="").returncode == 65
    assert mtactl("user", "add", "bob", stdin="\n").returncode == 65
    assert mtactl("user", "passwd", "carol", stdin="long enough\n").returncode == 1
    assert rows(mtactl("user", "list", "--json"))[0]["name"] == "alice@example.test"
    code, shown = on_terminal(["user", "passwd", "alice"], ["even longer", "even longer"], short_dir, repository)
    assert code == 0
    assert "even longer" not in shown
    assert daemon.do(daemon.bench.users.verify("alice", "even longer")) is not None
    assert mtactl("user", "remove", "alice", "--yes").stdout == "alice@example.test is removed\n"
    assert mtactl("user", "remove", "alice", "--yes").returncode == 1


def test_password_from_a_descriptor(daemon: Daemon, short_dir: Path, repository: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"long enough\nrest")
    os.close(writing)
    command = [sys.executable, "-m", "mtactl", "user", "add", "alice", "--password-fd", str(reading)]
    environ = {**os.environ, "MTA_ROOT": str(short_dir)}
    done = subprocess.run(command, cwd=repository, env=environ, pass_fds=[reading], capture_output=True, timeout=60)
    os.close(reading)
    assert done.returncode == 0
    assert daemon.do(daemon.bench.users.verify("alice", "long enough")) is not None


def test_dkim(mtactl: Run, daemon: Daemon) -> None:
    import dns.zone

    done = mtactl("dkim", "generate", "example.test", "--selector", "s1", "--algorithm", "both")
    assert done.returncode == 0
    zone = dns.zone.from_text(done.stdout, origin="example.test", check_origin=False)
    assert sorted(str(name) for name in zone) == ["s1-ed._domainkey", "s1._domainkey"]
    assert mtactl("dkim", "show", "example.test", "--selector", "s1").stdout in done.stdout
    assert mtactl("dkim", "generate", "example.test", "--selector", "s1").returncode == 73
    assert [row["bits"] for row in rows(mtactl("dkim", "list", "--json"))] == [2048, 256]
    assert mtactl("dkim", "list").stdout.splitlines()[0].split() == [
        "DOMAIN",
        "SELECTOR",
        "ALGORITHM",
        "BITS",
        "STAGE",
        "CREATED",
    ]


def test_reload_refused(mtactl: Run, daemon: Daemon) -> None:
    assert mtactl("reload").returncode == 0
    daemon.bench.app.problem = "is missing"
    done = mtactl("reload")
    assert (done.returncode, done.stdout) == (78, "")
    assert "hostname: is missing" in done.stderr
    assert "mtactl: nothing was changed: the settings of before stay in use" in done.stderr.splitlines()


def test_newaliases_has_a_line_for_each_problem(daemon: Daemon, short_dir: Path, repository: Path) -> None:
    (short_dir / "aliases").write_text("broken line\nroot alice\n")
    command = [sys.executable, "-IS", str(repository / "deploy" / "bin" / "mtad-newaliases")]
    done = subprocess.run(command, env={"MTA_ROOT": str(short_dir)}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 65
    said = done.stderr.splitlines()
    assert [line.partition(" no ")[0] for line in said] == [
        f"newaliases: {short_dir}/aliases:{number}:" for number in (1, 2)
    ]


def test_status_config_maildrop(mtactl: Run, daemon: Daemon) -> None:
    said = mtactl("status").stdout
    assert "hostname: mail.example.test\n" in said
    assert "uptime:   2h\n" in said
    assert "size:     0\n" in said
    assert rows(mtactl("status", "--json"))[0]["uptime_s"] == 7200
    assert ["hostname", '"mail.example.test"'] in [
        line.split() for line in mtactl("config", "show").stdout.splitlines()
    ]
    assert mtactl("maildrop", "drain").returncode == 0
    assert mtactl("alias", "check").returncode == 0


def test_mailq(mtactl: Run, daemon: Daemon) -> None:
    assert mtactl("queue", "mailq").stdout == "Mail queue is empty\n"
    message_id = daemon.accept("b@b.test", reply=LATER)
    lines = mtactl("queue", "mailq").stdout.splitlines()
    assert lines[0].startswith("----Queue ID-----")
    assert lines[1].startswith(message_id)
    assert lines[-1] == "-- 0 Kbytes in 1 Request."


@pytest.mark.parametrize(
    "style", ["plain", "simple", "grid", "github", "pipe", "tsv", "html", "rst", "latex", "orgtbl"]
)
def test_formats(mtactl: Run, daemon: Daemon, style: str) -> None:
    daemon.accept("1e5@b.test", sender="0012@b.test", size=1000)
    done = mtactl("queue", "list", "--format", style)
    assert done.returncode == 0
    assert "1e5@b.test" in done.stdout
    assert "1000" in done.stdout


def test_columns_are_respected(mtactl: Run, daemon: Daemon) -> None:
    daemon.accept("b@b.test", sender=f"{'x' * 60}@b.test")
    wide = mtactl("queue", "list").stdout
    narrow = mtactl("queue", "list", COLUMNS="60").stdout
    assert max(map(len, wide.splitlines())) > 60
    assert max(map(len, narrow.splitlines())) == 60
    assert narrow.splitlines()[1].endswith("...")


def test_a_backup_has_the_callers_path(mtactl: Run, daemon: Daemon, short_dir: Path) -> None:
    done = mtactl("backup", "create", f"{short_dir}/run/../here.tar", "--json")
    assert done.returncode == 0, done.stderr
    assert rows(done)[0]["path"] == f"{short_dir}/here.tar"
    assert (short_dir / "here.tar").exists()
    assert mtactl("backup", "create", f"{short_dir}/here.tar").returncode == 73


def test_a_closed_pipe_is_quiet(daemon: Daemon, short_dir: Path, repository: Path) -> None:
    for n in range(300):
        daemon.accept(*(f"{n}.{i}@b.test" for i in range(10)))
    environ = {**os.environ, "MTA_ROOT": str(short_dir)}
    command = [sys.executable, "-m", "mtactl", "queue", "list", "--json"]
    with subprocess.Popen(
        command, cwd=repository, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == -signal.SIGPIPE


def test_a_full_disk_is_told(daemon: Daemon, short_dir: Path, repository: Path) -> None:
    environ = {**os.environ, "MTA_ROOT": str(short_dir)}
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mtactl", "status"], cwd=repository, env=environ, stdout=full,
            stderr=subprocess.PIPE, timeout=60,
        )  # fmt: skip
    assert done.returncode == 75
    assert b"No space left" in done.stderr
    assert b"Traceback" not in done.stderr


def test_only_what_is_needed_is_imported(daemon: Daemon, short_dir: Path, repository: Path) -> None:
    daemon.accept("b@b.test")
    heavy = {
        "rich",
        "tabulate",
        "asyncio",
        "sqlite3",
        "dns",
        "cryptography",
        "dkim",
        "aiosmtpd",
        "ssl",
        "tomllib",
        "email",
    }
    code = (
        "import sys; from mtactl.cli import main; main(sys.argv[1:]); "
        "print(*sorted({name.partition('.')[0] for name in sys.modules} | {n for n in sys.modules if n[:4] == 'mtad'}),"
        " file=sys.stderr)"
    )
    for words in (["queue", "list"], ["queue", "list", "--json"], ["--help"], ["queue", "purge", "--help"]):
        environ = {**os.environ, "MTA_ROOT": str(short_dir)}
        command = [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}", *words]
        done = subprocess.run(command, cwd=repository, env=environ, capture_output=True, text=True, timeout=60)
        assert done.stdout
        loaded = set(done.stderr.split())
        assert "mtactl" in loaded
        assert not loaded & heavy
        assert not loaded & {"mtad.config", "mtad.queue", "mtad.control.server", "mtad.control.handlers"}


# Without a daemon


@pytest.fixture
def stopped(short_dir: Path) -> Path:
    """The data of a daemon that has been stopped: one deferred message, one user."""
    with Daemon(short_dir) as running:
        running.accept("b@b.test", reply=LATER)
        running.do(running.bench.users.add("alice", "long enough"))
    return short_dir


def test_reading_without_a_daemon(mtactl: Run, stopped: Path) -> None:
    done = mtactl("queue", "list", "--json")
    assert done.returncode == 0
    assert done.stderr == "mtactl: mtad is not running; using its data directly\n"
    assert rows(done)[0]["queue_name"] == "deferred"
    assert mtactl("queue", "show", str(rows(done)[0]["queue_id"])).returncode == 0
    none = mtactl("queue", "list", "--from", "nobody@example.test")
    assert none.stderr == f"{done.stderr}mtactl: nothing matched\n"
    assert rows(mtactl("queue", "stats", "--json"))[0]["deferred"] == 1
    assert rows(mtactl("user", "list", "--json"))[0]["name"] == "alice@example.test"
    assert mtactl("queue", "mailq").stdout.startswith("----Queue ID")
    assert mtactl("queue", "list", "--to", "x@y.test").returncode == 1
    assert mtactl("config", "show").returncode == 0
    assert mtactl("dkim", "list").returncode == 0
    assert mtactl("alias", "check").returncode == 0
    assert mtactl("status").returncode == 69
    assert mtactl("reload").returncode == 69


def test_changing_without_a_daemon(mtactl: Run, stopped: Path) -> None:
    assert [row["changed"] for row in rows(mtactl("queue", "hold", "--all", "--json"))] == [1]
    assert rows(mtactl("queue", "list", "--json"))[0]["queue_name"] == "hold"
    assert mtactl("user", "add", "bob", stdin="long enough\n").returncode == 0
    assert mtactl("user", "add", "bob", stdin="long enough\n").returncode == 73
    assert mtactl("dkim", "generate", "example.test", "--algorithm", "ed25519").returncode == 0
    assert len(rows(mtactl("dkim", "list", "--json"))) == 1
    assert mtactl("backup", "create", str(stopped / "b.tar")).returncode == 0
    with Daemon(stopped) as daemon:
        assert [row["name"] for row in rows(mtactl("user", "list", "--json"))] == [
            "alice@example.test",
            "bob@example.test",
        ]
        assert daemon.bench.users.get("bob") is not None


def test_a_daemon_without_socket_is_left_alone(mtactl: Run, daemon: Daemon) -> None:
    os.unlink(daemon.path)
    done = mtactl("queue", "list")
    assert done.returncode == 75
    assert "uses the queue" in done.stderr


def test_a_broken_configuration(mtactl: Run, stopped: Path) -> None:
    (stopped / "mtad.toml").write_text('hostname = 5\nnonsense = "x"\n')
    done = mtactl("queue", "list")
    assert done.returncode == 78
    assert "hostname" in done.stderr
    assert "nonsense" in done.stderr
    done = mtactl("config", "check")
    assert (done.returncode, done.stdout) == (78, "")
    assert "hostname" in done.stderr
    done = mtactl("config", "check", "--json")
    assert done.returncode == 78
    assert {error["key"] for error in json.loads(done.stdout)["errors"]} >= {"hostname", "nonsense"}


def test_a_good_configuration(mtactl: Run, short_dir: Path) -> None:
    make_config(short_dir)
    done = mtactl("config", "check")
    assert (done.returncode, done.stdout) == (0, f"{short_dir}/mtad.toml: good\n")
    for words in (["--root", str(short_dir), "config", "check"], ["config", "check", "--root", str(short_dir)]):
        assert mtactl(*words, MTA_ROOT="/nonexistent").returncode == 0


def test_init(mtactl: Run, short_dir: Path) -> None:
    words = ["init", "--hostname", "mail.example.test", "--domain", "example.test"]
    done = mtactl(*words)
    assert done.stdout == f"{short_dir}/mtad.toml\n"
    assert "now start it: `mtad run`, or `systemctl start mtad`" in done.stderr
    assert mtactl("config", "check").returncode == 0
    again = mtactl("--root", f"{short_dir}/a", *words).stderr
    assert f"now start it: `mtad run --root {short_dir}/a`; add a user: `mtactl --root {short_dir}/a user add" in again
    assert mtactl(*words).returncode == 73
    assert mtactl("init", "--root", str(short_dir / "b"), "--hostname", "..", "--domain", "x").returncode == 65
    assert mtactl("init").returncode == 64


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(mtactl: Run, shell: str) -> None:
    assert "_MTACTL_COMPLETE" in mtactl("completion", shell).stdout


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("mtactl que", "queue"), ("mtactl queue pu", "purge"), ("mtactl queue list --st", "--state"),
     ("mtactl queue list --state he", "held")],
)  # fmt: skip
def test_completing(mtactl: Run, typed: str, offered: str) -> None:
    count = str(len(typed.split()) - 1)
    done = mtactl(_MTACTL_COMPLETE="bash_complete", COMP_WORDS=typed, COMP_CWORD=count)
    assert offered in [line.partition(",")[2] for line in done.stdout.splitlines()]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_an_ordinary_user(mtactl: Run, daemon: Daemon, short_dir: Path, repository: Path) -> None:
    short_dir.chmod(0o755)
    daemon.accept("b@b.test", uid=0)
    own = daemon.accept("c@b.test", uid=65534)
    environ = {**os.environ, "MTA_ROOT": str(short_dir)}
    for words, code in (
        (["queue", "list"], 77),
        (["status"], 77),
        (["queue", "hold", "--all"], 77),
        (["queue", "mailq", "--json"], 0),
    ):
        # The interpreter may lie where only root may look: the first run loads what the second one needs.
        drop = (
            "import contextlib, io, os, sys; from mtactl import cli\n"
            f"with contextlib.redirect_stdout(io.StringIO()): cli.main({words!r})\n"
            "os.setgroups([]); os.setresgid(*[65534] * 3); os.setresuid(*[65534] * 3)\n"
            f"sys.exit(cli.main({words!r}))"
        )
        done = subprocess.run(
            [sys.executable, "-c", drop], cwd=repository, env=environ, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == code, done.stderr
    assert [row["queue_id"] for row in rows(done)] == [own]
