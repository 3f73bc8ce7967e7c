"""What DNS serves of our signing keys, and how it is changed: the rooms `dkim` and `dns` put together."""

from collections.abc import Sequence

from mtad.config import Config
from mtad.control.admin import Admin
from mtad.dkim import watch
from mtad.dkim.rotation import KeyState, Look, Sight, Stage, Verdict, judge
from mtad.dns import update
from mtad.dns.authority import Authority, Outcome, ServerAnswer, Survey
from mtad.dns.resolver import Resolver
from mtad.mail.envelope import Clock


def authority(config: Config, clock: Clock) -> Authority:
    """Who is asked about our own domains."""
    return Authority(Resolver(config.dns, clock), config.dns.authorities)


def asker(config: Config, clock: Clock) -> watch.Ask:
    """Asks all servers about a key."""
    servers = authority(config, clock)

    async def ask(domain: str, key: KeyState) -> Look:
        name = watch.where(domain, key.selector)
        survey = await servers.ask_all(name, "TXT")
        negative_s = 0.0
        if key.stage in (Stage.PENDING, Stage.PUBLISHED):
            # No such type of record is there: the answer tells how long resolvers keep such answers in this zone.
            nothing = await servers.ask_all(name, "SOA")
            negative_s = max((one.ttl_s for one in nothing.answers if one.outcome.negative), default=0.0)
        return Look(sights(survey, key.record), clock(), negative_s)

    return ask


def publisher(config: Config) -> watch.Publish | None:
    """Changes DNS; None where nobody said how."""
    if config.dns.update.server is None:
        return None

    async def publish(records: Sequence[watch.Publication]) -> None:
        changes = [update.Change(record.name, record.text) for record in records]
        try:
            await update.send(config.dns.update, config.domains, changes)
        except update.UpdateError as error:
            raise watch.PublishError(str(error)) from None

    return publish


def sights(survey: Survey, record: str) -> tuple[Sight, ...]:
    """The answers of all servers as a verdict each on the key that should be there. Pure."""
    found = [_sight(answer, record) for answer in survey.answers]
    if survey.problem:
        found.append(Sight("DNS", "", "udp", "unknown", detail=survey.problem))
    return tuple(found)


def _sight(answer: ServerAnswer, record: str) -> Sight:
    verdict: Verdict
    verdict, detail = "unknown", answer.detail
    match answer.outcome:
        case Outcome.ANSWER:
            verdict, detail = judge(answer.texts(), record)
        case Outcome.NO_DATA | Outcome.NO_NAME:
            verdict, detail = "absent", "no such record"
        case Outcome.ALIAS:
            verdict = "alias"
        case Outcome.TRUNCATED:
            verdict = "truncated"
        case Outcome.NO_ROUTE:
            verdict = "unasked"
        case Outcome.LAME | Outcome.FAILED | Outcome.SILENT | Outcome.BROKEN | Outcome.UNRESOLVED:
            pass
    server = answer.server
    address = server.address if server.address != server.name else ""
    if server.port != 53:
        address = f"{address or server.name} port {server.port}"
    return Sight(server.name, address, answer.via, verdict, answer.ttl_s, detail or answer.outcome.value)


async def oldest_at(admin: Admin) -> float | None:
    """When the oldest mail of the queue was accepted; None without any. On a stopped daemon's data, where the queue is
    not looked at, it may be as old as can be."""
    if admin.offline:
        return 0.0
    return (await admin.store.stats(admin.clock())).oldest_at
