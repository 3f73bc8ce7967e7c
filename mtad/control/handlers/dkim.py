"""Signing keys: make, list, and say what to publish."""

import asyncio
from collections.abc import AsyncGenerator, Mapping

from mtad.control.admin import Admin, Args, Failed, Handler, Row
from mtad.dkim.keys import DkimKeyError, KeyFile
from mtad.mail import address as addresses


def _row(key: KeyFile) -> Row:
    return {
        "domain": key.domain,
        "selector": key.selector,
        "algorithm": key.algorithm,
        "bits": key.bits,
        "name": key.name,
        "record": key.record,
        "path": key.path,
        "created": int(key.created_at),
    }


async def dkim_generate(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    domain, selector, now = args["domain"], args["selector"] or "", admin.clock()
    try:
        made = await asyncio.to_thread(admin.keys.generate, domain, selector, args["algorithm"], now)
        problems = await asyncio.to_thread(admin.keys.load)
    except DkimKeyError as error:
        raise Failed("CannotCreate", str(error)) from None
    except OSError as error:
        raise Failed("CannotCreate", f"{error.filename or admin.config.paths.dkim}: {error.strerror}") from None
    names = " ".join(key.name for key in made)
    admin.events.operator(str(admin.caller), "dkim.generate", names, "", len(made))
    broken = [key.path for key in made if any(problem.startswith(f"{key.path}: ") for problem in problems)]
    if broken:
        raise Failed("CannotCreate", f"{broken[0]} was written but cannot be used")
    for key in made:
        yield _row(key)


async def dkim_list(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    for key in admin.keys.list():
        yield _row(key)


async def dkim_show(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    try:
        domain = addresses.to_ascii(args["domain"]).lower()
    except addresses.AddressError:
        raise Failed("Usage", f"{args['domain']!a} is not a domain name") from None
    selector = (args["selector"] or "").lower()
    found = [key for key in admin.keys.list() if key.domain == domain and selector in {"", key.selector}]
    if not found:
        raise Failed("NotFound", f"{domain} has no key{f' at selector {selector}' if selector else ''}")
    for key in found:
        yield _row(key)


HANDLERS: Mapping[str, Handler] = {
    "dkim.generate": dkim_generate,
    "dkim.list": dkim_list,
    "dkim.show": dkim_show,
}
