"""The audit trail."""

import time
from collections.abc import Mapping

from mtactl.table import Column
from mtactl.views import View
from mtactl.words import Row


def _when(row: Row, now: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["at"]))


VIEWS: Mapping[str, View] = {
    "audit": View(
        (
            Column("NUMBER", lambda row, now: row["number"], right=True),
            Column("WHEN", _when),
            Column("WHO", lambda row, now: row["who"] or row["uid"]),
            Column("OPERATION", lambda row, now: row["operation"].replace(".", " ").replace("_", "-")),
            Column("CHANGED", lambda row, now: row["changed"], right=True),
            Column("SELECTOR", lambda row, now: row["selector"] or "-"),
            Column("REASON", lambda row, now: row["reason"] or "-"),
        )
    ),
}
