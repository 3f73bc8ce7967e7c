"""What a check found."""

from collections.abc import Iterator, Mapping

from mtactl.views import View
from mtactl.words import Row
from mtad.mail.text import clean


def _found(row: Row, now: float) -> Iterator[str]:
    lead = {"seen": "looked at"}.get(row["level"], row["level"])
    yield f"{lead}: {clean(row['what'], 1000)}"
    if row["done"]:
        yield f"  done: {clean(row['done'], 200)}"
    elif row["fix"]:
        yield f"  fix: {clean(row['fix'], 500)}"


VIEWS: Mapping[str, View] = {"check": View(card=_found)}
