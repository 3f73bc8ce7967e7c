"""Settings."""

from collections.abc import Mapping

from mtactl.table import Column
from mtactl.views import View

VIEWS: Mapping[str, View] = {
    "config.show": View(
        (
            Column("KEY", lambda row, now: row["key"]),
            Column("VALUE", lambda row, now: row["value"]),
        )
    ),
}
