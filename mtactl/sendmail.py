"""sendmail(1), mailq(1) and newaliases(1) by the name they are called.

A mail goes to the daemon as SMTP over `submit.sock`; who submits is what the kernel says. While the daemon is down it
waits as a file in `maildrop/`. Exit 0: it is on stable storage. Exit 75: nothing is stored and a retry is safe; with
two exceptions. A daemon that died between the final dot and its reply may hold the mail, and standard error says so;
and who asked to --wait is told by 75 that the mail is stored and still waits.

This is the start-up path of every program that mails: it imports nothing of the standard library but C modules that
the bare interpreter has, and everything rare late.
"""

import posix

from mtactl.submit.base import EX_TEMPFAIL, EX_USAGE, Down, Failure, Places, Voice
from mtactl.submit.link import submit
from mtactl.submit.mail import Mail, compose
from mtactl.submit.options import Options, UsageError, named, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mtactl.submit.maildrop import File


def main(argv: list[str]) -> int:
    """Run one command. Returns the exit code; never raises."""
    options, voice = named(argv), Voice()
    try:
        read(options, argv)
        voice.quiet = options.errors == "quiet"
        for warning in options.warnings:
            voice.note(warning)
        if options.mode == "send":
            return send(options, voice)
        if options.mode == "nothing":
            return 0
        return _other(options, voice)
    except UsageError as error:
        voice.error(str(error))
        return EX_USAGE
    except Failure as failure:
        voice.error(failure.text)
        return failure.code
    except KeyboardInterrupt:
        voice.error("interrupted: nothing was stored")
        return EX_TEMPFAIL
    except BaseException as error:  # noqa: BLE001  (a traceback would exit 1, which callers take for "lost")
        voice.error(f"internal error, nothing was stored: {type(error).__name__}: {error}")
        return EX_TEMPFAIL


def _other(options: Options, voice: Voice) -> int:
    if options.mode == "help":
        from mtactl.submit.flags import lines

        posix.write(1, "\n".join(["usage: sendmail [options] [recipient ...]", *lines(), ""]).encode())
        return 0
    if options.mode == "verify":
        from mtactl.submit import verify

        return verify.run(options, Places(), voice)
    from mtactl.submit import queue

    return queue.run(options, Places())


def send(options: Options, voice: Voice) -> int:
    """Submit the mail on standard input."""
    mail: Mail | None = None
    mails_errors = options.errors in ("mail", "mailed is good")
    try:
        mail, bad = compose(options, voice)
        waited = _store(mail, options, voice)
        code = mail.refused or bad or waited
    except Failure as failure:
        if not mails_errors:
            raise
        voice.error(failure.text)
        code = failure.code
    if voice.said and mails_errors and code != EX_TEMPFAIL:
        from mtactl.submit import complaint

        if complaint.send(voice, options, mail) and options.errors == "mailed is good":
            return 0
    return code


def _store(mail: Mail, options: Options, voice: Voice) -> int:
    """To the daemon, or into the maildrop. When it returns the mail is durable; the code is that of waiting."""
    places, said, dropped = Places(), "", None
    try:
        said = submit(mail, places.submit, voice, verbose=options.verbose)
    except Down as down:
        dropped = _drop(mail, places, down)
    if not options.receipt and not options.wait_s:
        return 0
    from mtactl.submit import receipt

    return receipt.give(mail, options, said, dropped, places, voice)


def _drop(mail: Mail, places: Places, down: Down) -> "File":
    """Into the maildrop, for the daemon when it comes."""
    if posix.environ.get(b"MTA_SENDMAIL_STRICT", b"") == b"1":
        raise Failure(EX_TEMPFAIL, f"{down}; nothing was stored (MTA_SENDMAIL_STRICT)")
    if not places.maildrop:
        raise Failure(EX_TEMPFAIL, f"{down}; no maildrop is known for this socket, nothing was stored")
    from mtactl.submit import maildrop

    if places.root:
        maildrop.prepare(places.root)
    try:
        file = maildrop.store(places.maildrop, mail.recorded())
    except OSError as error:
        raise Failure(
            EX_TEMPFAIL, f"{down}; nor can it wait in {places.maildrop}: {error.strerror}; nothing was stored"
        ) from None
    maildrop.nudge(places.control)
    mail.accepted = mail.recipients
    return file
