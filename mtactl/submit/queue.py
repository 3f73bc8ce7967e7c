"""mailq, newaliases, sendmail -q and -bs: what is asked of the running daemon.

While the daemon is down, `mtactl` answers from the files it left.
"""

import _socket
import json
import posix
import sys
import time

from mtactl.submit.base import EX_SOFTWARE, EX_TEMPFAIL, EX_UNAVAILABLE, Voice
from mtactl.submit.options import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from mtactl.submit.base import Places

TIMEOUT_S = 60.0
READ_BYTES = 256 * 1024
FRAME_MAX_BYTES = 1 << 24

# The columns of Postfix for queue ids of more than ten characters.
HEADER = f"{'----Queue ID-----':<17} {'--Size--':>8} {'---Arrival Time----':<19} {'--Sender/Recipient------'}\n"
MARGIN = f"{'':<17} {'':>8} {'':<19} "
FLAGS = {"active": "*", "hold": "!"}


class CallError(Exception):
    """The daemon refused. `name` is the varlink error without its interface."""

    def __init__(self, name: str, text: str, code: int) -> None:
        super().__init__(text)
        self.name = name
        self.code = code


def run(options: Options, places: "Places") -> int:
    """Do what `options.mode` says. The exit code."""
    if options.mode == "smtp":
        return _converse(places.submit)
    try:
        match options.mode:
            case "mailq":
                return _mailq(places)
            case "newaliases":
                list(call(places.control, "AliasCheck", {}))
                return 0
            case _:
                return _flush(options, places.control)
    except CallError as error:
        _say(str(error), options.mode)
        return error.code
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # of standard output: whoever reads has seen enough
            return 0
        return _offline(options.mode, places, error)


def call(path: str, method: str, parameters: "Mapping[str, object]") -> "Iterator[dict[str, Any]]":
    """The replies of a control operation, one by one. CallError, OSError."""
    link = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        link.settimeout(TIMEOUT_S)
        link.connect(path)
        request = {"method": f"io.mtad.{method}", "parameters": parameters, "more": True}
        link.sendall(json.dumps(request).encode() + b"\0")
        for frame in frames(link):
            answer = frame.get("parameters") or {}
            if "error" in frame:
                name = str(frame["error"]).rpartition(".")[2]
                raise CallError(name, str(answer.get("text") or name), int(answer.get("code") or EX_SOFTWARE))
            if answer:
                yield answer
            if not frame.get("continues"):
                return
    finally:
        link.close()


def frames(link: _socket.socket) -> "Iterator[Any]":
    """JSON objects, each ended by NUL. ConnectionResetError when no more come, ValueError for something else."""
    pending = b""
    while len(pending) < FRAME_MAX_BYTES:
        chunk = link.recv(READ_BYTES)
        if not chunk:
            raise ConnectionResetError(104, "the connection was closed")
        *whole, pending = (pending + chunk).split(b"\0")
        yield from json.loads(b"[" + b",".join(whole) + b"]")  # one by one they take twice the time
    raise ValueError("the frame is too large")


def _mailq(places: "Places") -> int:
    sys.stdout.writelines(mailq(call(places.control, "QueueMailq", {})))
    sys.stdout.flush()
    return 0


def mailq(rows: "Iterable[Mapping[str, Any]]") -> "Iterator[str]":
    """Rows with the members of `postqueue -j`, ours or Postfix's, as Postfix's mailq lays them out, piece by piece."""
    count = size_bytes = 0
    minute, until_minute = -1, ""
    for row in rows:
        at, size = int(row["arrival_time"]), int(row["message_size"])
        if at // 60 != minute:
            minute, until_minute = at // 60, time.strftime("%a %b %e %H:%M:", time.localtime(at))
        name = f"{row['queue_id']}{FLAGS.get(row['queue_name'], ' ')}"
        sender = _shown(row["sender"]) or "MAILER-DAEMON"
        yield "\n" if count else HEADER
        yield f"{name:<17} {size:>8} {until_minute}{at % 60:02} {sender}\n{_recipients(row['recipients'])}"
        count += 1
        size_bytes += size
    if count:
        yield f"\n-- {size_bytes // 1024} Kbytes in {count} Request{'s' if count != 1 else ''}.\n"
    else:
        yield "Mail queue is empty\n"


def _recipients(recipients: "Iterable[Mapping[str, Any]]") -> str:
    """A line for each, after the reason if that is another than the one before."""
    lines, said = "", ""
    for recipient in recipients:
        reason = _shown(recipient.get("delay_reason", ""))
        if reason and reason != said:
            lines += f"{f'({reason})':>78}\n"
            said = reason
        lines += f"{MARGIN}{_shown(recipient['address'])}\n"
    return lines


def _shown(text: str) -> str:
    """Remote text for a terminal: no controls."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def _flush(options: Options, path: str) -> int:
    kind, what = options.queue
    parameters: dict[str, object]
    match kind:
        case "id":
            parameters = {"ids": [what]}
        case "recipient":
            parameters = {"to": what} if "@" in what else {"domain": what}
        case "sender":
            parameters = {"from": what}
        case _:
            parameters = {"all": True}
    try:
        list(call(path, "QueueFlush", parameters))
    except CallError as error:
        if error.name != "NothingMatched":
            raise
    return 0


def _offline(mode: str, places: "Places", error: OSError) -> int:
    """Nobody answers on the control socket. What can be read without the daemon, mtactl reads."""
    words = {"mailq": ["queue", "mailq"], "newaliases": ["alias", "check"]}.get(mode)
    if words:
        home = __file__.rpartition("/mtactl/")[0]
        for command in (f"{home}/../../../bin/mtactl", f"{home}/.venv/bin/mtactl"):
            root = ["--root", places.root] if places.root else []
            try:
                posix.execv(command, [command, *root, *words])
            except OSError:
                continue
    _say(f"the daemon does not answer at {places.control} ({error.strerror})", mode)
    return EX_UNAVAILABLE


def _converse(path: str) -> int:
    """-bs: SMTP on standard input and output, spoken by the daemon."""
    link = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        link.connect(path)
    except OSError as error:
        posix.write(1, b"421 4.3.2 The mail system is down\r\n")
        _say(f"the daemon does not answer at {path} ({error.strerror})")
        return EX_TEMPFAIL
    try:
        return _carry(link)
    except OSError as error:
        _say(f"the conversation broke off ({error.strerror})")
        return EX_TEMPFAIL


def _carry(link: _socket.socket) -> int:
    """Octets in both directions, until the daemon closes. OSError."""
    import select

    waiting = [0, link.fileno()]
    while True:
        ready = select.select(waiting, [], [])[0]
        if link.fileno() in ready:
            octets = link.recv(65536)
            if not octets:
                return 0
            while octets:
                octets = octets[posix.write(1, octets) :]
        if 0 in ready:
            octets = posix.read(0, 65536)
            if octets:
                link.sendall(octets)
            else:
                link.shutdown(1)  # SHUT_WR: what was asked is still answered
                waiting.remove(0)


def _say(text: str, mode: str = "") -> None:
    """Each line on standard error, in the name of the command that was called."""
    voice = Voice(mode if mode in {"mailq", "newaliases"} else "sendmail")
    for line in text.split("\n"):
        voice.note(line)
