"""What would become of a mail."""

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import asdict
from typing import cast

from mtad.accounts.aliases import load_aliases
from mtad.accounts.directory import Directory
from mtad.control.admin import Admin, Args, Failed, Handler, Row
from mtad.dns.resolver import Resolver
from mtad.mail import address as addresses
from mtad.mail.envelope import Message, Peer, Recipient
from mtad.mail.reply import Reply
from mtad.outbound import explain as plans
from mtad.outbound.planner import Planner
from mtad.outbound.policies import Policies, PolicyStore
from mtad.outbound.security import Security
from mtad.queue.holdrules import rule_of
from mtad.tls.mta_sts import Known


class _Remembered:
    """The MTA-STS policies that a stopped daemon left; what is fetched now is not kept."""

    def __init__(self, admin: Admin) -> None:
        self._store = cast("PolicyStore", admin.store)

    async def load_policies(self) -> Sequence[Known]:
        return await self._store.load_policies()

    async def save_policies(self, policies: Sequence[Known]) -> None:
        pass

    async def delete_policies(self, domains: Sequence[str]) -> None:
        pass


async def explain(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    config = admin.config
    address = _address(args["address"], "address", config.domains[0])
    user = args["user"] or ""
    written = args["from"] or user or "<>"
    sender = "" if written == "<>" else _address(written, "from", config.domains[0])
    aliases, _ = await asyncio.to_thread(load_aliases, config.local.aliases)
    directory = Directory(config, admin.users, aliases, admin.clock)
    resolver = Resolver(config.dns, admin.clock)
    security = admin.app.security()
    policies: Policies | None = None
    if security is None:
        policies = Policies(config, resolver, _Remembered(admin), admin.events, admin.clock)
        await policies.load()
        security = Security(config, resolver, policies, admin.events, admin.clock)
        await security.look()

    def suppressed(user: str, address: str) -> Reply | None:
        one = admin.suppressions.find(user, address)
        return one.reply() if one is not None else None

    rules, now = await admin.store.hold_rules(), admin.clock()
    message = Message("", sender, 0, now, now, Peer("submission", user=user))

    def held(final: str) -> str:
        one = Recipient("", 1, final, address, addresses.domain_of(final))
        rule = rule_of(rules, message, one, now)
        if rule is None:
            return ""
        what = f"{rule.user} is frozen" if rule.freezes else f"hold rule {rule.id}"
        return f"an operator holds such mail ({what}{f': {rule.reason}' if rule.reason else ''})"

    try:
        planner = Planner(config, resolver, security, random.Random())
        outlook = admin.app.outlook()
        found = await plans.explain(config, directory, planner, outlook, suppressed, address, sender, user, held)
    finally:
        if policies is not None:
            await policies.close()
    yield asdict(found)


def _address(given: str, name: str, domain: str) -> str:
    full = given if "@" in given else f"{given}@{domain}"
    try:
        return addresses.parse(full, utf8=True)
    except addresses.AddressError as error:
        raise Failed("Usage", f"{name}: {given!r} is no mail address: {error}") from None


HANDLERS: Mapping[str, Handler] = {"explain": explain}
