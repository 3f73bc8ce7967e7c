"""Addresses that are not tried."""

from collections.abc import Iterator, Mapping

from mtactl.table import Column
from mtactl.views import View
from mtactl.words import Row, age, moment
from mtad.mail.text import clean


def _whose(row: Row) -> str:
    return row["user"] or "everybody"


def _of(row: Row) -> str:
    return f" of {row['user']}" if row["user"] else ""


def _all(row: Row) -> str:
    return "" if row["user"] else ", whoever sends it"


def _added(row: Row, now: float) -> Iterator[str]:
    until = f" until {moment(row['expires'])}" if row["expires"] is not None else ""
    yield clean(f"{row['address']}: gets no more mail{_of(row)}{until}{_all(row)}", 2000)


def _removed(row: Row, now: float) -> Iterator[str]:
    yield clean(f"{row['address']}: gets mail{_of(row)} again{_all(row)}", 2000)


_COLUMNS = (
    Column("ADDRESS", lambda row, now: row["address"]),
    Column("MAIL OF", lambda row, now: _whose(row)),
    Column("SINCE", lambda row, now: moment(row["created"])),
    Column("EXPIRES", lambda row, now: "never" if row["expires"] is None else f"in {age(row['expires'] - now)}"),
    Column("BY", lambda row, now: row["made_by"]),
    Column("REASON", lambda row, now: row["reason"] or "-"),
)

VIEWS: Mapping[str, View] = {
    "suppress.list": View(_COLUMNS),
    "suppress.lookup": View(_COLUMNS),
    "suppress.add": View(card=_added),
    "suppress.remove": View(card=_removed),
}
