"""Certificates."""

from collections.abc import Mapping

from mtactl.table import Column
from mtactl.views import View
from mtactl.words import age, moment

_LIST = View(
    (
        Column("CERTIFICATE", lambda row, now: row["cert"]),
        Column("NAMES", lambda row, now: " ".join(row["names"]) or "-"),
        Column("EXPIRES", lambda row, now: moment(row["expires"])),
        Column("IN", lambda row, now: "over" if row["expires"] <= now else age(row["expires"] - now), right=True),
    )
)

VIEWS: Mapping[str, View] = {"tls.show": _LIST, "tls.reload": _LIST}
