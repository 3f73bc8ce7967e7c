"""The daemon itself: how it is, its settings, its aliases, its maildrop."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from operator import attrgetter

from mtad.accounts.aliases import load_aliases
from mtad.config import Config, ConfigErrors
from mtad.config.keys import KEYS, REPEATED
from mtad.config.tree import Address, Target
from mtad.control.admin import Admin, Args, Failed, Handler, Row
from mtad.control.handlers import dropped
from mtad.control.handlers.rows import counts
from mtad.dkim import watch
from mtad.outbound import sitewords

SITES_SHOWN = 5  # in the problems; `site list` has all
WAITING_MAX = 5  # domains named by `status`; `queue stats` has more


async def status(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    facts = dict(admin.app.status())
    stats = await admin.store.stats(admin.clock())
    waiting = [f"{domain} ({recipients})" for domain, recipients, _ in stats.domains[:WAITING_MAX]]
    yield {
        **facts,
        "hostname": admin.config.hostname,
        "domains": list(admin.config.domains),
        **counts(stats),
        "maildrop": await dropped.count(admin),
        "waiting": waiting,
        "problems": [*facts.get("problems", ()), *_about_dkim(admin, stats.oldest_at), *_about_sites(admin)],
    }


def _about_sites(admin: Admin) -> list[str]:
    """The sites that take no mail, those first that say that it is because of us."""
    said = []
    for site in admin.sites.all():
        if site.pace.open:
            listed = sitewords.listed(site)
            what = "lists or mistrusts this server" if listed else "takes no mail"
            whose = ", ".join(sorted(site.domains)[:3]) or site.name
            words = f"the site of {whose} {what}: {site.pace.cause}; next: mtactl site show {site.name}"
            said.append((not listed, words))
    said.sort()
    more = f"and {len(said) - SITES_SHOWN} more sites that take no mail; next: mtactl site list"
    return [words for _, words in said[:SITES_SHOWN]] + ([more] if len(said) > SITES_SHOWN else [])


def _about_dkim(admin: Admin, oldest_at: float | None) -> list[str]:
    """What a human has to do for a signing key."""
    by_hand = admin.config.dns.update.server is None
    return watch.problems(admin.keys, admin.clock(), watch.rules_of(admin.config), oldest_at, by_hand=by_hand)


async def reload(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    notes = await _reload(admin)
    yield {"reloaded": True, "notes": notes}


async def alias_check(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    files = admin.config.local.aliases
    _, problems = await asyncio.to_thread(load_aliases, files)
    if problems:
        raise Failed("BadData", "\n".join(problems))
    await _reload(admin)
    yield {"files": list(files), "problems": [], "reloaded": not admin.offline}


async def maildrop_drain(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    yield {"accepted": await admin.app.drain_maildrop()}


async def config_show(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    for key, value in settings(admin.config):
        yield {"key": key, "value": value}


async def _reload(admin: Admin) -> list[str]:
    try:
        return list(await admin.app.reload())
    except ConfigErrors as errors:
        kept = "nothing was changed: the settings of before stay in use"
        raise Failed("BadConfig", f"{errors}\n{kept}") from None


def settings(config: Config) -> list[tuple[str, str]]:
    """Every setting as (key of mtad.toml, value as it is written there). Secrets become "(set)". Pure."""
    shown = []
    for key in KEYS:
        if key.section in REPEATED:
            continue
        value = attrgetter(f"{key.section}.{key.field}".removeprefix("."))(config)
        shown.append((key.path, _secret(value) if key.type == "secret" else toml(value, key.type)))
    tables: list[tuple[str, tuple[object, ...]]] = [
        ("tls.certificate", config.tls.certificates),
        ("delivery.route", config.delivery.routes),
        ("delivery.tls", config.delivery.tls),
        ("dkim.sign", config.dkim.rules),
    ]
    shown += [
        (f'delivery.site."{site.match}".{key.name}', toml(value, key.type))
        for site in config.delivery.sites
        for key in KEYS
        if key.section == "delivery.site" and (value := getattr(site, key.field)) not in (0, ())
    ]
    shown += [
        (f"{section}[{n}].{key.name}", toml(getattr(table, key.field), key.type))
        for section, several in tables
        for n, table in enumerate(several, 1)
        for key in KEYS
        if key.section == section
    ]
    return shown


def _secret(value: str) -> str:
    return '"(set)"' if value else '""'


def toml(value: object, kind: str) -> str:
    """A value of the tree as mtad.toml has it; `kind` is the key's type for people."""
    match value:
        case bool():
            return "true" if value else "false"
        case tuple():
            return "[" + ", ".join(toml(one, kind) for one in value) + "]"
        case int() | float() if "duration" in kind:
            return f'"{_duration(float(value))}"'
        case int() if "size" in kind:
            return f'"{_size(value)}"'
        case int() | float():
            return str(value)
        case None:
            return '""'
        case Address(host, port):
            return f'"[{host}]:{port}"' if ":" in host else f'"{host}:{port}"'
        case Target():
            return quoted(value.written())
        case _:
            return quoted(str(value))


def quoted(text: str) -> str:
    """A TOML basic string. JSON's escapes are a part of TOML's; DEL is the one control that JSON lets through."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:g}s"


def _size(octets: int) -> str:
    for unit, length in (("G", 1 << 30), ("M", 1 << 20), ("k", 1 << 10)):
        if octets >= length and octets % length == 0:
            return f"{octets // length}{unit}"
    return str(octets)


HANDLERS: Mapping[str, Handler] = {
    "status": status,
    "reload": reload,
    "alias.check": alias_check,
    "maildrop.drain": maildrop_drain,
    "config.show": config_show,
}
