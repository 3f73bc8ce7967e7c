"""What only shows when settings are seen together, and on this machine: files, certificates, contradictions."""

import ipaddress
import os
import stat
from dataclasses import replace

from mtad.config.errors import Findings
from mtad.config.places import SOCKET_PATH_MAX, Place
from mtad.config.tree import Address, Config, RouteRule, Target

RECIPIENTS_LEAST = 100  # RFC 5321 4.5.3.1.8
NEEDS_CERTIFICATE = ("submission", "submissions")


def check(config: Config, place: Place, findings: Findings, *, defaulted: bool, now: float) -> None:
    """Note every problem. `defaulted`: nobody named the mail listeners, so the ones that cannot work are left out."""
    _names(config, findings)
    _places(config, findings)
    _certificate(config, findings, now)
    _listeners(config, findings, defaulted=defaulted)
    _delivery(config, findings)
    _sites(config, findings)
    _tls_rules(config, findings)
    _limits(config, findings)
    _local(config, place, findings)
    _dns_update(config, findings)


def without_dead_listeners(config: Config) -> Config:
    """The submission listeners turned off where there is no certificate: without it nobody could sign in."""
    if config.tls.cert:
        return config
    return replace(config, listen=replace(config.listen, submission=(), submissions=()))


def tls_default(to: Target) -> str:
    """A password goes only to who proves its name; on loopback nobody listens in between."""
    return "verify" if to.user and not _loopback(to.host) else "may"


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _names(config: Config, findings: Findings) -> None:
    if config.hostname and "." not in config.hostname and config.hostname != "localhost":
        findings.warn("hostname", f"{config.hostname!r} has no domain", "other servers refuse such a greeting")


def _places(config: Config, findings: Findings) -> None:
    longest = max(config.paths.control, config.paths.submit, key=len)
    if len(os.fsencode(longest)) > SOCKET_PATH_MAX:
        findings.error("--root", f"{longest} is too long for a socket", f"at most {SOCKET_PATH_MAX} octets")


def _certificate(config: Config, findings: Findings, now: float) -> None:
    tls = config.tls
    if bool(tls.cert) != bool(tls.key):
        findings.error("tls.key" if tls.cert else "tls.cert", "is missing", "certificate and key go together")
    elif tls.cert:
        from mtad.config.certificate import examine  # late: it brings the TLS libraries

        examine(tls.cert, tls.key, config.hostname, findings, now)
        for number, pair in enumerate(tls.certificates, 1):
            examine(pair.cert, pair.key, "", findings, now, section=f"tls.certificate[{number}]")
    if tls.certificates and not tls.cert:
        findings.error("tls.certificate", "needs tls.cert, which all clients get that ask for no name")
    if tls.server_ca:
        from mtad.config.certificate import examine_authorities

        examine_authorities(tls.server_ca, "tls.server_ca", findings)
    if tls.client_ca:
        if not tls.cert:
            findings.error("tls.client_ca", "needs a certificate", "set tls.cert and tls.key")
        from mtad.config.certificate import examine_authorities

        examine_authorities(tls.client_ca, "tls.client_ca", findings)


def _listeners(config: Config, findings: Findings, *, defaulted: bool) -> None:
    listen = config.listen
    if not config.tls.cert and not config.tls.key:
        for name in NEEDS_CERTIFICATE:
            if getattr(listen, name) and defaulted:
                findings.warn(f"listen.{name}", "off: there is no certificate", "set tls.cert and tls.key")
            elif getattr(listen, name):
                findings.error(
                    f"listen.{name}",
                    "needs a certificate",
                    "set tls.cert and tls.key, or write an empty list to turn it off",
                )
    taken: dict[Address, str] = {}
    places = [(name, address) for name in ("smtp", "submission", "submissions") for address in getattr(listen, name)]
    for name, address in [*places, *([("http", listen.http)] if listen.http else [])]:
        if address.port and address in taken:
            findings.error(f"listen.{name}", f"{address.host} port {address.port} is taken by {taken[address]}")
        taken.setdefault(address, f"listen.{name}")
    if listen.http is not None and not _loopback(listen.http.host):
        if not config.access.admin_token:
            findings.error("listen.http", "is open to the network without access.admin_token", 'use "127.0.0.1:8080"')
        else:
            findings.warn("listen.http", "is open to the network and unencrypted", "put a TLS proxy in front of it")


def _delivery(config: Config, findings: Findings) -> None:
    delivery = config.delivery
    if delivery.retry_s and delivery.retry_s[0] >= delivery.expire_s:
        findings.error(
            "delivery.expire", "is not longer than the first pause of delivery.retry: mail would get one try"
        )
    if delivery.delay_warning_s >= delivery.expire_s:
        findings.warn("delivery.delay_warning", "is not shorter than delivery.expire: nobody is ever told of a delay")
    if delivery.max_per_domain > delivery.workers:
        findings.warn("delivery.max_per_domain", "is larger than delivery.workers, which bounds it")
    _source("delivery", delivery.source, findings)
    everything = 0
    for number, route in enumerate(delivery.routes, 1):
        label = f"delivery.route[{number}]"
        if everything:
            findings.warn(label, f"is never reached: route {everything} matches everything", "the first match wins")
        elif route.match == "*" and not (route.senders or route.users):
            everything = number
        _source(label, route.source, findings)
        _pipe(label, route, findings)
        if route.quota_bytes and route.to.scheme != "maildir":
            findings.error(f"{label}.quota", "is for a maildir only")
        if route.source and route.to.scheme not in {"smtp", "smtps", "lmtp", "mx"}:
            findings.error(f"{label}.source", f"{route.to.scheme}: makes no connection")
        if route.password_file and not route.to.user:
            findings.error(f"{label}.to", "names no user for password_file", "smtp://user@host:587")
        if route.to.user and route.to.scheme == "lmtp":
            findings.error(f"{label}.to", "LMTP knows no sign-in here", "leave the user out")
        elif route.to.user:
            _smarthost(label, route.password_file, findings)
            if route.tls == "may" and route.to.scheme == "smtp" and not _loopback(route.to.host):
                findings.error(f"{label}.tls", "would send the password unencrypted", 'use "verify" or "encrypt"')


def _sites(config: Config, findings: Findings) -> None:
    delivery = config.delivery
    for site in delivery.sites:
        label = f'delivery.site."{site.match}"'
        if site.retry_s and site.retry_s[0] >= delivery.expire_s:
            findings.error(f"{label}.retry", "begins with a pause as long as delivery.expire: mail would get one try")
        if site.growth > 1 and not site.per_day:
            findings.warn(f"{label}.growth", "does nothing without per_day")
        if site.connections > delivery.workers:
            findings.warn(f"{label}.connections", "is larger than delivery.workers, which bounds it")


def _tls_rules(config: Config, findings: Findings) -> None:
    for number, rule in enumerate(config.delivery.tls, 1):
        label = f"delivery.tls[{number}]"
        if rule.mode == "pinned" and not rule.pins:
            findings.error(f"{label}.pins", "is missing", "pinned needs the digest of at least one public key")
        if rule.pins and rule.mode != "pinned":
            findings.error(f"{label}.mode", f"is {rule.mode!r}, but there are pins", 'write "pinned"')
        if rule.mode in ("verify", "pinned") and rule.match == "*":
            findings.warn(label, "asks every server of the world for a certificate that few have", "name the domains")


def _source(label: str, source: tuple[str, ...], findings: Findings) -> None:
    if len({":" in address for address in source}) < len(source):
        findings.error(f"{label}.source", "names more than one address of a kind", "one of IPv4, one of IPv6")


def _pipe(label: str, route: RouteRule, findings: Findings) -> None:
    if route.to.scheme != "pipe":
        if route.command or route.run_as:
            key = "command" if route.command else "run_as"
            findings.error(f"{label}.{key}", f"is for pipe: only, not for {route.to.scheme}:")
        return
    if not route.command:
        findings.error(f"{label}.command", "is missing", 'command = ["/usr/bin/program", "--for", "%u@%d"]')
        return
    program = route.command[0]
    if not program.startswith("/") or "%" in program:
        findings.error(f"{label}.command", f"{program!r} is no whole path of a program", "no search path is used")
    elif not os.access(program, os.X_OK):
        findings.warn(f"{label}.command", f"{program} cannot be run", "its mail waits until it can")


def _limits(config: Config, findings: Findings) -> None:
    if config.limits.recipients < RECIPIENTS_LEAST:
        findings.warn("limits.recipients", f"is less than the {RECIPIENTS_LEAST} that RFC 5321 promises everybody")


def _smarthost(label: str, path: str, findings: Findings) -> None:
    key = f"{label}.password_file"
    if not path:
        findings.error(key, "is missing", "the file that holds the user's password")
        return
    _secret_file(key, path, findings)


def _secret_file(key: str, path: str, findings: Findings) -> None:
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            empty = not file.read(4096).strip()
    except OSError as error:
        findings.error(key, f"{path} cannot be read: {error.strerror}")
        return
    if empty:
        findings.error(key, f"{path} is empty")
    if stat.S_IMODE(mode) & 0o007:
        findings.warn(key, f"{path} is open to everybody", f"chmod 600 {path}")


def _local(config: Config, place: Place, findings: Findings) -> None:
    deliver = config.local.deliver
    if config.local.quota_bytes and (deliver is None or deliver.scheme != "maildir"):
        findings.error("local.quota", "is for a maildir only")
    if deliver is not None and deliver.scheme not in {"maildir", "lmtp", "smtp", "discard", "reject"}:
        findings.error("local.deliver", f"{deliver.scheme}: is no place for mailboxes", "maildir:// or lmtp://")
    if deliver is not None and deliver.user:
        findings.error("local.deliver", "takes no user", "maildir:// or lmtp://")
    for path in config.local.aliases:
        try:
            with open(path, "rb"):
                pass
        except FileNotFoundError:
            if path != place.aliases:  # the default one may be absent
                findings.error("local.aliases", f"{path} does not exist")
        except OSError as error:
            findings.error("local.aliases", f"{path} cannot be read: {error.strerror}")


def _dns_update(config: Config, findings: Findings) -> None:
    update = config.dns.update
    if update.server is None:
        for name in ("key", "secret_file"):
            if getattr(update, name):
                findings.warn(f"dns.update.{name}", "is of no use without dns.update.server")
        return
    if bool(update.key) != bool(update.secret_file):
        findings.error(
            f"dns.update.{'secret_file' if update.key else 'key'}", "is missing", "name and secret of a TSIG key"
        )
    elif not update.key and not _loopback(update.server.host):
        findings.error("dns.update.key", "is missing", "a server that takes unsigned changes takes those of everybody")
    elif update.secret_file:
        _secret_file("dns.update.secret_file", update.secret_file, findings)
