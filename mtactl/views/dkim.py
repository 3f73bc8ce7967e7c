"""Signing keys and their DNS records."""

from collections.abc import Iterator, Mapping

from mtactl.table import Column
from mtactl.views import View
from mtactl.words import Row, age, moment
from mtad.mail.text import clean

TTL_S = 3600  # of the records we propose: a mistake is over within the hour


def _record(row: Row, now: float) -> Iterator[str]:
    """The TXT record as zone files have it: strings of at most 255 octets."""
    value = str(row["record"])
    note = f"{row['selector']} {row['note']}" if row.get("note") else ""
    if not value:
        yield clean(note, 2000)
        return
    strings = " ".join(f'"{value[at : at + 255]}"' for at in range(0, len(value), 255))
    if note:
        yield clean(f"; {note}")
    yield clean(f"; {row['algorithm']} {row['bits']} bits, {row['path']}")
    yield clean(f"{row['name']}. {TTL_S} IN TXT ( {strings} )", 2000)


def _pem(row: Row, now: float) -> Iterator[str]:
    for line in str(row["pem"]).splitlines():
        yield clean(line)


def _waits(row: Row, now: float) -> str:
    at = row["ready"] or row["until"]
    if row["waits_for"] and at is not None and at > now:
        return f"{row['waits_for']}, {age(at - now)} more"
    if row["next_rotation"] is not None and not row["waits_for"]:
        return f"its rotation on {moment(row['next_rotation'])}"
    return row["waits_for"] or "-"


_STATUS = (
    Column("DOMAIN", lambda row, now: row["domain"]),
    Column("SELECTOR", lambda row, now: row["selector"]),
    Column("ALGORITHM", lambda row, now: row["algorithm"]),
    Column("STAGE", lambda row, now: row["stage"]),
    Column("SINCE", lambda row, now: moment(row["since"])),
    Column("WAITS FOR", _waits),
)

VIEWS: Mapping[str, View] = {
    "dkim.list": View(
        (
            Column("DOMAIN", lambda row, now: row["domain"]),
            Column("SELECTOR", lambda row, now: row["selector"]),
            Column("ALGORITHM", lambda row, now: row["algorithm"]),
            Column("BITS", lambda row, now: row["bits"], right=True),
            Column("STAGE", lambda row, now: row.get("stage", "active")),
            Column("CREATED", lambda row, now: moment(row.get("created"))),
        )
    ),
    "dkim.generate": View(card=_record),
    "dkim.import": View(card=_record),
    "dkim.show": View(card=_record),
    "dkim.rotate": View(card=_record),
    "dkim.retire": View(card=_record),
    "dkim.export": View(card=_pem),
    "dkim.status": View(_STATUS),
    "dns.push": View(
        (
            Column("DONE", lambda row, now: row["done"]),
            Column("RECORD", lambda row, now: row["name"]),
            Column("TEXT", lambda row, now: row["text"] or "-"),
        )
    ),
}
