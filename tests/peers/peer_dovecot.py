"""Dovecot's LMTP server on a Unix socket, delivering into a Maildir for each local part."""

import os
import pwd
from pathlib import Path

from peer_process import Process, open_parents, program, wait_for

CONFIG = """\
base_dir = {base}/run
state_dir = {base}/state
log_path = {base}/dovecot.log
protocols = lmtp
ssl = no
default_login_user = {user}
default_internal_user = {user}
default_internal_group = {user}
mail_location = maildir:{base}/mail/%n
mail_uid = {mail_uid}
mail_gid = {mail_gid}
first_valid_uid = 1
auth_mechanisms = plain
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = static
  args = uid={mail_uid} gid={mail_gid} home={base}/mail/%n allow_all_users=yes
}}
service anvil {{
  chroot =
}}
service lmtp {{
  unix_listener {base}/lmtp {{
    mode = 0666
  }}
}}
service stats {{
  chroot =
}}
"""


def missing() -> str:
    if not program("dovecot") or not Path("/usr/lib/dovecot/lmtp").exists():
        return "dovecot with LMTP is not installed"
    return "" if os.getuid() == 0 else "dovecot needs root"


class Dovecot:
    def __init__(self, base: Path) -> None:
        base.mkdir(parents=True, exist_ok=True)
        open_parents(base)
        self.socket = base / "lmtp"
        self._base = base
        nobody = pwd.getpwnam("nobody")
        (base / "mail").mkdir()
        os.chown(base / "mail", nobody.pw_uid, nobody.pw_gid)
        config = CONFIG.format(base=base, user="dovecot", mail_uid=nobody.pw_uid, mail_gid=nobody.pw_gid)
        (base / "dovecot.conf").write_text(config)
        self._process: Process | None = None

    def start(self) -> "Dovecot":
        self._process = Process(
            [program("dovecot"), "-F", "-c", str(self._base / "dovecot.conf")], self._base / "start.log"
        )
        self._process.ready("dovecot listens", self.socket.exists)
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    def mails(self, local: str, count: int = 1) -> list[bytes]:
        """What `local` got, once there are so many."""
        inbox = self._base / "mail" / local
        wait_for(f"{count} mails for {local} in dovecot", lambda: len(list(inbox.glob("new/*"))) >= count)
        return [path.read_bytes() for path in sorted(inbox.glob("new/*"))]
