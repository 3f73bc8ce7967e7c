"""The server against a model of RFC 5321's states (4.1.4), over a socket: every command gets exactly one reply, and it
is one that the model allows; a mail is stored when 250 was said, and else not."""

import re
import socket
import ssl
from base64 import b64encode
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from inbound_house import PASSWORD
from inbound_thread import Served, served

REPLY = re.compile(r"(?:[2-5]\d\d-[ -~]*\r\n)*[2-5]\d\d [ -~]*\r\n")
USER = "alice@example.test"
# (path, may a stranger send there, may a user)
RECIPIENTS = (
    ("<bob@example.test>", True, True),
    ("<postmaster>", True, True),
    ("<nobody@example.test>", False, False),
    ("<x@far.test>", False, True),
    ("<>", False, False),
    ("<x@>", False, False),
)
SENDERS = (("<>", True, True), (f"<{USER}>", True, True), ("<x@far.test>", True, False), ("<x", False, False))


def plain(password: str) -> str:
    return b64encode(f"\0{USER}\0{password}".encode()).decode()


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(connections_per_ip=1000, connections=2000, errors=10_000) as made:
        yield made


class Dialogue(RuleBasedStateMachine):
    server: Served

    @initialize()
    def begin(self) -> None:
        self.before, self.stored, self.ended = len(self.server.mails()), 0, True

    @precondition(lambda self: self.ended)
    @rule(source=st.sampled_from(["smtp", "submission", "submissions"]))
    def connect(self, source: str) -> None:
        if hasattr(self, "sock"):
            self.sock.close()
        self.source = source
        self.sock: socket.socket = socket.create_connection(self.server.place(source), timeout=30)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.tls = source == "submissions"
        self.helo = self.esmtp = self.user = self.mail = False
        self.rcpts = self.failures = self.junk = 0
        self.ended = False
        if self.tls:
            self.sock = trusting().wrap_socket(self.sock)
        assert self.hear() == 220

    # The wire

    def hear(self) -> int:
        """The code of exactly one whole reply; 0 when the connection has ended."""
        said = ""
        while not REPLY.fullmatch(said):
            try:
                octets = self.sock.recv(65536).decode()
            except (ConnectionResetError, ssl.SSLEOFError):
                octets = ""
            if not octets:
                assert not said, said
                self.ended = True
                return 0
            said += octets
            assert "Traceback" not in said
        return int(said[:3])

    def say(self, line: str, pieces: int = 1) -> int:
        octets = line.encode() + b"\r\n"
        step = max(len(octets) // pieces, 1)
        for at in range(0, len(octets), step):
            self.sock.sendall(octets[at : at + step])
        return self.hear()

    def junked(self, code: int, *allowed: int) -> None:
        """A command that brings no mail forward: a hundred of them are enough."""
        self.junk += 1
        if self.junk > 100:
            allowed = (421,)
            self.ended = True
        assert code in allowed, (code, allowed)

    def gate(self) -> int:
        """What stands before MAIL: 0 for nothing."""
        if self.source == "smtp":
            return 0 if self.helo else 503
        if not self.tls:
            return 530
        return 0 if self.helo and self.user else 503 if not self.helo else 530

    def clear(self) -> None:
        self.mail = False
        self.rcpts = 0

    # The commands

    @precondition(lambda self: not self.ended)
    @rule(
        esmtp=st.booleans(), name=st.sampled_from(["client.test", "[192.0.2.1]", "x" * 200]), pieces=st.integers(1, 4)
    )
    def hello(self, esmtp: bool, name: str, pieces: int) -> None:
        self.junked(self.say(f"{'EHLO' if esmtp else 'HELO'} {name}", pieces), 250)
        self.helo, self.esmtp = True, esmtp
        self.clear()

    @precondition(lambda self: not self.ended)
    @rule()
    def starttls(self) -> None:
        code = self.say("STARTTLS")
        assert code == (503 if self.tls else 220)
        if code == 220:
            self.sock = trusting().wrap_socket(self.sock)
            self.tls, self.helo, self.esmtp, self.user = True, False, False, False
            self.clear()

    @precondition(lambda self: not self.ended)
    @rule(password=st.sampled_from([PASSWORD, PASSWORD, "wrong"]), mechanism=st.sampled_from(["PLAIN", "LOGIN"]))
    def auth(self, password: str, mechanism: str) -> None:
        first = f" {plain(password)}" if mechanism == "PLAIN" else ""
        code = self.say(f"AUTH {mechanism}{first}")
        if self.source == "smtp":
            assert code == 502
        elif not self.tls:
            assert code == 538
        elif not self.helo or not self.esmtp or self.user or self.mail:
            assert code == 503
        else:
            if mechanism == "LOGIN":
                assert code == 334
                assert self.say(b64encode(USER.encode()).decode()) == 334
                code = self.say(b64encode(password.encode()).decode())
            if password == PASSWORD:
                assert code == 235
                self.user = True
            else:
                self.failures += 1
                assert code == (421 if self.failures == 3 else 535)
                self.ended = self.failures == 3

    @precondition(lambda self: not self.ended)
    @rule(sender=st.sampled_from(SENDERS), parameters=st.sampled_from(["", " SIZE=100", " BODY=8BITMIME", " X=1"]))
    def mail_from(self, sender: tuple[str, bool, bool], parameters: str) -> None:
        path, stranger, user = sender
        code = self.say(f"MAIL FROM:{path}{parameters}")
        if self.gate():
            assert code == self.gate()
        elif self.mail:
            assert code == 503
        elif parameters != " X=1" and (user if self.user else stranger):
            assert code == 250
            self.mail = True
        else:
            assert code in (501, 553, 555)

    @precondition(lambda self: not self.ended)
    @rule(recipient=st.sampled_from(RECIPIENTS), pieces=st.integers(1, 3))
    def rcpt_to(self, recipient: tuple[str, bool, bool], pieces: int) -> None:
        path, stranger, user = recipient
        code = self.say(f"RCPT TO:{path}", pieces)
        if not self.mail:
            assert code == 503
        elif user if self.user else stranger:
            assert code == 250
            self.rcpts += 1
        else:
            assert code in (501, 550, 553)

    @precondition(lambda self: not self.ended)
    @rule(body=st.sampled_from([b"", b"x\r\n", b"..\r\n", b"QUIT\r\n", b"a\nb\r\n"]), pieces=st.integers(1, 5))
    def data(self, body: bytes, pieces: int) -> None:
        code = self.say("DATA")
        if not self.mail or not self.rcpts:
            assert code == (554 if self.mail else 503)
            return
        assert code == 354
        code = self.say((b"From: " + USER.encode() + b"\r\n\r\n" + body + b".").decode(), pieces)
        self.taken(code, good=b"\n" not in body.replace(b"\r\n", b""))

    @precondition(lambda self: not self.ended)
    @rule(sizes=st.lists(st.integers(0, 60), min_size=1, max_size=3))
    def bdat(self, sizes: list[int]) -> None:
        text = (f"From: {USER}\r\n\r\n" + "x" * 200).encode()
        mail, rcpts = self.mail, self.rcpts
        for number, size in enumerate(sizes):
            last = number == len(sizes) - 1
            piece, text = text[:size], text[size:]
            self.sock.sendall(f"BDAT {size}{' LAST' if last else ''}\r\n".encode() + piece)
            code = self.hear()
            if not mail or not rcpts:
                assert code == (554 if mail else 503)
            elif not last:
                assert code == 250
                self.junk += not size
            elif self.user and sum(sizes) < len(f"From: {USER}\r\n"):
                self.clear()  # half an author: whether it is one is not this model's matter
                assert code in (250, 550, 553, 554)
                self.stored += code == 250
                self.junk = 0 if code == 250 else self.junk
            else:
                self.taken(code, good=True)

    @precondition(lambda self: not self.ended)
    @rule(steps=st.integers(1, 6))
    def forward(self, steps: int) -> None:
        """What a client would do next: without it chance would hardly ever come to a mail."""
        for _ in range(steps):
            if self.ended:
                return
            if self.source != "smtp" and not self.tls:
                self.starttls()
            elif not self.helo or not self.esmtp:
                self.hello(True, "client.test", 1)
            elif self.source != "smtp" and not self.user:
                self.auth(PASSWORD, "PLAIN")
            elif not self.mail:
                self.mail_from(SENDERS[1], "")
            elif not self.rcpts:
                self.rcpt_to(RECIPIENTS[0], 1)
            else:
                self.data(b"x\r\n", 1)

    def taken(self, code: int, *, good: bool) -> None:
        assert (code == 250) is good, code
        assert code == 250 or code >= 500
        self.stored += code == 250
        self.junk = 0 if code == 250 else self.junk
        self.clear()

    @precondition(lambda self: not self.ended)
    @rule()
    def rset(self) -> None:
        self.junked(self.say("RSET"), 250)
        self.clear()

    @precondition(lambda self: not self.ended)
    @rule(line=st.sampled_from(["NOOP", "NOOP x", "HELP"]))
    def harmless(self, line: str) -> None:
        self.junked(self.say(line), 250, 214)

    @precondition(lambda self: not self.ended)
    @rule(
        line=st.sampled_from(["VRFY x", "EXPN x", "WHAT", "", "MAIL", "RSET x", "EHLO", "NOOP \x01", "DATA x", "AUTH"])
    )
    def wrong(self, line: str) -> None:
        """Nothing of it changes the state."""
        code = self.say(line)
        if line == "VRFY x":
            gate = 530 if self.source != "smtp" and not self.tls else 252
            self.junked(code, gate)
        else:
            assert code in (500, 501, 502, 503, 504, 530, 538), (line, code)

    @precondition(lambda self: not self.ended)
    @rule()
    def quit(self) -> None:
        assert self.say("QUIT") == 221
        assert self.hear() == 0

    @invariant()
    def no_reply_is_left(self) -> None:
        """Nothing comes that was not asked for."""
        if not getattr(self, "ended", True):
            self.sock.settimeout(0)
            try:
                assert self.sock.recv(1) == b"", "a reply too many"
            except (BlockingIOError, ssl.SSLWantReadError):
                pass
            finally:
                self.sock.settimeout(30)

    def teardown(self) -> None:
        if hasattr(self, "sock"):
            self.sock.close()
            assert len(self.server.mails()) - self.before == self.stored
            assert not [line for line in self.server.house.log if "internal error" in line]


def trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def test_the_server_is_the_model(server: Served) -> None:
    Dialogue.server = server
    before = len(server.mails())
    run_state_machine_as_test(
        Dialogue,
        settings=settings(
            max_examples=150, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
    assert len(server.mails()) - before > 20, "the model was hardly walked"
