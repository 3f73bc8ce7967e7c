"""The traps into which commands of that name fell, by their number in our list; against a scripted daemon, and down.

What is not here has its test elsewhere: 12, 13, 15 in test_sendmail and test_submit_options, 17 in
test_input_that_cannot_be_read, 29 in tests/e2e, 32 in tests/inbound (maildrop files of others).
"""

import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from scripted import Scripted

REPOSITORY = Path(__file__).resolve().parents[2]
STUB = REPOSITORY / "deploy" / "bin" / "mtad-sendmail"


@pytest.fixture
def root(short_dir: Path) -> Path:
    (short_dir / "run").mkdir()
    (short_dir / "data" / "maildrop").mkdir(parents=True)
    return short_dir


def sendmail(
    root: Path, *words: str, mail: bytes = b"From: x\n\n", env: Mapping[str, str] | None = None, **more: object
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        [sys.executable, "-IS", str(STUB), *words],
        input=mail, capture_output=True, timeout=60, env={"MTA_ROOT": str(root), **(env or {})}, **more,
    )  # fmt: skip


def taken(root: Path, *words: str, mail: bytes, answers: Mapping[str, str] | None = None) -> tuple[int, Scripted]:
    with Scripted(root / "run" / "submit.sock", answers) as peer:
        done = sendmail(root, *words, mail=mail)
    return done.returncode, peer


def recipients(peer: Scripted) -> list[str]:
    return [command[9:-1] for command in peer.commands if command.startswith("RCPT TO:<")]


@pytest.mark.parametrize(
    ("words", "text", "wanted"),
    [
        (["b"], b"a\n.\nlost\n", b"a\r\n"),
        (["-i", "b"], b"a\n.\nkept\n", b"a\r\n..\r\nkept\r\n"),
        (["-oi", "b"], b".\n", b"..\r\n"),
        (["-ti", "b"], b"..\n", b"...\r\n"),
        (["b"], b"a .\n. \n.b\n", b"a .\r\n.. \r\n..b\r\n"),
        (["b"], b"x" * 70_000 + b".\nkept\n", b"x" * 70_000 + b".\r\nkept\r\n"),  # a piece of a long line is no line
        (["b"], b"a\r\n.\r\nlost\r\n", b"a\r\n"),
    ],
)
def test_trap_01_lone_dot(root: Path, words: list[str], text: bytes, wanted: bytes) -> None:
    code, peer = taken(root, *words, mail=b"From: x\n\n" + text)
    assert (code, peer.mails) == (0, [b"From: x\r\n\r\n" + wanted])


def test_trap_02_the_writer_gets_no_sigpipe(root: Path) -> None:
    """Also where the mail is refused before it was read: by its usage, and by the daemon."""
    script = '(printf "From: x\\n\\n.\\n"; head -c 50000 /dev/zero) | "$@"; echo "${PIPESTATUS[0]}"'
    with Scripted(root / "run" / "submit.sock", {"MAIL": "550 5.7.1 no"}):
        done = subprocess.run(
            ["bash", "-c", script, "-", sys.executable, "-IS", str(STUB), "b"],
            capture_output=True, env={"MTA_ROOT": str(root), "PATH": os.environ["PATH"]}, timeout=60,
        )  # fmt: skip
    assert done.stdout == b"0\n"


def test_trap_03_arguments_are_added_to_the_header(root: Path) -> None:
    _, peer = taken(root, "-t", "c@x.test", "b@x.test", mail=b"From: x\nTo: a@x.test, b@x.test\n\n")
    assert recipients(peer) == ["a@x.test", "b@x.test", "c@x.test"]


def test_trap_04_bcc_is_read_in_every_form(root: Path) -> None:
    """Read here; taken out by the daemon, with -t and without (tests/inbound)."""
    mail = b"From: x\nBCC : a@x.test,\n\tb@x.test\nbcc:c@x.test\nX-Bcc: no@x.test\n\n"
    _, peer = taken(root, "-t", mail=mail)
    assert recipients(peer) == ["a@x.test", "b@x.test", "c@x.test"]


def test_trap_05_resent_fields_stand_alone(root: Path) -> None:
    mail = b"From: x\nTo: a@x.test\nCc: b@x.test\nresent-to: c@x.test\nResent-Cc: d@x.test\nResent-Bcc: e@x.test\n\n"
    _, peer = taken(root, "-t", mail=mail)
    assert recipients(peer) == ["c@x.test", "d@x.test", "e@x.test"]


@pytest.mark.parametrize(
    ("mail", "wanted"),
    [
        (b"From a Mon\n>From b\n>>From c\nFrom: x\n\nt\n", b"From: x\r\n\r\nt\r\n"),
        (b"From: x\nFrom a\n\nt\n", b"From: x\r\n\r\nFrom a\r\n\r\nt\r\n"),
        (b"From: x\n\nFrom a\n", b"From: x\r\n\r\nFrom a\r\n"),
        (b"from : x\n\nt\n", b"from : x\r\n\r\nt\r\n"),
    ],
)
def test_trap_06_from_lines(root: Path, mail: bytes, wanted: bytes) -> None:
    assert taken(root, "b", mail=mail)[1].mails == [wanted]


@pytest.mark.parametrize(
    ("mail", "body"),
    [
        (b"just text\n", b"just text\r\n"),
        (b"\ntext\n", b"text\r\n"),
        (b"http://x.test/ is it\n", b"http://x.test/ is it\r\n"),
        (b"From x\n", b""),
        (b"", b""),
    ],
)
def test_trap_07_a_mail_without_header(root: Path, mail: bytes, body: bytes) -> None:
    _, peer = taken(root, "-fa@x.test", "-FA", "b", mail=mail)
    assert peer.mails == [b"From: A <a@x.test>\r\n\r\n" + body]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r\r\n", b"\r\r\r\n"])
def test_trap_08_every_line_end_becomes_crlf(root: Path, end: bytes) -> None:
    _, peer = taken(root, "-i", "b", mail=end.join([b"From: x", b"", b"a", b".", b"b\rc", b""]))
    assert peer.mails == [b"From: x\r\n\r\na\r\n..\r\nb c\r\n"]


def test_trap_09_nul_is_never_cut_at(root: Path) -> None:
    """The daemon refuses it; here it stays what it is."""
    assert taken(root, "b", mail=b"From: x\n\na\0b\nc\n")[1].mails == [b"From: x\r\n\r\na\0b\r\nc\r\n"]


@pytest.mark.parametrize("octets", [998, 999, 5000, 300_000])
def test_trap_10_a_long_line_is_a_line(root: Path, octets: int) -> None:
    code, peer = taken(root, "b", mail=b"From: x\n\n" + b"y" * octets + b"\nz\n")
    assert (code, peer.mails) == (0, [b"From: x\r\n\r\n" + b"y" * octets + b"\r\nz\r\n"])


def test_trap_11_octets_stay_octets(root: Path) -> None:
    mail = b"From: \xff\xfe\nSubject: \xc3\xa9\n\n" + bytes(range(128, 256)) + b"\n"
    _, peer = taken(root, "b", "\u00e9@x.test", mail=mail)
    assert peer.mails == [mail.replace(b"\n", b"\r\n")]
    assert peer.commands[1].endswith(" BODY=8BITMIME SMTPUTF8")
    assert recipients(peer) == ["b", "\u00e9@x.test"]


@pytest.mark.parametrize(
    "words",
    [
        ["-X", "{}/made", "b"], ["-X{}/made", "b"], ["-C", "{}/made", "b"], ["-OQueueDirectory={}", "b"],
        ["-oQ{}", "b"], ["-D", "b"], ["-O", "ErrorMode=w", "b"],
    ],
)  # fmt: skip
def test_trap_14_no_argument_makes_a_file(root: Path, words: list[str]) -> None:
    code, peer = taken(root, *(word.format(root) for word in words), mail=b"From: x\n\n")
    assert (code, len(peer.mails)) == (0, 1)
    assert sorted(path.name for path in root.iterdir()) == ["data", "run"]


def test_trap_14_a_recipient_with_a_dash_needs_the_end_of_options(root: Path) -> None:
    code, peer = taken(root, "--", "-t@x.test", "-OQueueDirectory=/tmp", mail=b"From: x\n\n")
    assert (code, recipients(peer)) == (0, ["-t@x.test", "-OQueueDirectory=/tmp"])
    assert taken(root, "b@x.test", "-be", mail=b"From: x\n\n")[0] == 64


def test_trap_16_a_defect_is_temporary(root: Path) -> None:
    """Whatever breaks, the exit is no 1: here, no memory is left for a large mail."""
    done = subprocess.run(
        [sys.executable, "-IS", "-c", "import sys, mtactl.sendmail as m; m.compose = None; sys.exit(m.main(['x', 'b']))"
         .replace("import sys,", f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); import")],
        input=b"x\n", capture_output=True, env={"MTA_ROOT": str(root)}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 75
    assert b"Traceback" not in done.stderr
    assert list((root / "data" / "maildrop").iterdir()) == []


def test_trap_18_one_bad_recipient_of_many(root: Path) -> None:
    code, peer = taken(root, "a", "b", "c", mail=b"From: x\n\n", answers={"RCPT TO:<b>": "550 5.1.1 who"})
    assert (code, len(peer.mails), recipients(peer)) == (67, 1, ["a", "b", "c"])


def test_trap_19_nothing_is_added_that_the_daemon_adds(root: Path) -> None:
    """Date and Message-ID are its part, before it signs; From needs the name that only this process knows."""
    assert taken(root, "-G", "b", mail=b"Subject: x\n\n")[1].mails == [b"Subject: x\r\n\r\n"]
    assert taken(root, "-FA", "-fa@x.test", "b", mail=b"Subject: x\n\n")[1].mails == [
        b"From: A <a@x.test>\r\nSubject: x\r\n\r\n"
    ]


def test_trap_30_odd_surroundings(root: Path) -> None:
    """Leaked descriptors, a umask, few descriptors left, no HOME, another locale, a directory that is gone."""
    gone = root / "gone"
    gone.mkdir()

    def prepare() -> None:
        for fd in range(30, 60):
            os.dup2(0, fd)
        os.umask(0o777)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        gone.rmdir()

    env = {"LC_ALL": "C", "LANG": "tlh_QO"}
    done = sendmail(root, "-F", "\u00e9", "b", mail=b"x\n", env=env, cwd=gone, preexec_fn=prepare, close_fds=False)
    assert (done.returncode, done.stderr) == (0, b"")
    [file] = (root / "data" / "maildrop").iterdir()
    assert file.read_bytes().startswith(b"MAIL FROM:<")


def test_trap_33_the_envelope_is_data(root: Path) -> None:
    """No separator of a file of ours can be in an address: "|", blanks, quotes and "%" are kept as they are."""
    words = ['"a|b"@x.test', "c|d@x.test", "%s@x.test", "'e'@x.test"]
    assert sendmail(root, "-f", "f|g@x.test", "--idempotency-key", "k|1 2", *words).returncode == 0
    [file] = (root / "data" / "maildrop").iterdir()
    head = file.read_bytes().partition(b"DATA\r\n")[0].decode().split("\r\n")
    assert head == ["MAIL FROM:<f|g@x.test> SIZE=11 XKEY=k|1+202", *(f"RCPT TO:<{word}>" for word in words), ""]
