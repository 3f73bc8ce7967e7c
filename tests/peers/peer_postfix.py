"""A Postfix of our own: configuration, queue and data below one directory, one SMTP listener on a high port."""

import contextlib
import grp
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from peer_process import Process, answers, free_port, open_parents, program, wait_for

MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup    unix  n - n 60 1 pickup
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp      unix  - - n - - smtp
relay     unix  - - n - - smtp
showq     unix  n - n - - showq
error     unix  - - n - - error
retry     unix  - - n - - error
discard   unix  - - n - - discard
local     unix  - n n - - local
virtual   unix  - n n - - virtual
lmtp      unix  - - n - - lmtp
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
"""

# What Debian's package sets for an "Internet Site", without TLS certificates; the rest are Postfix's own defaults.
MAIN = {
    "compatibility_level": "3.6",
    "smtpd_banner": "$myhostname ESMTP $mail_name",
    "biff": "no",
    "append_dot_mydomain": "no",
    "readme_directory": "no",
    "myhostname": "postfix.example.test",
    "mydestination": "$myhostname, localhost",
    "mynetworks": "127.0.0.0/8 [::1]/128",
    "inet_interfaces": "loopback-only",
    "inet_protocols": "ipv4",
    "smtpd_relay_restrictions": "permit_mynetworks permit_sasl_authenticated defer_unauth_destination",
    "alias_maps": "",
    "alias_database": "",
    "mailbox_size_limit": "0",
    "recipient_delimiter": "+",
    "authorized_verp_clients": "",
}


def missing() -> str:
    """Why there can be no Postfix here; "" when there can."""
    if not program("postfix"):
        return "postfix is not installed"
    return "" if os.getuid() == 0 else "postfix needs root"


class Postfix:
    """A running instance. `maildir` holds what virtual domains got."""

    def __init__(self, base: Path, settings: Mapping[str, str] | None = None) -> None:
        self.port = free_port()
        self.config = base / "etc"
        self.maildir = base / "mail" / "inbox"
        self.log = base / "log" / "maillog"
        queue, data = base / "spool", base / "data"
        for directory in (base, self.config, queue, data, base / "mail", base / "log"):
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(0o755)
        open_parents(base)  # its processes are users of their own
        user, nobody = pwd.getpwnam("postfix"), pwd.getpwnam("nobody")
        os.chown(data, user.pw_uid, user.pw_gid)
        os.chown(base / "mail", nobody.pw_uid, nobody.pw_gid)
        main = {
            **MAIN,
            "queue_directory": str(queue),
            "data_directory": str(data),
            "maillog_file": str(self.log),
            "maillog_file_prefixes": str(base),
            "virtual_mailbox_domains": "",
            "virtual_mailbox_base": str(base / "mail"),
            "virtual_mailbox_maps": "static:inbox/",
            "virtual_uid_maps": f"static:{nobody.pw_uid}",
            "virtual_gid_maps": f"static:{nobody.pw_gid}",
            "setgid_group": grp.getgrnam("postdrop").gr_name,
            **(settings or {}),
        }
        (self.config / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in main.items()))
        (self.config / "master.cf").write_text(MASTER.format(port=self.port))
        self._process: Process | None = None

    def start(self) -> "Postfix":
        self._process = Process(
            [program("postfix"), "-c", str(self.config), "start-fg"], self.config.parent / "log" / "start", env={}
        )
        self._process.ready("Postfix listens", lambda: answers(self.port))
        return self

    @property
    def master(self) -> int:
        """The process above all others of it, a child of the script that we started. FileNotFoundError before it is."""
        return int((self.config.parent / "spool" / "pid" / "master.pid").read_text())

    def stop(self, timeout_s: float = 15.0) -> None:
        """SIGTERM to the master; where that does not do, SIGKILL to all of it, and a line that says so."""
        if self._process is None:
            return
        group = 0
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            group = os.getpgid(self.master)
            os.kill(self.master, signal.SIGTERM)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            print(f"Postfix did not end within {timeout_s:g} s of SIGTERM: it was killed", file=sys.stderr)
            with contextlib.suppress(ProcessLookupError):
                if group not in (0, os.getpgid(0)):
                    os.killpg(group, signal.SIGKILL)
            self._process.stop()

    def command(self, name: str, *words: str, mail: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """One of its commands: sendmail, postqueue, postsuper."""
        environment = {"MAIL_CONFIG": str(self.config), "PATH": os.environ["PATH"]}
        command = [program(name), *(["-c", str(self.config)] if name != "sendmail" else []), *words]
        return subprocess.run(command, input=mail, capture_output=True, env=environment, timeout=60, check=False)

    def mails(self, count: int = 1) -> list[bytes]:
        """The mails in the mailbox, once there are so many."""
        wait_for(f"{count} mails in Postfix's mailbox", lambda: len(self._files()) >= count)
        return [path.read_bytes() for path in self._files()]

    def _files(self) -> list[Path]:
        return sorted(self.maildir.glob("new/*"))
