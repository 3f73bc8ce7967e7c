"""Signing keys: make, take over, rotate, retire, and say what to publish."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from mtad.control import published
from mtad.control.admin import Admin, Args, Failed, Handler, Row
from mtad.dkim import rotation, watch
from mtad.dkim.keys import DkimKeyError, KeyFile, domain_of
from mtad.dkim.rotation import KeyState, Look, Move, Ring, RotationError, Sight, Stage

SIGNS_ALREADY = "signs from now on: publish this at once"
WAITS = "signs once every authoritative server serves this record"
UNPUBLISH = "given up; if its record is in DNS, remove it"


def _row(key: KeyFile, note: str = "") -> Row:
    return {
        "domain": key.domain,
        "selector": key.selector,
        "algorithm": key.algorithm,
        "bits": key.bits,
        "name": key.name,
        "record": key.record,
        "path": key.path,
        "created": int(key.created_at),
        "stage": key.stage.value,
        "note": note,
    }


def _state_row(domain: str, key: KeyState, note: str) -> Row:
    """A key of which there may be no file any more."""
    return {
        "domain": domain,
        "selector": key.selector,
        "algorithm": key.algorithm,
        "name": watch.where(domain, key.selector),
        "record": "",
        "created": int(key.made_at),
        "stage": key.stage.value,
        "note": note,
    }


async def dkim_generate(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    domain, selector, now = args["domain"], args["selector"] or "", admin.clock()
    make = partial(admin.keys.generate, domain, selector, args["algorithm"], now, at_once=args["now"])
    for key in await _made(admin, make):
        yield _row(key, SIGNS_ALREADY if key.stage is Stage.ACTIVE else WAITS)


async def dkim_import(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    name, pem = args["key"]
    selector = args["selector"] or name.partition(".")[0]
    adopt = partial(admin.keys.adopt, args["domain"], selector, pem.encode("utf-8"), admin.clock(), at_once=args["now"])
    for key in await _made(admin, adopt):
        weak = key.algorithm == "rsa" and key.bits < 2048
        note = "signs from now on; DNS should serve this" if key.stage is Stage.ACTIVE else WAITS
        yield _row(key, f"{note}; {key.bits} bits are few: rotate soon" if weak else note)


async def dkim_export(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    found = _selected(admin, args)
    for key in found:
        pem = admin.keys.private(key.domain, key.selector).decode("ascii")
        yield {"domain": key.domain, "selector": key.selector, "algorithm": key.algorithm, "pem": pem}


async def dkim_list(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    for key in admin.keys.list():
        yield _row(key)


async def dkim_show(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    for key in _selected(admin, args):
        yield _row(key)


async def dkim_rotate(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    domain, now = _domain(args["domain"]), admin.clock()
    if args["abort"] and (args["now"] or args["schedule"] is not None or args["selector"] or args["algorithm"]):
        raise Failed("Usage", "--abort goes with no other option")
    if args["schedule"] is not None:
        async for row in _schedule(admin, domain, args["schedule"]):
            yield row
        return
    if args["abort"]:
        moves = await _changed(admin, domain, lambda ring: rotation.aborted(ring, now))
        for move in moves:
            yield _told(admin, move, UNPUBLISH)
        return
    underway = admin.keys.ring(domain).rotation
    if not (args["now"] and underway):
        rotate = partial(admin.keys.rotate, domain, (args["selector"] or "").lower(), args["algorithm"], now)
        made = await _made(admin, rotate)
        if not args["now"]:
            for key in made:
                yield _row(key, WAITS)
            return
    rules = watch.rules_of(admin.config)
    moves = await _changed(admin, domain, lambda ring: rotation.switched(ring, now, rules))
    files = {key.selector: key for key in admin.keys.list() if key.domain == domain}
    for move in moves:
        if move.to is Stage.ACTIVE:
            yield _row(files[move.selector], SIGNS_ALREADY)
        else:
            yield _told(admin, move, f"signs no more; keep its record until {_day(now + rules.keep_s)}")


async def _schedule(admin: Admin, domain: str, every_s: float) -> AsyncGenerator[Row, None]:
    if 0 < every_s < rotation.SCHEDULE_MIN_S:
        raise Failed("Usage", "--schedule: at least 1d")
    if not admin.keys.ring(domain).of(Stage.ACTIVE):
        raise Failed("NotFound", f"{domain} has no key that signs: mtactl dkim generate {domain}")

    def scheduled(ring: Ring) -> tuple[Ring, list[Move]]:
        return replace(ring, schedule_s=every_s), []

    await _changed(admin, domain, scheduled)
    ring = admin.keys.ring(domain)
    note = f"is replaced by itself from {_day(rotation.next_at(ring))} on" if every_s else "is replaced when you say so"
    for key in ring.of(Stage.ACTIVE):
        yield _state_row(domain, key, note)


async def dkim_retire(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    domain, now = _domain(args["domain"]), admin.clock()
    rules, oldest = watch.rules_of(admin.config), await published.oldest_at(admin)
    retire = partial(
        rotation.retired,
        selector=args["selector"].lower(),
        now=now,
        rules=rules,
        oldest_at=oldest,
        at_once=args["now"],
    )
    for move in await _changed(admin, domain, retire):
        note = "its private key is destroyed; if its record is in DNS, remove it"
        if move.to is Stage.RETIRING:
            note = f"signs no more; keep its record until {_day(now + rules.keep_s)}"
        yield _told(admin, move, note)


async def dkim_status(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    wanted = _domain(args["domain"]) if args["domain"] else ""
    rules, oldest, now = watch.rules_of(admin.config), await published.oldest_at(admin), admin.clock()
    rings = admin.keys.rings()
    if wanted and wanted not in rings:
        raise Failed("NotFound", f"{wanted} has no key")
    for domain, ring in sorted(rings.items()):
        if wanted in ("", domain):
            for key in ring.keys:
                look = admin.keys.looks.get((domain, key.selector))
                waits = watch.waits_for(key, look, now, rules, oldest)
                spent = key.stage is Stage.RETIRING and now >= key.until
                if admin.offline and (spent or key.stage in (Stage.PENDING, Stage.PUBLISHED)):
                    waits = "the daemon, which is not running"
                yield _status(ring, key, look, waits, rules)


def _status(ring: Ring, key: KeyState, look: Look | None, waits_for: str, rules: rotation.Rules) -> Row:
    ends = key.stage is Stage.RETIRED
    next_look = None if look is None or ends else int(look.at + rotation.interval_s(key, look.at, rules))
    return {
        "domain": ring.domain,
        "selector": key.selector,
        "algorithm": key.algorithm,
        "stage": key.stage.value,
        "since": int(key.since),
        "waits_for": waits_for,
        "ready": int(key.ready_at) if key.stage is Stage.PUBLISHED else None,
        "until": int(key.until) if key.stage is Stage.RETIRING else None,
        "looked": None if look is None else int(look.at),
        "next_look": next_look,
        "servers": [] if look is None else [_seen(sight) for sight in look.sights],
        "next_rotation": int(rotation.next_at(ring)) if ring.schedule_s and key.stage is Stage.ACTIVE else None,
    }


def _seen(sight: Sight) -> Row:
    return {
        "server": sight.server,
        "address": sight.address,
        "via": sight.via,
        "verdict": sight.verdict,
        "detail": sight.detail,
    }


async def dns_push(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    wanted = _domain(args["domain"]) if args["domain"] else ""
    publish = published.publisher(admin.config)
    if publish is None:
        raise Failed("BadConfig", "there is no server to send changes to: set dns.update.server")
    changed = 0
    for domain, ring in sorted(admin.keys.rings().items()):
        if wanted not in ("", domain):
            continue
        records = [_publication(domain, key) for key in ring.keys if key.stage is not Stage.RETIRING]
        if not records:
            continue
        try:
            await publish(records)
        except watch.PublishError as error:
            raise Failed("Busy", str(error)) from None
        changed += len(records)
        for one in records:
            yield {"domain": domain, "name": one.name, "text": one.text, "done": "set" if one.text else "removed"}
    if not changed:
        raise Failed("NotFound", f"{wanted or 'no domain'} has {'no' if wanted else 'any'} key")
    admin.keys.stir()


def _publication(domain: str, key: KeyState) -> watch.Publication:
    text = "" if key.stage is Stage.RETIRED else key.record
    return watch.Publication(watch.where(domain, key.selector), text)


# --- what they share


async def _made(admin: Admin, make: Callable[[], Sequence[KeyFile]]) -> Sequence[KeyFile]:
    """New keys, in use as far as they are."""
    try:
        made = await asyncio.to_thread(make)
        problems = await asyncio.to_thread(admin.keys.load)
    except DkimKeyError as error:
        raise Failed("CannotCreate", str(error)) from None
    except OSError as error:
        raise Failed("CannotCreate", f"{error.filename or admin.config.paths.dkim}: {error.strerror}") from None
    usable = {key.path for key in admin.keys.list()}
    broken = [key.path for key in made if key.path not in usable]
    if broken:
        why = next((problem for problem in problems if problem.startswith(broken[0])), broken[0])
        raise Failed("CannotCreate", f"{why} (it was written, but cannot be used)")
    admin.keys.stir()
    return made


async def _changed(admin: Admin, domain: str, change: Callable[[Ring], tuple[Ring, list[Move]]]) -> Sequence[Move]:
    """A change of a ring, told and under way."""
    try:
        moves = await asyncio.to_thread(admin.keys.change, domain, change)
    except (DkimKeyError, RotationError) as error:
        raise Failed("NothingMatched", str(error)) from None
    except OSError as error:
        raise Failed("CannotCreate", f"{error.filename or admin.config.paths.dkim}: {error.strerror}") from None
    for move in moves:
        admin.events.dkim_stage(move.domain, move.selector, move.to.value)
    admin.keys.stir()
    return moves


def _told(admin: Admin, move: Move, note: str) -> Row:
    key = admin.keys.ring(move.domain).key(move.selector)
    state = key or KeyState(move.selector, "", move.to, admin.clock(), admin.clock(), "")
    return _state_row(move.domain, state, note)


def _selected(admin: Admin, args: Args) -> list[KeyFile]:
    domain, selector = _domain(args["domain"]), (args["selector"] or "").lower()
    found = [key for key in admin.keys.list() if key.domain == domain and selector in {"", key.selector}]
    if not found:
        raise Failed("NotFound", f"{domain} has no key{f' at selector {selector}' if selector else ''}")
    return found


def _domain(given: str) -> str:
    try:
        return domain_of(given)
    except DkimKeyError:
        raise Failed("Usage", f"{given!a} is not a domain name") from None


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


HANDLERS: Mapping[str, Handler] = {
    "dkim.generate": dkim_generate,
    "dkim.import": dkim_import,
    "dkim.export": dkim_export,
    "dkim.list": dkim_list,
    "dkim.show": dkim_show,
    "dkim.rotate": dkim_rotate,
    "dkim.status": dkim_status,
    "dkim.retire": dkim_retire,
    "dns.push": dns_push,
}
