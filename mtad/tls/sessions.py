"""TLS sessions of servers we met before: with one, the next handshake costs neither side a signature (RFC 8446 2.2).

asyncio has no place for a session, so the context puts it in. A session belongs to one context, and so to one way of
checking certificates; what was verified then is what is believed now.
"""

import ssl
from collections import OrderedDict
from typing import Any

SESSIONS_MAX = 1000


class ResumingContext(ssl.SSLContext):
    """Towards servers. `resumes`: whether sessions are kept."""

    resumes: bool = False
    _sessions: "OrderedDict[str, ssl.SSLSession]"

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        if session is None and isinstance(server_hostname, str):
            session = self._known().get(server_hostname)
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)

    def remember(self, connection: Any) -> None:
        """Keep the session of an SSLObject that served; in TLS 1.3 it came after the handshake."""
        name, session = connection.server_hostname, connection.session
        if not self.resumes or not name or session is None or not session.has_ticket:
            return
        known = self._known()
        known[name] = session
        known.move_to_end(name)
        while len(known) > SESSIONS_MAX:
            known.popitem(last=False)

    def knows(self, name: str) -> bool:
        return name in self._known()

    def forget(self, name: str) -> None:
        self._known().pop(name, None)

    def _known(self) -> "OrderedDict[str, ssl.SSLSession]":
        if not hasattr(self, "_sessions"):
            self._sessions = OrderedDict()
        return self._sessions
