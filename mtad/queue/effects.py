"""What a change does to a recipient, as SQL. Pure.

The statements run when the selected recipients are in temp.picked and were written to `touched` as they were.
"""

from typing import assert_never

from mtad.queue.store import Change, Hold, Redirect, Release, Restore, RetryAt, Trash, Unredirect

OPEN = "r.state IN (0, 2)"

# What a recipient was before it was touched the last time, and before it was redirected the first time.
_BEFORE = """
SELECT {column} FROM touched t WHERE t.message = recipient.message AND t.n = recipient.n AND t.audit <
    (SELECT max(audit) FROM touched x WHERE x.message = recipient.message AND x.n = recipient.n)
ORDER BY t.audit DESC LIMIT 1
"""
_FIRST = """
SELECT t.{column} FROM touched t WHERE t.message = recipient.message AND t.n = recipient.n AND t.domain != ''
ORDER BY t.audit LIMIT 1
"""
_REDIRECTED = """
EXISTS (
    SELECT 1 FROM (
        SELECT t.domain, t.address FROM touched t WHERE t.message = r.message AND t.n = r.n AND t.domain != ''
        ORDER BY t.audit LIMIT 1
    ) first WHERE (first.domain, first.address) != (r.domain, r.address)
)
"""
_DUE = "CASE recipient.state WHEN 0 THEN ? ELSE recipient.next_at END"

# RFC 3461 4.2: the address it was for stays known under every other one.
_ORIGINAL = """
CASE WHEN orcpt = '' AND recipient.address NOT GLOB '*[^ -~]*'
THEN 'rfc822;' || replace(replace(replace(recipient.address, '+', '+2B'), '=', '+3D'), ' ', '+20') ELSE orcpt END
"""


def allowed(change: Change) -> str:
    """What it can be done to."""
    match change:
        case Hold() | RetryAt():
            return "r.state = 0"
        case Release():
            return "r.state = 2"
        case Restore():
            return "r.state = 5"
        case Trash():
            return OPEN
        case Redirect():
            return f"{OPEN} AND r.domain != ''"
        case Unredirect():
            return f"{OPEN} AND {_REDIRECTED}"
        case _:
            assert_never(change)


def place(change: Change) -> str:
    """The address and domain to remember."""
    return "address, domain" if isinstance(change, Redirect | Unredirect) else "'', ''"


def changes(change: Change, now: float) -> tuple[str, tuple[object, ...]]:
    """What becomes of a recipient, and the parameters."""
    match change:
        case Hold():
            return "state = 2", ()
        case Release():
            return "state = 0, next_at = ?", (now,)
        case RetryAt(at):
            return "next_at = ?", (at,)
        case Trash():
            return "state = 5, next_at = ?", (now,)
        case Restore():
            state, time = _BEFORE.format(column="t.state"), _BEFORE.format(column="t.next_at")
            return f"state = coalesce(({state}), 0), next_at = coalesce(({time}), ?)", (now,)
        case Redirect(address, domain):
            return (
                f"orcpt = {_ORIGINAL}, address = CASE ?1 WHEN '' THEN recipient.address ELSE ?1 END, domain = ?2,"
                f" next_at = {_DUE.replace('?', '?3')}",
                (address, domain, now),
            )
        case Unredirect():
            first = {column: _FIRST.format(column=column) for column in ("address", "domain")}
            return (
                f"address = coalesce(({first['address']}), recipient.address),"
                f" domain = coalesce(({first['domain']}), recipient.domain),"
                f" next_at = {_DUE}",
                (now,),
            )
        case _:
            assert_never(change)
