"""--receipt and --wait: what became of a mail that is durable already. What fails here is no failure of the mail.

A receipt is one line of JSON. After waiting a second one follows, with the outcome. The queue id is "" where it is not
known yet: of a mail with a key in the maildrop, which may have come before.
"""

import json
import posix
import time
from math import ceil

from mtactl.submit.base import EX_TEMPFAIL, Places, Voice
from mtactl.submit.queue import CallError, call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mtactl.submit.mail import Mail
    from mtactl.submit.maildrop import File
    from mtactl.submit.options import Options

ASK_S = 20.0  # of waiting in one question
PAUSE_S = 0.25  # before a daemon that is down is asked again


def give(mail: "Mail", options: "Options", said: str, file: "File | None", places: Places, voice: Voice) -> int:
    """Print the receipt and wait, as the options say. `said` is the reply to the final dot, `file` what lies in the
    maildrop. The exit code: 0 without waiting."""
    try:
        queue_id = _queue_id(said) if file is None else "" if mail.key else _id_of(file)
        if options.receipt:
            _print(
                {
                    "queue_id": queue_id,
                    "recipients": mail.accepted,
                    "stored": "maildrop" if file else "queue",
                    "repeated": said.endswith(" already"),
                }
            )
        if not options.wait_s:
            return 0
        return _wait({"id": queue_id} if queue_id else {"key": mail.key}, options, places, voice)
    except KeyboardInterrupt:
        voice.note("interrupted; the mail is stored")
    except Exception as error:  # noqa: BLE001  (the mail is stored: that is what the exit code must say)
        voice.note(f"the mail is stored, but {type(error).__name__}: {error}")
    return EX_TEMPFAIL if options.wait_s else 0


def _print(facts: "dict[str, Any]") -> None:
    line = json.dumps(facts).encode() + b"\n"
    try:
        while line:
            line = line[posix.write(1, line) :]
    except OSError:
        return  # nobody reads it


def _queue_id(said: str) -> str:
    """Of "250 2.0.0 3kf9x2m7q0w1 queued"."""
    words = said.split()
    return words[2] if len(words) > 2 else ""


def _id_of(file: "File") -> str:
    """The id that the mail in a file will get."""
    from random import Random

    from mtad.mail.ident import Ids, file_seed

    seed = file_seed(file.name, posix.getuid(), file.inode, file.mtime_ns, "0")
    return Ids(lambda: file.mtime, Random(seed)).new()


def _wait(which: "dict[str, str]", options: "Options", places: Places, voice: Voice) -> int:
    """Until every recipient has an outcome, or the time is up."""
    end = time.monotonic() + options.wait_s
    while True:
        left = max(end - time.monotonic(), 0.0)
        last: dict[str, Any] = {}
        try:
            ask_s = ceil(min(left, ASK_S)) or 1
            for row in call(places.control, "QueueWait", {**which, "timeout": f"{ask_s}s"}):
                last = row
            code, text = 0, ""
        except CallError as error:
            code, text = error.code, str(error)
            if error.name == "NotFound":  # it lies in the maildrop still
                code = EX_TEMPFAIL
        except OSError as error:
            code, text = EX_TEMPFAIL, f"the daemon does not answer at {places.control} ({error.strerror})"
        if code != EX_TEMPFAIL or time.monotonic() >= end:
            if options.receipt and last:
                _print(last)
            if code:
                voice.note(text)
            return code
        if not last:
            time.sleep(min(PAUSE_S, max(end - time.monotonic(), 0.0)))
