"""Programs of a host that mail, as they are: each with its own setting for sendmail, or in a mount namespace."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest
from peer_mtad import BIN, REPOSITORY, Mtad
from peer_process import program, wait_for

STUB = REPOSITORY / "deploy" / "bin" / "mtad-sendmail"
ALICE = "alice@example.test"


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not program(name), reason=f"{name} is not installed")


@pytest.fixture(scope="module")
def host() -> Iterator[Mtad]:
    with tempfile.TemporaryDirectory(prefix="mtad-", dir="/tmp") as root:
        host = Mtad(Path(root))
        host.mtactl("user", "add", ALICE, text="correct horse battery staple\n")
        yield host.start()
        host.stop()
        assert "Traceback" not in host.log


@pytest.fixture(scope="module")
def sendmail(host: Mtad) -> Path:
    """The command as a program with a setting for it calls it."""
    path = host.root / "sendmail"
    path.write_text(f'#!/bin/sh\nMTA_ROOT={host.root} exec {sys.executable} -IS {STUB} "$@"\n')
    path.chmod(0o755)
    return path


def run(*words: object, text: str = "", env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(word) for word in words], input=text, capture_output=True, text=True, timeout=60, check=False,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", **(env or {})},
    )  # fmt: skip
    assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def arrived(host: Mtad, subject: str) -> str:
    """The one mail for alice with this subject."""
    found: list[str] = []

    def look() -> bool:
        new = host.root / "mail" / "alice" / "new"
        mails = [path.read_text(errors="replace").replace("\r\n", "\n") for path in new.glob("*")]
        found[:] = [mail for mail in mails if f"\nSubject: {subject}\n" in mail]
        return bool(found)

    wait_for(subject, look)
    [mail] = found
    return mail


@needs("mutt")
def test_mutt(host: Mtad, sendmail: Path, tmp_path: Path) -> None:
    (tmp_path / "rc").write_text(f'set sendmail="{sendmail} -oem -oi"\nset from="root@example.test"\nunset record\n')
    run(
        "mutt", "-F", tmp_path / "rc", "-s", "by mutt", "--", ALICE, text="text\n.\nmore\n", env={"HOME": str(tmp_path)}
    )
    assert arrived(host, "by mutt").endswith("\n\ntext\n.\nmore\n")


@needs("s-nail")
def test_s_nail(host: Mtad, sendmail: Path) -> None:
    run("s-nail", "-n", "-S", f"mta=file://{sendmail}", "-s", "by s-nail", ALICE, text="text\n")
    assert arrived(host, "by s-nail").endswith("text\n")


@needs("bsd-mailx")
def test_mail(host: Mtad, sendmail: Path, tmp_path: Path) -> None:
    (tmp_path / ".mailrc").write_text(f"set sendmail={sendmail}\n")
    run("bsd-mailx", "-s", "by mail", ALICE, text="text\n", env={"HOME": str(tmp_path)})
    assert arrived(host, "by mail").endswith("text\n")


@needs("php")
def test_php(host: Mtad, sendmail: Path) -> None:
    head = f"From: www@example.test\\r\\nBcc: {ALICE}"
    code = f'var_dump(mail("{ALICE}", "by php", "text\\n", "{head}", "-fwww@example.test"));'
    assert run("php", "-d", f"sendmail_path={sendmail} -t -i", "-r", code) == "bool(true)\n"
    mail = arrived(host, "by php")
    assert mail.startswith("Return-Path: <www@example.test>\n")
    assert "Bcc" not in mail


def git_can_send() -> bool:
    here = Path("/usr/lib/git-core/git-send-email").exists() and program("perl")
    return bool(here) and subprocess.run(["perl", "-MMail::Address", "-e1"], capture_output=True).returncode == 0


@needs("git")
@pytest.mark.skipif(not git_can_send(), reason="git-email, or libmailtools-perl, is not installed")
def test_git_send_email(host: Mtad, sendmail: Path, tmp_path: Path) -> None:
    (tmp_path / "0001.patch").write_text(
        "From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001\n"
        "From: A U Thor <author@example.test>\nDate: Wed, 25 Nov 2026 00:00:00 +0000\n"
        "Subject: [PATCH] by git\n\nWhy.\n---\n a | 1 +\n\ndiff --git a/a b/a\n-- \n2.39.2\n"
    )
    run("git", "-c", f"sendemail.smtpserver={sendmail}", "send-email", "--confirm=never", "--quiet",
        "--from=author@example.test", f"--to={ALICE}", "--suppress-cc=all", tmp_path / "0001.patch",
        env={"HOME": str(tmp_path), "GIT_CEILING_DIRECTORIES": "/", "EMAIL": "author@example.test"})  # fmt: skip
    assert "diff --git a/a b/a\n" in arrived(host, "[PATCH] by git")


def test_python_subprocess(host: Mtad, sendmail: Path) -> None:
    """The recipe of Python's documentation."""
    message = EmailMessage()
    message["To"], message["Subject"] = ALICE, "by python"
    message.set_content("Gr\u00fc\u00dfe\n")
    subprocess.run([sendmail, "-t", "-oi"], input=message.as_bytes(), check=True, timeout=60)
    assert "Content-Transfer-Encoding: 8bit\n" in arrived(host, "by python")


def test_smtp_on_standard_files(host: Mtad, sendmail: Path) -> None:
    """As Alpine does it: one command at a time, each after the reply to the last."""
    talk = subprocess.Popen([sendmail, "-bs", "-odb", "-oem"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert talk.stdin is not None
    assert talk.stdout is not None
    for said, code in (("", b"220 "), ("EHLO here", b"250 "), ("MAIL FROM:<root@example.test>", b"250 "),
                       (f"RCPT TO:<{ALICE}>", b"250 "), ("DATA", b"354 "),
                       ("Subject: by -bs\r\n\r\ntext\r\n.", b"250 "), ("QUIT", b"221 ")):  # fmt: skip
        if said:
            talk.stdin.write(f"{said}\r\n".encode())
        line = talk.stdout.readline()
        while line[3:4] == b"-":
            line = talk.stdout.readline()
        assert line.startswith(code), line
    with talk:
        assert talk.wait(30) == 0
    arrived(host, "by -bs")


@needs("cron")
@pytest.mark.skipif(os.getuid() != 0 or not program("unshare"), reason="needs root, for a mount namespace")
def test_cron(host: Mtad, sendmail: Path, tmp_path: Path) -> None:
    """The daemon itself, where /usr/sbin/sendmail is ours, and its tables and its pid file are a test's."""
    for name in ("crontabs", "run", "etc"):
        (tmp_path / name).mkdir()
    table = tmp_path / "crontabs" / "root"
    table.write_text(f"MAILTO={ALICE}\n@reboot echo from a job\n")
    table.chmod(0o600)
    script = (
        f"mount --bind {sendmail} /usr/sbin/sendmail && mount --bind {tmp_path}/crontabs /var/spool/cron/crontabs && "
        f"mount --bind {tmp_path}/run /run && mount --bind {tmp_path}/etc /etc/cron.d && exec cron -f"
    )
    cron = subprocess.Popen(["unshare", "-m", "sh", "-c", script], stderr=subprocess.PIPE)
    try:
        name = socket.gethostname()
        mail = ""

        def look() -> bool:
            nonlocal mail
            assert cron.poll() is None
            new = host.root / "mail" / "alice" / "new"
            mail = next((text for path in new.glob("*") if "from a job" in (text := path.read_text())), "")
            return bool(mail)

        wait_for("cron's mail", look)
    finally:
        cron.kill()
        cron.communicate()
    assert f"Subject: Cron <root@{name.partition('.')[0]}" in mail
    assert "Cron Daemon" in mail


# What reads us


@pytest.fixture(scope="module")
def deferred(host: Mtad) -> str:
    """Waits in the queue: the resolver of this host does not answer."""
    said = subprocess.run(
        [sys.executable, "-IS", STUB, "--receipt=json", "--wait=2s", "-f", ALICE, "x@remote.test"],
        input=b"Subject: late\n\n", capture_output=True, env={"MTA_ROOT": str(host.root)}, timeout=60, check=False,
    )  # fmt: skip
    found = json.loads(said.stdout.splitlines()[0])["queue_id"]
    assert isinstance(found, str)
    return found


def test_scripts_that_parse_mailq(host: Mtad, sendmail: Path, deferred: str) -> None:
    listing = run(sendmail, "-bp")
    # As monitoring plugins, pfqueue-like lists and `mailq | awk` clean-ups take it apart.
    assert re.search(r"^-- \d+ Kbytes in (\d+) Requests?\.$", listing, re.MULTILINE)
    paragraphs = run("tail", "-n", "+2", text=listing)
    clean_up = 'BEGIN { RS = "" } { if ($7 == "alice@example.test") print $1 }'
    assert run("awk", clean_up, text=paragraphs) == f"{deferred}\n"
    assert run("sh", "-c", "grep -c '^[0-9a-z]\\{10,\\}[*!]\\{0,1\\} '", text=listing) == "1\n"
    assert re.search(r"^\s*\(DNS gave .*\)$", listing, re.MULTILINE)


@needs("jq")
def test_jq_recipes_for_postqueue(host: Mtad, deferred: str) -> None:
    """Those that Postfix's users pass around, on `mtactl queue list --json`."""
    rows = host.mtactl("queue", "list", "--json").stdout
    for recipe, wanted in (
        ('select(.recipients[].address == "x@remote.test") | .queue_id', deferred),
        ('select(.queue_name == "deferred") | .sender', ALICE),
        ("[.queue_name, .recipients[0].delay_reason] | @tsv", "deferred\tDNS gave no answer for the domain"),
        ("select(.arrival_time < (now + 1)) | .queue_id", deferred),
        ("select(.message_size > 10) | .queue_id", deferred),
        ("select(.forced_expire | not) | .queue_id", deferred),
    ):
        assert run("jq", "-r", recipe, text=rows).strip() == wanted


@needs("pflogsumm")
def test_pflogsumm(host: Mtad, sendmail: Path, deferred: str) -> None:
    """Our lines with the front that syslog gives them."""
    subprocess.run([sendmail, ALICE], input=b"Subject: counted\n\n", check=True, timeout=60)
    arrived(host, "counted")
    wait_for("the line of its delivery", lambda: re.search(rf": to=<{re.escape(ALICE)}>.*, status=sent ", host.log))
    lines = [line.partition(" ")[2] for line in host.log.splitlines()]
    log = "".join(f"Nov 25 01:00:00 mail postfix/mtad[7]: {line}\n" for line in lines)
    summary = run("pflogsumm", text=log)
    sent = sum(", status=sent " in line for line in lines)
    assert sent
    assert re.search(rf"^ +{sent} +delivered$", summary, re.MULTILINE), summary
    assert re.search(r"^ +[1-9]\d* +deferred ", summary, re.MULTILINE), summary
    assert re.search(rf"^ +\d+ .* {ALICE}$", summary, re.MULTILINE), summary


VARLINK = """
import json, socket, sys

def call(path, method, **parameters):
    link = socket.socket(socket.AF_UNIX)
    link.connect(path)
    link.sendall(json.dumps({"method": method, "parameters": parameters, "more": True}).encode() + b"\\0")
    for frame in frames(link):
        if "error" in frame:
            raise SystemExit(frame["error"])
        yield frame["parameters"]
        if not frame.get("continues"):
            return

def frames(link):
    pending = b""
    while chunk := link.recv(4096):
        *whole, pending = (pending + chunk).split(b"\\0")
        yield from map(json.loads, whole)

for row in call(sys.argv[1], "io.mtad.QueueList", to="x@remote.test"):
    print(row["queue_id"])
"""


def test_twenty_lines_of_varlink(host: Mtad, deferred: str) -> None:
    assert len(VARLINK.strip().splitlines()) <= 22
    assert run(BIN / "python", "-c", VARLINK, host.root / "run" / "control.sock") == f"{deferred}\n"


@pytest.mark.skipif(not shutil.which("varlinkctl"), reason="varlinkctl is not installed")
def test_varlinkctl(host: Mtad, deferred: str) -> None:
    socket_path = host.root / "run" / "control.sock"
    assert "method QueueList" in run("varlinkctl", "introspect", socket_path, "io.mtad")
    assert deferred in run("varlinkctl", "--more", "call", socket_path, "io.mtad.QueueList", "{}")
