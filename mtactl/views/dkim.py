"""Signing keys and their DNS records."""

from collections.abc import Iterator, Mapping

from mtactl.table import Column
from mtactl.views import View
from mtactl.words import Row, moment
from mtad.mail.text import clean

TTL_S = 3600  # of the records we propose: a mistake is over within the hour


def _record(row: Row, now: float) -> Iterator[str]:
    """The TXT record as zone files have it: strings of at most 255 octets."""
    value = str(row["record"])
    strings = " ".join(f'"{value[at : at + 255]}"' for at in range(0, len(value), 255))
    yield clean(f"; {row['algorithm']} {row['bits']} bits, {row['path']}")
    yield clean(f"{row['name']}. {TTL_S} IN TXT ( {strings} )", 2000)


VIEWS: Mapping[str, View] = {
    "dkim.list": View(
        (
            Column("DOMAIN", lambda row, now: row["domain"]),
            Column("SELECTOR", lambda row, now: row["selector"]),
            Column("ALGORITHM", lambda row, now: row["algorithm"]),
            Column("BITS", lambda row, now: row["bits"], right=True),
            Column("CREATED", lambda row, now: moment(row.get("created"))),
        )
    ),
    "dkim.generate": View(card=_record),
    "dkim.show": View(card=_record),
}
