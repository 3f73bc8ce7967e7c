"""-oem, -oew, -oee: what could not be sent goes back to its sender as a mail, as cron and old scripts expect."""

import posix

from mtactl.submit.base import Down, Failure, Places, Voice, passwd
from mtactl.submit.link import submit
from mtactl.submit.mail import Mail, envelope_sender
from mtactl.submit.options import Options, UsageError
from mtactl.submit.text import Wire

SHOWN = 64 * 1024  # octets of the mail that are returned


def send(voice: Voice, options: Options, refused: "Mail | None") -> bool:
    """Mail what `voice` said to the sender, from the null sender. Whether it is durable; never raises."""
    try:
        to = envelope_sender(options) if refused is None else refused.sender
        if not to:
            return False  # a bounce is never bounced
        mail = _compose(to, voice.said, refused)
        try:
            submit(mail, Places().submit, voice, verbose=False)
        except Down:
            from mtactl.submit import maildrop

            maildrop.store(Places().maildrop, mail.recorded())
    except (Failure, UsageError, OSError) as error:
        voice.note(f"nor could this be mailed: {error}")
        return False
    return True


def _compose(to: str, said: "list[str]", refused: "Mail | None") -> Mail:
    login = passwd()[0]
    lines = [
        "From: MAILER-DAEMON",
        f"To: {to}",
        "Subject: Your mail could not be sent",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "",
        f"A mail that {login} (uid {posix.getuid()}) submitted could not be sent, or not to everyone:",
        "",
        *(f"    {line}" for line in said),
        "",
    ]
    head = "\n".join(lines).encode("utf-8", "replace") + b"\n"
    wire = Wire()
    first = wire.feed(head)
    if refused is not None:
        shown = refused.first[:SHOWN]  # on the wire already
        first += wire.feed(b"It began:\n\n") + shown[: shown.rfind(b"\n") + 1]
    options = Options("send")
    return Mail(options, "", [to], first, iter(()), whole=True)
