"""A daemon of a few lines: answers SMTP on a Unix socket from a table, and remembers what it was told."""

import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

ANSWERS = {
    "CONNECT": "220 mail.example.test ESMTP",
    "EHLO": "250-mail.example.test\r\n250 PIPELINING",
    "MAIL": "250 2.1.0 ok",
    "RCPT": "250 2.1.5 ok",
    "DATA": "354 go ahead",
    ".": "250 2.0.0 3kf9x2m7q0w1 queued",
    "QUIT": "221 2.0.0 bye",
}


class Scripted:
    """`answers` override ANSWERS by verb or by whole command;
    "" closes the connection there, a number for "." after so many octets."""

    def __init__(self, path: Path, answers: Mapping[str, str] | None = None) -> None:
        self.path = path
        self.answers = {**ANSWERS, **(answers or {})}
        self.commands: list[str] = []
        self.mails: list[bytes] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen(16)
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> "Scripted":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(20)
        self._socket.close()
        self.path.unlink()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            with peer, peer.makefile("rb") as stream:
                try:
                    self._talk(peer, stream)
                except OSError:
                    continue

    def _talk(self, peer: socket.socket, stream: BinaryIO) -> None:
        if not self._answer(peer, "CONNECT"):
            return
        for line in stream:
            command = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
            self.commands.append(command)
            if not self._answer(peer, command):
                return
            if command == "DATA" and self.answers["DATA"].startswith("354"):
                if self.answers["."].isdigit():
                    stream.read(int(self.answers["."]))
                    return
                mail = []
                for text in stream:
                    if text == b".\r\n":
                        break
                    mail.append(text)
                else:
                    return
                self.mails.append(b"".join(mail))
                if not self._answer(peer, "."):
                    return

    def _answer(self, peer: socket.socket, command: str) -> bool:
        answer = self.answers.get(command, self.answers.get(command.partition(" ")[0], "500 5.5.1 what"))
        if answer:
            peer.sendall(answer.encode() + b"\r\n")
        return bool(answer) and command != "QUIT" and not answer.startswith("421")
