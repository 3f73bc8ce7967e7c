"""Records as name servers and providers take them. Pure: rows as `mtactl dns records --json` prints them -> text.

What a name has already counts: the apex of a domain holds TXT records of others too, and a format that replaces all of
them (Route 53, octoDNS) has to repeat what is to stay. `live` of a row is that, None where nobody knows it.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

_OURS = ("v=spf1", "v=dmarc1", "v=stsv1", "v=tlsrptv1", "v=dkim1")


def zone(domain: str, rows: Sequence[Row], policy: str) -> Iterator[str]:
    """A zone file, whatever its origin; what belongs into other zones is in comments."""
    yield f"; {domain}: what its zone should have"
    for row in rows:
        if not row["elsewhere"]:
            yield f"; {row['about']}"
            yield _line(row)
    others = [row for row in rows if row["elsewhere"]]
    if others:
        yield ";"
        yield "; not in this zone:"
        for row in others:
            yield f"; {row['elsewhere']} ({row['about']}):"
            yield f"; {_line(row)}"
    if policy:
        yield ";"
        yield f"; the file that https://mta-sts.{domain}/.well-known/mta-sts.txt has to serve as text/plain:"
        yield from (f"; {line}" for line in policy.splitlines())


def nsupdate(domain: str, rows: Sequence[Row], policy: str) -> Iterator[str]:
    """For nsupdate(1). Only records that ours replace are deleted; other TXT records of a name stay."""
    yield f"zone {domain}."
    for row in _in_zone(rows):
        first = _first(rows, row)
        if first and row["type"] == "TXT":
            for old in row["live"] or ():
                if replaced(old, row):
                    yield f"update delete {row['name']}. TXT {old}"
        elif first and row["type"] != "PTR":
            yield f"update delete {row['name']}. {row['type']}"
        yield f"update add {row['name']}. {row['ttl']} {row['type']} {row['value']}"
    yield "send"


def cloudflare(domain: str, rows: Sequence[Row], policy: str) -> Iterator[str]:
    """The body of POST /zones/ZONE_ID/dns_records/batch. It only adds: delete first what differs."""
    posts = [_cloudflare(row) for row in _in_zone(rows) if row["value"] not in (row["live"] or ())]
    yield json.dumps({"posts": posts}, indent=2)


def route53(domain: str, rows: Sequence[Row], policy: str) -> Iterator[str]:
    """For `aws route53 change-resource-record-sets --change-batch file://...`."""
    changes = []
    for name, kind, ttl, values in _sets(rows):
        records = [{"Value": value} for value in values]
        record = {"Name": f"{name}.", "Type": kind, "TTL": ttl, "ResourceRecords": records}
        changes.append({"Action": "UPSERT", "ResourceRecordSet": record})
    yield json.dumps({"Comment": f"mail of {domain}", "Changes": changes}, indent=2)


def octodns(domain: str, rows: Sequence[Row], policy: str) -> Iterator[str]:
    """A zone file of octoDNS. JSON's scalars are YAML's."""
    names: dict[str, list[dict[str, Any]]] = {}
    for name, kind, ttl, values in _sets(rows):
        key = name.removesuffix(domain).removesuffix(".")
        found = [_octodns(kind, value) for value in values]
        names.setdefault(key, []).append({"type": kind, "ttl": ttl, "values": found})
    yield "---"
    for key, sets in sorted(names.items()):
        yield f"{json.dumps(key)}:"
        for one in sets:
            yield f"- type: {one['type']}"
            yield f"  ttl: {one['ttl']}"
            yield "  values:"
            for value in one["values"]:
                if isinstance(value, str):
                    yield f"  - {json.dumps(value)}"
                else:
                    for number, (word, part) in enumerate(value.items()):
                        yield f"  {'-' if not number else ' '} {word}: {json.dumps(part)}"


def sts_file(domain: str, rows: Sequence[Row], policy: str) -> Iterator[str]:
    """The MTA-STS policy alone, to be written where the web server has it."""
    yield from policy.splitlines()


FORMATS: Mapping[str, Callable[[str, Sequence[Row], str], Iterable[str]]] = {
    "zone": zone,
    "nsupdate": nsupdate,
    "cloudflare": cloudflare,
    "route53": route53,
    "octodns": octodns,
    "mta-sts": sts_file,
}
MERGED = frozenset({"nsupdate", "cloudflare", "route53", "octodns"})
"""Those that have to know what DNS has."""


def _line(row: Row) -> str:
    return f"{row['name']}. {row['ttl']} IN {row['type']} {row['value']}"


def _in_zone(rows: Iterable[Row]) -> Iterator[Row]:
    return (row for row in rows if not row["elsewhere"])


def _first(rows: Sequence[Row], row: Row) -> bool:
    """Whether it is the first of its name and type."""
    return next(one for one in rows if (one["name"], one["type"]) == (row["name"], row["type"])) is row


def replaced(old: str, row: Row) -> bool:
    """Whether a TXT record that is there gives way to ours: it begins with the same version, or is all of the name."""
    if "_" in row["name"].partition(".")[0] or "._domainkey." in row["name"]:
        return True
    return _version(old) in _OURS and _version(old) == _version(row["value"])


def _version(value: str) -> str:
    return value.replace('"', "").replace(";", " ").strip().partition(" ")[0].lower()


def _sets(rows: Sequence[Row]) -> Iterator[tuple[str, str, int, list[str]]]:
    """(name, type, TTL, values) of each set of records, with what is there of others and has to stay."""
    sets: dict[tuple[str, str], list[Row]] = {}
    for row in _in_zone(rows):
        sets.setdefault((row["name"], row["type"]), []).append(row)
    for (name, kind), several in sets.items():
        values = [row["value"] for row in several]
        if kind == "TXT":
            values += [old for old in several[0]["live"] or () if not any(replaced(old, row) for row in several)]
        yield name, kind, several[0]["ttl"], list(dict.fromkeys(values))


def _cloudflare(row: Row) -> dict[str, Any]:
    record: dict[str, Any] = {"name": row["name"], "type": row["type"], "ttl": row["ttl"], "comment": row["about"]}
    parts = row["value"].split(" ")
    match row["type"]:
        case "MX":
            return {**record, "priority": int(parts[0]), "content": parts[1].removesuffix(".") or "."}
        case "SRV":
            words = ("priority", "weight", "port")
            numbers = {word: int(part) for word, part in zip(words, parts, strict=False)}
            return {**record, "data": {**numbers, "target": parts[3].removesuffix(".")}}
        case "TLSA":
            words = ("usage", "selector", "matching_type")
            numbers = {word: int(part) for word, part in zip(words, parts, strict=False)}
            return {**record, "data": {**numbers, "certificate": parts[3]}}
        case "CAA":
            return {**record, "data": {"flags": int(parts[0]), "tag": parts[1], "value": parts[2].strip('"')}}
        case "A" | "AAAA":
            return {**record, "content": row["value"], "proxied": False}  # a proxy there speaks no SMTP
        case _:
            return {**record, "content": row["value"]}


def _octodns(kind: str, value: str) -> Any:
    parts = value.split(" ")
    match kind:
        case "MX":
            return {"preference": int(parts[0]), "exchange": parts[1]}
        case "SRV":
            numbers = {word: int(part) for word, part in zip(("priority", "weight", "port"), parts, strict=False)}
            return {**numbers, "target": parts[3]}
        case "TLSA":
            words = ("certificate_usage", "selector", "matching_type")
            numbers = {word: int(part) for word, part in zip(words, parts, strict=False)}
            return {**numbers, "certificate_association_data": parts[3]}
        case "CAA":
            return {"flags": int(parts[0]), "tag": parts[1], "value": parts[2].strip('"')}
        case "TXT":
            # It splits long ones by itself, and takes ";" for the begin of a comment.
            return joined(value).replace(";", "\\;")
        case _:
            return value


def joined(value: str) -> str:
    """The text of quoted strings, as a receiver joins them."""
    text, at = "", 0
    inside = False
    while at < len(value):
        char = value[at]
        if char == '"':
            inside = not inside
        elif inside:
            if char == "\\":
                at += 1
                char = value[at : at + 1]
            text += char
        at += 1
    return text
