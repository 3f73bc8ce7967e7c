"""Everything that is configured -> Config, or every problem at once."""

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mtad.config import source
from mtad.config.check import check, tls_default, without_dead_listeners
from mtad.config.errors import ConfigErrors, Findings
from mtad.config.keys import KEYS, REPEATED
from mtad.config.places import Place, locate
from mtad.config.tree import (
    Access,
    Address,
    CertificateFiles,
    Config,
    Delivery,
    Dkim,
    Dns,
    DnsUpdate,
    Keep,
    Limits,
    Listen,
    Local,
    RouteRule,
    SignRule,
    SiteRule,
    Smtp,
    Submission,
    Target,
    Tls,
    TlsRule,
)
from mtad.mail.envelope import Clock

MAIL_LISTENERS = frozenset({"smtp", "submission", "submissions"})


def load(
    root: str = "",
    config: str = "",
    environ: Mapping[str, str] | None = None,
    uid: int | None = None,
    *,
    clock: Clock = time.time,
) -> Config:
    """Read all settings: options before variables before the file before defaults.

    `root` and `config` are the options --root and --config ("" = not given), `uid` decides where things are.
    Raises ConfigErrors with every problem found; what is odd but works is in Config.warnings.
    """
    environ = os.environ if environ is None else environ
    place = locate(root, config, environ, uid)
    findings = Findings()
    # A container may be configured by variables alone; a file that was named must be there.
    optional = not (config or environ.get("MTA_CONFIG")) and bool(
        environ.get("MTA_HOSTNAME") or environ.get("MTA_HOSTNAME_FILE")
    )
    document = source.read_file(place, findings, optional=optional)
    if document is None:
        raise ConfigErrors(findings.errors)
    values = source.values_of(document, place, findings)
    source.override(values, environ, place, findings)
    tables = {section: source.tables_of(section, document, place, findings) for section in REPEATED}
    for key in KEYS:
        spoken_of = {key.path, key.variable, f"{key.variable}_FILE"} & {error.key for error in findings.errors}
        if key.section == "" and key.default == "(required)" and key.path not in values and not spoken_of:
            findings.error(key.path, "is missing", key.help)
    listen = document.get("listen")
    defaulted = not (isinstance(listen, dict) and MAIL_LISTENERS & listen.keys())
    settings = _tree(values, tables, place, defaulted=defaulted)
    check(settings, place, findings, defaulted=defaulted, now=clock())
    if findings.errors:
        raise ConfigErrors(findings.errors)
    return replace(without_dead_listeners(settings), warnings=tuple(findings.warnings))


def defaults(place: Place) -> Config:
    """What holds in that place where nothing is set. The submission listeners are those with a certificate."""
    return _tree({}, {section: [] for section in REPEATED}, place, defaulted=True)


def _tree(
    values: Mapping[str, Any],
    tables: Mapping[str, list[dict[str, Any]]],
    place: Place,
    *,
    defaulted: bool,
) -> Config:
    """The tree of what could be read; the places fill in what depends on them."""
    fields: dict[str, dict[str, Any]] = {}
    for key in KEYS:
        if key.path in values:
            fields.setdefault(key.section, {})[key.field] = values[key.path]
    top = fields.get("", {})
    listen = Listen(**fields.get("listen", {}))
    if defaulted:
        listen = replace(_default_listeners(place), http=listen.http)
    mailboxes = Target("maildir", path=f"{place.paths.data.replace('%', '%%')}/mailboxes/%d/%u")
    local: dict[str, Any] = {"deliver": mailboxes, "aliases": (place.aliases,)} | fields.get("local", {})
    rules = tuple(RouteRule(**({"tls": tls_default(route["to"])} | route)) for route in tables["delivery.route"])
    return Config(
        hostname=top.get("hostname", ""),
        domains=tuple(dict.fromkeys(top.get("domains", ()))),
        paths=place.paths,
        listen=listen,
        access=Access(**fields.get("access", {})),
        tls=Tls(
            **fields.get("tls", {}), certificates=tuple(CertificateFiles(**pair) for pair in tables["tls.certificate"])
        ),
        dns=Dns(**fields.get("dns", {}), update=DnsUpdate(**fields.get("dns.update", {}))),
        delivery=Delivery(
            **fields.get("delivery", {}),
            routes=rules,
            sites=tuple(SiteRule(**site) for site in tables["delivery.site"]),
            tls=tuple(TlsRule(**rule) for rule in tables["delivery.tls"]),
        ),
        local=Local(**local),
        smtp=Smtp(**fields.get("smtp", {})),
        submission=Submission(**fields.get("submission", {})),
        limits=Limits(**fields.get("limits", {})),
        keep=Keep(**fields.get("keep", {})),
        dkim=Dkim(**fields.get("dkim", {}), rules=tuple(SignRule(**rule) for rule in tables["dkim.sign"])),
    )


def _default_listeners(place: Place) -> Listen:
    system = place.role == "system"
    hosts = ("0.0.0.0", "::") if system else ("127.0.0.1",)  # noqa: S104  (a mail server serves the world)
    ports = (25, 587, 465) if system else (2525, 2587, 2465)
    smtp, submission, submissions = (tuple(Address(host, port) for host in hosts) for port in ports)
    return Listen(smtp=smtp, submission=submission, submissions=submissions)
