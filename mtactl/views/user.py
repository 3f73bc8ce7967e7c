"""Accounts."""

from collections.abc import Iterator, Mapping

from mtactl.table import Column
from mtactl.views import View
from mtactl.words import Row, lines, moment, pairs, shut
from mtad.mail.text import clean

LITTLE = 4  # what is left of a limit is told when it is no more than a quarter


def _user(row: Row, now: float) -> Iterator[str]:
    facts = [
        ("name", row["name"]),
        ("added", moment(row["created"])),
        ("disabled", row["disabled"]),
        ("receives only", "yes" if row["receive_only"] else ""),
        ("password", f"{row['scheme']}{', SCRAM' if row['scram'] else ''}"),
        ("messages", f"{row['messages']} of {row['messages_per_day'] or 'any number'} within 24 hours"),
        ("new recipients", f"{row['new_recipients']} of {row['new_recipients_per_day'] or 'any number'}"),
        *lines("also sends as", row["senders"]),
        *lines("certificates", row["certificates"]),
        *lines("app passwords", [f"{one['label']} (used {moment(one['used'])})" for one in row["app_passwords"]]),
    ]
    yield from pairs([(name, value) for name, value in facts if value])


def _says(template: str) -> View:
    """One sentence of the members of the row."""
    return View(card=lambda row, now: iter([clean(template.format(**row), 2000)]))


def _passwd(row: Row, now: float) -> Iterator[str]:
    yield clean(f"{row['name']}: password changed", 2000)
    yield from _app_passwords(row)
    if row["disabled"]:
        yield clean(f"  still disabled ({row['disabled']}): mtactl user enable {row['name']}", 2000)


def _app_passwords(row: Row) -> Iterator[str]:
    """They are passwords too."""
    if row.get("app_passwords"):
        yield clean(f"  app passwords still work: {', '.join(row['app_passwords'])}", 2000)
        yield clean(f"    to remove one: mtactl user app-password remove {row['name']} LABEL", 2000)


def _frozen(row: Row, now: float) -> Iterator[str]:
    yield clean(f"{row['name']}: frozen ({row['disabled']})", 2000)
    yield f"  {row['sessions']} sessions ended, {row['held']} recipients held, and what still comes will be"
    if row["active"]:
        yield f"  {row['active']} of these are being delivered just now: what the other side answers wins"
    name, audit = row["name"], row["audit"]
    if row["held"]:
        yield clean(f"  look: mtactl queue list --audit {audit}   # audit {audit} = this freeze", 2000)
    yield clean(f"  then: mtactl incident report --user {name}", 2000)
    yield clean(f"        mtactl user passwd {name}   # before it is thawed", 2000)
    if row.get("app_passwords"):
        labels = ", ".join(row["app_passwords"])
        yield clean(f"        mtactl user app-password remove {name} LABEL   # there are: {labels}", 2000)
    yield clean(f"  `user thaw {name}` leaves held mail held; with --release it is sent, spam too", 2000)


def _thawed(row: Row, now: float) -> Iterator[str]:
    yield clean(f"{row['name']}: enabled", 2000)
    if row.get("released"):
        yield f"  {row['released']} recipients released{shut(row.get('waiting', ()))}"
    if row.get("held"):
        yield clean(
            f"  {row['held']} recipients are still held: mtactl queue list --user {row['name']} --state held", 2000
        )
        yield clean(f"    to send them: mtactl queue release --user {row['name']}", 2000)
    if row.get("password_changed") is False:
        yield clean(f"  the password is still the one from before: mtactl user passwd {row['name']}", 2000)
    yield from _app_passwords(row)
    for name, words in (("messages", "messages"), ("new_recipients", "new recipients")):
        most = row.get(f"{name}_per_day")
        if most and (rest := max(most - row[name], 0)) * LITTLE <= most:
            yield f"  {rest} of {most} {words} are left within 24 hours"


def _removed(row: Row, now: float) -> Iterator[str]:
    yield f"{row['name']} {'would be' if 'would_change' in row else 'is'} removed"


def _senders(row: Row, now: float) -> Iterator[str]:
    yield f"{clean(row['name'])} may also send as: {clean(', '.join(row['senders']) or '-', 2000)}"


def _app_password(row: Row, now: float) -> Iterator[str]:
    yield str(row["password"])


VIEWS: Mapping[str, View] = {
    "user.list": View(
        (
            Column("NAME", lambda row, now: row["name"]),
            Column("ADDED", lambda row, now: moment(row["created"])),
            Column("DISABLED", lambda row, now: row["disabled"]),
        )
    ),
    "user.show": View(card=_user),
    "user.add": _says("{name}: added"),
    "user.passwd": View(card=_passwd),
    "user.verify": _says("{name}: the password is right"),
    "user.disable": _says("{name}: disabled"),
    "user.enable": View(card=_thawed),
    "user.freeze": View(card=_frozen),
    "user.thaw": View(card=_thawed),
    "user.remove": View(card=_removed),
    "user.grant": View(card=_senders),
    "user.revoke": View(card=_senders),
    "user.app_password.add": View(card=_app_password),
    "user.app_password.list": View(
        (
            Column("LABEL", lambda row, now: row["label"]),
            Column("ADDED", lambda row, now: moment(row["created"])),
            Column("USED", lambda row, now: moment(row["used"])),
        )
    ),
    "user.app_password.remove": _says("{name}: app password {label} removed"),
    "user.import": View(
        (
            Column("LINE", lambda row, now: row["line"], right=True),
            Column("NAME", lambda row, now: row["name"]),
            Column("RESULT", lambda row, now: row["result"]),
            Column("PROBLEM", lambda row, now: row["problem"]),
        ),
        past="added",
    ),
}
