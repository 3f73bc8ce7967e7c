"""The submit command as a process: what it says to the daemon, what it stores while there is none, how it exits."""

import os
import pwd
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from scripted import Scripted

REPOSITORY = Path(__file__).resolve().parents[2]
STUB = REPOSITORY / "deploy" / "bin" / "mtad-sendmail"
SYSTEM_PYTHON = Path("/usr/bin/python3").exists()
LOGIN = pwd.getpwuid(os.getuid()).pw_name
MAIL = b"From: a@example.test\nTo: b@example.test\nSubject: hello\n\ntext\n"


@pytest.fixture
def root(short_dir: Path) -> Path:
    (short_dir / "run").mkdir()
    (short_dir / "data" / "maildrop").mkdir(parents=True)
    return short_dir


def sendmail(
    root: Path, *words: str, mail: bytes = MAIL, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-IS", str(STUB), *words],
        input=mail,
        capture_output=True,
        env={"MTA_ROOT": str(root), "PATH": os.environ["PATH"], **(env or {})},
        timeout=60,
    )


def daemon(root: Path, answers: Mapping[str, str] | None = None) -> Scripted:
    return Scripted(root / "run" / "submit.sock", answers)


def dropped(root: Path) -> list[Path]:
    return sorted((root / "data" / "maildrop").iterdir())


def test_one_mail(root: Path) -> None:
    with daemon(root) as peer:
        done = sendmail(root, "-fa@example.test", "b@example.test", "c@example.test")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert peer.commands[:5] == [
        "EHLO localhost",
        f"MAIL FROM:<a@example.test> SIZE={len(MAIL) + 5}",
        "RCPT TO:<b@example.test>",
        "RCPT TO:<c@example.test>",
        "DATA",
    ]
    assert peer.mails == [MAIL.replace(b"\n", b"\r\n")]
    assert dropped(root) == []


@pytest.mark.parametrize(
    ("words", "mail", "recipients"),
    [
        (["-t"], b"From: a@x.test\nTo: b@x.test, C <c@x.test>\nCc: g: d@x.test, e@x.test;\nBcc: f@x.test\n\n", "bcdef"),
        (["-t", "g@x.test"], b"From: a@x.test\nTo: b@x.test\n\n", "bg"),
        (["-t", "b@x.test"], b"From: a@x.test\nTo: b@x.test\n\n", "b"),
        (["-ti"], b"From: a@x.test\nTo: b@x.test\n\tBcc: evil@x.test\nbcc : c@x.test\n\n", "bc"),
        (["-t"], b"From: a@x.test\nTo: b@x.test\nResent-To: c@x.test\nResent-Bcc: d@x.test\n\n", "cd"),
        (["-t"], b'From: a@x.test\nTo: "d@x.test, e" (f@x.test) <b@x.test>\n\nTo: c@x.test\n', "b"),
        (["b@x.test, C <c@x.test>"], MAIL, "bc"),
    ],
)
def test_recipients(root: Path, words: list[str], mail: bytes, recipients: str) -> None:
    with daemon(root) as peer:
        done = sendmail(root, *words, mail=mail)
    said = [c for c in peer.commands if c.startswith("RCPT")]
    if words == ["-ti"]:
        assert "RCPT TO:<c@x.test>" in said
        assert "RCPT TO:<evil@x.test>" not in said
    else:
        assert said == [f"RCPT TO:<{letter}@x.test>" for letter in recipients]
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "sender"),
    [
        (["-f", "", "b"], ""),
        (["-f", "<>", "b"], ""),
        (["-f", "<a@x.test>", "b"], "a@x.test"),
        (["-f", "A B <a@x.test>", "b"], "a@x.test"),
        (["b"], LOGIN),
    ],
)
def test_senders(root: Path, words: list[str], sender: str) -> None:
    with daemon(root) as peer:
        assert sendmail(root, *words).returncode == 0
    assert peer.commands[1].startswith(f"MAIL FROM:<{sender}> ")


@pytest.mark.parametrize(
    ("words", "env", "wanted"),
    [
        (["-F", "Ada L", "-fa@x.test", "b"], {}, b"From: Ada L <a@x.test>\r\n"),
        (["-F", "O'Brien, Inc.", "-fa@x.test", "b"], {}, b'From: "O\'Brien, Inc." <a@x.test>\r\n'),
        (["-F", 'a"b\\c', "-fa@x.test", "b"], {}, b'From: "a\\"b\\\\c" <a@x.test>\r\n'),
        (["-F", "x\nBcc: e@x.test", "-fa@x.test", "b"], {}, b'From: "x Bcc: e@x.test" <a@x.test>\r\n'),
        (["-F", "Zo\u00eb", "-fa@x.test", "b"], {}, b"From: =?utf-8?B?Wm/Dqw==?= <a@x.test>\r\n"),
        (["-fa@x.test", "b"], {"NAME": "From Env"}, b"From: From Env <a@x.test>\r\n"),
        (["-F", "N", "-f", "", "b"], {}, f"From: N <{LOGIN}>\r\n".encode()),
    ],
)
def test_from_is_completed(root: Path, words: list[str], env: dict[str, str], wanted: bytes) -> None:
    with daemon(root) as peer:
        done = sendmail(root, *words, mail=b"hello\n", env=env)
    assert done.returncode == 0, done.stderr
    assert peer.mails == [wanted + b"\r\nhello\r\n"]


def test_from_is_left_alone(root: Path) -> None:
    with daemon(root) as peer:
        sendmail(root, "-F", "New", "b", mail=b"FROM : x@x.test\n\n")
        sendmail(root, "-G", "b", mail=b"Subject: x\n\n")
    assert peer.mails == [b"FROM : x@x.test\r\n\r\n", b"Subject: x\r\n\r\n"]


@pytest.mark.parametrize(
    ("words", "mail", "wanted"),
    [
        (["b"], b"From: x\n\na\n.\nb\n", b"a\r\n"),
        (["-i", "b"], b"From: x\n\na\n.\nb\n", b"a\r\n..\r\nb\r\n"),
        (["-oi", "b"], b"From: x\r\n\r\na\r\r\n.b\r\n", b"a\r\n..b\r\n"),
        (["b"], b"From: x\n\nno end", b"no end\r\n"),
        (["b"], b"From x\nFrom: x\n\n\xff\x00\rz", b"\xff\x00 z\r\n"),
    ],
)
def test_bodies(root: Path, words: list[str], mail: bytes, wanted: bytes) -> None:
    with daemon(root) as peer:
        assert sendmail(root, *words, mail=mail).returncode == 0
    assert peer.mails == [b"From: x\r\n\r\n" + wanted]
    assert ("BODY=8BITMIME" in peer.commands[1]) == (b"\xff" in mail)


def test_the_writer_is_not_killed_after_the_lone_dot(root: Path) -> None:
    """bash would report 141 (SIGPIPE) for a writer whose octets nobody takes."""
    with daemon(root):
        script = '(printf "From: x\\n\\n.\\n"; head -c 60000 /dev/zero) | "$@"; echo "${PIPESTATUS[*]}"'
        done = subprocess.run(
            ["bash", "-c", script, "-", sys.executable, "-IS", str(STUB), "b"],
            capture_output=True, env={"MTA_ROOT": str(root), "PATH": os.environ["PATH"]}, timeout=60,
        )  # fmt: skip
    assert done.stdout == b"0 0\n"


def test_a_large_mail_streams(root: Path) -> None:
    body = (b"x" * 75 + b"\n.\n") * 60_000
    with daemon(root) as peer:
        done = sendmail(root, "-i", "-fa@example.test", "b", mail=b"From: x\n\n" + body)
    assert done.returncode == 0, done.stderr
    assert peer.mails == [b"From: x\r\n\r\n" + body.replace(b"\n.", b"\n..").replace(b"\n", b"\r\n")]
    assert peer.commands[1] == "MAIL FROM:<a@example.test> BODY=8BITMIME"


def test_memory_is_flat(root: Path) -> None:
    """40 MiB through a process that may have 24 MiB of heap beyond what an empty mail needs."""
    code = (
        "import resource, runpy, sys;"
        "resource.setrlimit(resource.RLIMIT_DATA, (32 << 20, 32 << 20));"
        f"sys.argv = [{str(STUB)!r}, '-i', 'b'];"
        f"runpy.run_path({str(STUB)!r}, run_name='__main__')"
    )
    mail = b"From: x\n\n" + b"0123456789abcdef\n" * (40 * 1024 * 1024 // 17)
    with daemon(root) as peer:
        done = subprocess.run(
            [sys.executable, "-IS", "-c", code],
            input=mail,
            capture_output=True,
            env={"MTA_ROOT": str(root)},
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(peer.mails[0]) > len(mail)


def test_report_options(root: Path) -> None:
    with daemon(root) as peer:
        assert (
            sendmail(root, "-Nsuccess,delay", "-Rfull", "-Va+b c", "-Osmtputf8=yes", "-fa@x.test", "b").returncode == 0
        )
    assert peer.commands[1].endswith(" SMTPUTF8 RET=FULL ENVID=a+2Bb+20c")
    assert peer.commands[2] == "RCPT TO:<b> NOTIFY=SUCCESS,DELAY"


@pytest.mark.parametrize(
    ("answers", "code", "stored"),
    [
        ({"MAIL": "550 5.7.1 no"}, 77, 0),
        ({"MAIL": "451 4.3.0 later"}, 75, 0),
        ({"MAIL": "552 5.3.4 too big"}, 65, 0),
        ({"RCPT": "550 5.1.1 who"}, 67, 0),
        ({"RCPT": "550 5.1.2 where"}, 68, 0),
        ({"RCPT": "553 5.1.3 what"}, 65, 0),
        ({"RCPT": "550 no status"}, 69, 0),
        ({"RCPT TO:<b>": "450 4.2.0 later"}, 75, 0),
        ({"RCPT TO:<b>": "550 5.1.1 who"}, 67, 1),
        ({"DATA": "451 4.3.0 later"}, 75, 0),
        ({"DATA": "554 5.7.0 never"}, 77, 0),
        ({".": "452 4.3.1 full"}, 75, 1),
        ({".": "554 5.6.0 bad"}, 65, 1),
        ({".": "gibberish"}, 75, 1),
        ({".": ""}, 75, 1),
    ],
)
def test_refusals(root: Path, answers: dict[str, str], code: int, stored: int) -> None:
    with daemon(root, answers) as peer:
        done = sendmail(root, "-fa@x.test", "a", "b")
    assert done.returncode == code
    assert done.stderr.startswith(b"sendmail: ")
    assert len(peer.mails) == stored
    assert dropped(root) == []


@pytest.mark.parametrize(
    "answers", [None, {"CONNECT": "421 4.3.2 stopping"}, {"CONNECT": ""}, {"EHLO": ""}, {"MAIL": ""}]
)
def test_down(root: Path, answers: dict[str, str] | None) -> None:
    """Whatever way the daemon is not there: the mail waits, and the exit is 0."""
    if answers is None:
        done = sendmail(root, "-fa@x.test", "-i", "b", "c", mail=MAIL + b".\n")
    else:
        with daemon(root, answers):
            done = sendmail(root, "-fa@x.test", "-i", "b", "c", mail=MAIL + b".\n")
    assert (done.returncode, done.stderr) == (0, b"")
    (file,) = dropped(root)
    assert re.fullmatch(r"\d{10}\.\d+\.[0-9a-f]+\.mail", file.name)
    assert file.stat().st_mode & 0o7777 == 0o600
    text = MAIL.replace(b"\n", b"\r\n") + b"..\r\n"
    mail = b"MAIL FROM:<a@x.test> SIZE=%d\r\n" % len(text)
    assert file.read_bytes() == mail + b"RCPT TO:<b>\r\nRCPT TO:<c>\r\nDATA\r\n" + text + b".\r\n"


@pytest.mark.parametrize(
    ("size", "after", "code", "stored"), [(900_000, 1, 0, 1), (3_000_000, 1, 0, 1), (3_000_000, 1_500_000, 75, 0)]
)
def test_down_in_the_middle(root: Path, size: int, after: int, code: int, stored: int) -> None:
    """What is still in memory can be replayed into the maildrop; what streamed cannot, and then nothing is stored."""
    with daemon(root, {".": str(after)}):
        done = sendmail(root, "b", mail=b"From: x\n\n" + b"y" * size)
    assert done.returncode == code, done.stderr
    assert [file.stat().st_size > size for file in dropped(root)] == [True] * stored


def test_down_and_strict(root: Path) -> None:
    done = sendmail(root, "b", env={"MTA_SENDMAIL_STRICT": "1"})
    assert done.returncode == 75
    assert dropped(root) == []


def test_a_stale_socket_is_down(root: Path) -> None:
    with daemon(root) as peer:
        os.link(peer.path, root / "run" / "kept")
    (root / "run" / "kept").rename(root / "run" / "submit.sock")
    assert sendmail(root, "b").returncode == 0
    assert len(dropped(root)) == 1


def test_a_group_directory_lets_the_daemon_read(root: Path) -> None:
    (root / "data" / "maildrop").chmod(0o3733)
    assert sendmail(root, "b").returncode == 0
    (file,) = dropped(root)
    assert file.stat().st_mode & 0o7777 == 0o640


@pytest.mark.parametrize("trouble", ["missing", "file size"])
def test_nothing_is_left_when_it_cannot_wait(root: Path, trouble: str) -> None:
    drop = root / "data" / "maildrop"
    if trouble == "missing":
        drop.rmdir()
        drop.write_text("no directory")
    limit = "ulimit -f 1;" if trouble == "file size" else ""
    done = subprocess.run(
        ["bash", "-c", f'{limit} exec "$@"', "-", sys.executable, "-IS", str(STUB), "-i", "b"],
        input=MAIL + b"x" * 9000, capture_output=True, env={"MTA_ROOT": str(root)}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 75
    assert b"nothing was stored" in done.stderr
    assert drop.is_file() or dropped(root) == []


def test_a_root_without_data_gets_a_maildrop(root: Path) -> None:
    (root / "data" / "maildrop").rmdir()
    (root / "data").rmdir()
    assert sendmail(root, "b").returncode == 0
    assert len(dropped(root)) == 1


def test_a_large_mail_waits_too(root: Path) -> None:
    body = b"0123456789abcdef\n" * 200_000
    assert sendmail(root, "-i", "b", mail=b"From: x\n\n" + body).returncode == 0
    (file,) = dropped(root)
    assert file.read_bytes().endswith(body.replace(b"\n", b"\r\n") + b".\r\n")


@pytest.mark.parametrize(
    ("words", "mail", "code"),
    [
        ([], MAIL, 64),
        (["-t"], b"From: x\n\n", 64),
        (["-t"], b"", 64),
        (["-bZ"], MAIL, 64),
        (["b", "-fx"], MAIL, 64),
        (["-f", "a@x.test\nRCPT TO:<e>", "b"], MAIL, 64),
        (["b\r\nRCPT TO:<e>"], MAIL, 65),
        (["<>"], MAIL, 65),
        (["-t"], b"To: undisclosed recipients:;\n\n", 64),
        (["-t"], b"To: " + b"a" * (1 << 20), 65),
    ],
)
def test_wrong_use(root: Path, words: list[str], mail: bytes, code: int) -> None:
    with daemon(root) as peer:
        done = sendmail(root, *words, mail=mail)
    assert done.returncode == code, done.stderr
    assert peer.mails == []
    assert dropped(root) == []


def test_one_bad_argument_does_not_lose_the_rest(root: Path) -> None:
    with daemon(root) as peer:
        done = sendmail(root, "good@x.test", "bad\x07@x.test")
    assert done.returncode == 65
    assert len(peer.mails) == 1
    assert b"\x07" not in done.stderr


def test_input_that_cannot_be_read(root: Path) -> None:
    with daemon(root) as peer, open("/proc/self/mem", "rb") as unreadable:
        done = subprocess.run(
            [sys.executable, "-IS", str(STUB), "b"], stdin=unreadable, capture_output=True, env={"MTA_ROOT": str(root)}
        )
    assert done.returncode == 65
    assert peer.mails == []


def test_closed_standard_files(root: Path) -> None:
    with daemon(root) as peer:
        command = ["bash", "-c", '"$@" <&- >&- 2>&-', "-", sys.executable, "-IS", str(STUB), "b"]
        assert subprocess.run(command, env={"MTA_ROOT": str(root)}, timeout=60).returncode == 65
        command[2] = 'printf "From: x\\n\\n" | "$@" >&- 2>&-'
        assert (
            subprocess.run(command, env={"MTA_ROOT": str(root), "PATH": os.environ["PATH"]}, timeout=60).returncode == 0
        )
    assert peer.mails == [b"From: x\r\n\r\n"]


def test_many_recipients_cannot_block(root: Path) -> None:
    recipients = [f"recipient-number-{n}@some.long.domain.example.test" for n in range(9000)]
    with daemon(root, {"RCPT": "250 2.1.5 " + "a long answer " * 8}) as peer:
        assert sendmail(root, *recipients).returncode == 0
    assert len([c for c in peer.commands if c.startswith("RCPT")]) == 9000


@pytest.mark.skipif(os.getuid() != 0 or not SYSTEM_PYTHON, reason="needs root, and a Python that others can read")
def test_a_user_without_a_name(root: Path) -> None:
    root.chmod(0o755)
    with daemon(root) as peer:
        peer.path.chmod(0o666)
        code = f"import posix, sys; posix.setuid(43210); sys.argv = ['sendmail', 'b']; exec(open({str(STUB)!r}).read())"
        done = subprocess.run(
            ["/usr/bin/python3", "-IS", "-c", f"__file__ = {str(STUB)!r}; {code}"],
            input=b"x\n", capture_output=True, env={"MTA_ROOT": str(root)}, timeout=60,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert peer.commands[1].startswith("MAIL FROM:<uid43210> ")


def test_nothing_heavy_is_imported(root: Path) -> None:
    """The start-up path: only what the bare interpreter has, C modules, and our own few."""
    code = (
        "import sys; before = set(sys.modules);"
        f"sys.path.insert(0, {str(REPOSITORY)!r});"
        "import mtactl.sendmail as m; code = m.main(['sendmail', '-fa@x.test', 'b@x.test']);"
        "print(code, *sorted(set(sys.modules) - before))"
    )
    with daemon(root):
        done = subprocess.run(
            [sys.executable, "-IS", "-c", code],
            input=MAIL,
            capture_output=True,
            env={"MTA_ROOT": str(root)},
            timeout=60,
        )
    ours = ["base", "flags", "link", "mail", "options", "text"]
    own = ["mtactl", "mtactl.sendmail", "mtactl.submit", *(f"mtactl.submit.{name}" for name in ours)]
    assert done.stdout.decode().split() == ["0", "_socket", *own]


@pytest.mark.skipif(not SYSTEM_PYTHON, reason="the stub's interpreter, /usr/bin/python3, is absent")
def test_the_stub_by_its_own_name_and_through_links(root: Path) -> None:
    (root / "bin").mkdir()
    (root / "bin" / "mailer").symlink_to(os.path.relpath(STUB, root / "bin"))
    (root / "bin" / "sendmail").symlink_to("mailer")
    with daemon(root) as peer:
        done = subprocess.run(
            [root / "bin" / "sendmail", "b"], input=MAIL, capture_output=True, env={"MTA_ROOT": str(root)}
        )
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(peer.mails) == 1
