"""Rules by which new mail is held."""

from collections.abc import AsyncGenerator, Mapping

from mtad.control.admin import Admin, Args, Failed, Handler, Row
from mtad.mail import address as addresses
from mtad.queue.audit import HoldRule

RULES_MAX = 1000  # each is looked at for every new recipient
CONDITIONS = ("from", "to", "domain", "user", "ip")


def _row(rule: HoldRule) -> Row:
    return {
        "number": rule.id,
        "from": rule.sender,
        "to": rule.recipient,
        "domain": rule.domain,
        "user": rule.user,
        "ip": rule.ip,
        "reason": rule.reason,
        "made_by": rule.who,
        "created": int(rule.made_at),
        "expires": int(rule.until_at) if rule.until_at else None,
        "freezes": rule.freezes,
    }


async def queue_hold_rule_list(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    for rule in await admin.store.hold_rules():
        yield _row(rule)


async def queue_hold_rule_add(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    if not any(args[name] for name in CONDITIONS):
        raise Failed("Usage", f"say which mail: {', '.join(f'--{name}' for name in CONDITIONS)}")
    try:
        domain = addresses.to_ascii(args["domain"]).lower() if args["domain"] else ""
    except addresses.AddressError:
        raise Failed("Usage", f"domain: {args['domain']!a} is not a domain name") from None
    if len(await admin.store.hold_rules()) >= RULES_MAX:
        raise Failed("CannotCreate", f"there are {RULES_MAX} rules already")
    now = admin.clock()
    rule = HoldRule(
        0,
        args["from"] or "",
        args["to"] or "",
        domain,
        args["user"] or "",
        args["ip"] or "",
        until_at=now + args["for"] if args["for"] is not None else 0.0,
    )
    number = await admin.store.add_hold_rule(rule, admin.entry, now)
    made = next(one for one in await admin.store.hold_rules() if one.id == number)
    yield {**_row(made), "audit": number, "undo": f"mtactl queue hold-rule remove {number}"}


async def queue_hold_rule_remove(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    number = args["number"]
    rules = [rule for rule in await admin.store.hold_rules() if rule.id == number]
    if not rules or not await admin.store.remove_hold_rule(number):
        raise Failed("NotFound", f"there is no hold rule {number}; `mtactl queue hold-rule list` shows them")
    yield _row(rules[0])


HANDLERS: Mapping[str, Handler] = {
    "queue.hold_rule.list": queue_hold_rule_list,
    "queue.hold_rule.add": queue_hold_rule_add,
    "queue.hold_rule.remove": queue_hold_rule_remove,
}
