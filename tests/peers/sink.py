"""A receiving server that counts what it took: the ledger of what a mail server under test really sent."""

import re
import threading
from collections import Counter
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from peer_process import free_port

_ID = re.compile(rb"^Message-ID: <([^>@]+)@", re.IGNORECASE | re.MULTILINE)


class Sink:
    """`taken` counts mails by the left side of their Message-ID, once for each recipient."""

    def __init__(self) -> None:
        self.taken: Counter[str] = Counter()
        self.port = free_port()
        self._lock = threading.Lock()
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port, ready_timeout=20)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        found = _ID.search(bytes(envelope.content or b""))
        name = found[1].decode() if found else ""
        with self._lock:
            self.taken[name] += len(envelope.rcpt_tos)
        return "250 2.0.0 taken"

    def __enter__(self) -> "Sink":
        self._controller.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._controller.stop()
