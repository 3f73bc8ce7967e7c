"""The audit trail."""

from collections.abc import Mapping

from mtactl.table import Column
from mtactl.views import View
from mtactl.words import moment

VIEWS: Mapping[str, View] = {
    "audit": View(
        (
            Column("NUMBER", lambda row, now: row["number"], right=True),
            Column("WHEN", lambda row, now: moment(row["at"])),
            Column("WHO", lambda row, now: row["who"] or row["uid"]),
            Column("OPERATION", lambda row, now: row["operation"].replace(".", " ").replace("_", "-")),
            Column("CHANGED", lambda row, now: row["changed"], right=True),
            Column("SELECTOR", lambda row, now: row["selector"] or "-"),
            Column("REASON", lambda row, now: row["reason"] or "-"),
        )
    ),
}
