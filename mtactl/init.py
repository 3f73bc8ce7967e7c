"""`mtactl init`: a commented mtad.toml that works as it is, made from the table of settings."""

import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mtad.config.places import Place

EX_DATAERR, EX_CANTCREAT = 65, 73
WIDTH = 100
PASSWORD_FILE = "smarthost.password"  # noqa: S105  (a file name)


class InitError(Exception):
    """It was not written. `code` is what to exit with."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.text = text
        self.code = code


def write_config(
    hostname: str,
    domains: Sequence[str],
    smarthost: str = "",
    *,
    password: str = "",
    root: str = "",
    config: str = "",
    environ: Mapping[str, str] | None = None,
    uid: int | None = None,
) -> str:
    """Write the configuration file, and beside it the smarthost's password (0600) if there is one. The file's path.

    `smarthost` is "smtp://user@host:587" or a kin of it; with a user it needs `password`. Nothing that exists is
    replaced: InitError (73). InitError (65) when the values make no working configuration; then nothing stays behind.
    """
    from mtad.config import ConfigErrors, load, locate

    environ = os.environ if environ is None else environ
    place = locate(root, config, environ, uid)
    path = place.paths.config
    service = place.role == "system"
    folder = os.path.dirname(path)
    secret = os.path.join(folder, PASSWORD_FILE)
    with_password = _needs_password(smarthost)
    if smarthost and "://" not in smarthost:
        # What is before an "@" may be a secret.
        raise InitError(f"the smarthost is no URL: write smtp://{smarthost.rpartition('@')[2]}", EX_DATAERR)
    if with_password and not password:
        raise InitError(f"{smarthost} names a user: give the password too", EX_DATAERR)
    if "\n" in password or "\r" in password:
        raise InitError("the password is more than one line", EX_DATAERR)
    for taken in (path, secret) if with_password else (path,):
        if os.path.lexists(taken):
            raise InitError(f"{taken} exists already; edit it, or move it away", EX_CANTCREAT)
    try:
        text = render(place, hostname, domains, smarthost, PASSWORD_FILE if with_password else "").encode()
        secret_text = f"{password}\n".encode()
    except UnicodeEncodeError:
        raise InitError("the values are not UTF-8", EX_DATAERR) from None
    draft = f"{path}.new"
    # The variables are not part of the file: it has to work without them.
    judged = {name: value for name, value in environ.items() if not name.startswith("MTA_")}
    written: list[str] = []
    made = not os.path.isdir(folder)
    try:
        if made:
            os.makedirs(folder, 0o750 if root else 0o755)
        if with_password:
            _write(secret, secret_text, 0o600, written, service=service)
        _write(draft, text, 0o640, written, service=service)
        load(root, draft, judged, uid)
        os.link(draft, path)
        os.unlink(draft)
    except ConfigErrors as error:
        _forget(written)
        if made:
            os.rmdir(folder)
        raise InitError(str(error), EX_DATAERR) from None
    except OSError as error:
        _forget(written)
        raise InitError(f"{error.filename or path} cannot be written: {error.strerror}", EX_CANTCREAT) from None
    return path


def render(place: "Place", hostname: str, domains: Sequence[str], smarthost: str = "", password_file: str = "") -> str:
    """The text of the file: what was given as settings, all other keys as comments with the defaults of that place."""
    from mtad.config.keys import KEYED, KEYS, REPEATED, SECTIONS
    from mtad.control.handlers.daemon import quoted

    given = {"hostname": quoted(hostname), "domains": f"[{', '.join(quoted(name) for name in domains)}]"}
    if smarthost:
        given |= {"delivery.route.match": '"*"', "delivery.route.to": quoted(smarthost)}
    if password_file:
        given["delivery.route.password_file"] = quoted(password_file)
    worked_out = _worked_out(place, smarthost)
    lines = ["# mtad.toml: the settings of mtad. A setting behind # is the default, a table behind # an example."]
    lines += ["# `mtad check` tells what is wrong with them; `mtactl reload` makes the daemon take them over.", ""]
    for section, help_text in SECTIONS.items():
        keys = [key for key in KEYS if key.section == section]
        active = not section or any(key.path in given for key in keys)
        if section:
            header = f"[[{section}]]" if section in REPEATED else f"[{section}]"
            if section in KEYED:
                header = f'[{section}."{KEYED[section][1]}"]'
            # A section of comments only does no harm; one that repeats would.
            lines += [*_comment(help_text), header if active or section not in REPEATED else f"# {header}"]
        for key in keys:
            lines += _comment(key.help)
            if key.path in given:
                lines.append(f"{key.name} = {given[key.path]}")
            else:
                lines.append(f"# {key.name} = {_shown(key.path, worked_out.get(key.path, key.default))}")
        lines.append("")
    return "\n".join(lines)


def _worked_out(place: "Place", smarthost: str) -> dict[str, str]:
    """The defaults that depend on where it runs and on what else is set."""
    from mtad.config.check import tls_default
    from mtad.config.load import defaults
    from mtad.config.parse import BadValue
    from mtad.config.routing import target
    from mtad.control.handlers.daemon import settings

    shown = dict(settings(defaults(place)))
    try:
        tls = tls_default(target(smarthost))
    except BadValue:  # it is told when the file is read
        tls = "may"
    return {path: shown[path] for path in _BY_PLACE} | {
        "delivery.route.tls": f'"{tls}"',
        "delivery.site.connections": shown["delivery.max_per_domain"],
        "delivery.site.retry": shown["delivery.retry"],
    }


_BY_PLACE = ("listen.smtp", "listen.submission", "listen.submissions", "local.deliver", "local.aliases")

_EXAMPLES = {
    "listen.http": '"127.0.0.1:8080"',
    "tls.cert": '"tls/fullchain.pem"',
    "tls.key": '"tls/privkey.pem"',
    "tls.client_ca": '"tls/clients.pem"',
    "tls.certificate.cert": '"tls/other.example/fullchain.pem"',
    "tls.certificate.key": '"tls/other.example/privkey.pem"',
    "delivery.route.match": '"*.lan.example"',
    "delivery.route.to": '"smtp://192.0.2.10:25"',
    "delivery.route.password_file": '"smarthost.password"',
    "delivery.tls.match": '"partner.example"',
    "delivery.tls.mode": '"verify"',
    "delivery.tls.mx": '["*.mail.partner.example"]',
    "dkim.sign.match": '"*.example.org"',
    "dkim.sign.by": '"example.org"',
    "delivery.site.connections": "5",
    "delivery.site.rate": '"100/1m"',
    "delivery.site.per_day": "50",
    "delivery.site.growth": "1.5",
    "delivery.site.retry": '["15m", "1h", "4h"]',
}


def _shown(path: str, default: str) -> str:
    """The default and, where it says little, an example; what has to be given has no default."""
    example = _EXAMPLES.get(path)
    if example is None:
        return default
    return example if default == "(required)" else f"{default}  # for example {example}"


def _needs_password(smarthost: str) -> bool:
    return "@" in smarthost.partition("://")[2]


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False)


def _write(path: str, octets: bytes, mode: int, written: list[str], *, service: bool) -> None:
    """Make a new file, noted in `written`; where root writes for the service, the service can read it."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    written.append(path)
    with open(handle, "wb") as file:
        owner = _service_ids() if service and os.geteuid() == 0 else None
        if owner is not None:
            os.fchown(file.fileno(), owner[0] if mode == 0o600 else 0, owner[1])
        file.write(octets)
        file.flush()
        os.fsync(file.fileno())


def _service_ids() -> tuple[int, int] | None:
    """User and group of the service, where the system has it."""
    import pwd

    from mtad.config.places import SERVICE_USER

    try:
        entry = pwd.getpwnam(SERVICE_USER)
    except KeyError:
        return None
    return entry.pw_uid, entry.pw_gid


def _forget(paths: Sequence[str]) -> None:
    for path in paths:
        os.unlink(path)
