"""Signatures of a mail in a file, and keys of another program: `mtactl dkim sign`, `verify` and `import-opendkim`."""

import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import click

from mtactl.base import Options, say
from mtactl.cli import Verb, common_options, remember
from mtactl.errors import EX_DATAERR, EX_NOTHING, EX_OK, CallError

MAIL_MAX_BYTES = 64 << 20
FILE_MAX_BYTES = 1 << 20


def dkim_sign() -> click.Command:
    def callback(file: str, domain: str, **given: Any) -> int:
        from mtactl import local
        from mtad.dkim.keys import Keys
        from mtad.dkim.policy import signer
        from mtad.dkim.sign import BodyHash, sign_all
        from mtad.mail import address, headers

        options = remember(**given)
        octets = read(file, MAIL_MAX_BYTES)
        config = local.settings(options.root)
        keys = Keys(config.paths.dkim)
        for problem in keys.load():
            say(problem)
        head, body = headers.split(crlf(octets))
        if not domain:
            authors = headers.first_addresses(head, b"from")
            try:
                domain = address.domain_of(authors[0]) if authors else ""
            except address.AddressError:
                domain = ""
            if not domain:
                raise CallError("the mail has no From with a domain: say --domain", EX_DATAERR)
            domain = signer(domain, config.dkim.rules, config.domains.__contains__, keys.signs) or domain
        signing = keys.keys(domain.lower())
        if not signing:
            raise CallError(f"no key signs for {domain}: mtactl dkim status", EX_NOTHING)
        made = BodyHash()
        made.update(body)
        field = sign_all(signing, head, made.digest(), int(time.time()))
        if options.json:
            names = [key.selector for key in signing]
            print(json.dumps({"domain": domain, "selectors": names, "field": field.decode("ascii")}))
        else:
            sys.stdout.flush()
            sys.stdout.buffer.write((field if b"\r\n" in octets[:1000] else field.replace(b"\r\n", b"\n")) + octets)
        return EX_OK

    return Verb(
        "sign",
        (("FILE", 'The mail; "-" is standard input.'),),
        ("mtactl dkim sign mail.eml > signed.eml", "mtactl dkim sign mail.eml | mtactl dkim verify -"),
        params=[
            click.Argument(["file"], metavar="FILE"),
            click.Option(["--domain"], default="", metavar="DOMAIN", help="Sign for it, whoever the author is."),
            *common_options(hidden=True),
        ],
        help="Prints a mail with the signatures that the daemon would put on it. Needs to read the keys, as root or the"
        " service's user can.",
        callback=callback,
    )


def dkim_verify() -> click.Command:
    def callback(file: str, **given: Any) -> int:
        import asyncio

        from mtad.config import ConfigErrors, Dns
        from mtad.config.load import load
        from mtad.dkim.verify import KeyUnavailable, verify
        from mtad.dns.resolver import DnsTemporary, NoData, NoSuchName, Resolver

        options = remember(**given)
        octets = crlf(read(file, MAIL_MAX_BYTES))
        try:
            servers = load(options.root).dns
        except ConfigErrors:  # no daemon's settings here: the system's resolver will do
            servers = Dns()
        resolver = Resolver(servers, time.time)
        with asyncio.Runner() as runner:

            def lookup(name: str) -> Sequence[str]:
                try:
                    return [text.decode("latin-1") for text in runner.run(resolver.txt(name))]
                except (NoSuchName, NoData):
                    return ()
                except DnsTemporary as error:
                    raise KeyUnavailable(str(error)) from None

            results = verify(octets, lookup, time.time())
        for result in results:
            if options.json:
                row = {"domain": result.domain, "selector": result.selector, "result": result.result}
                print(json.dumps({**row, "reason": result.reason}))
            else:
                reason = f"  {result.reason}" if result.reason else ""
                print(f"{result.result:<9}  {result.selector or '-'}._domainkey.{result.domain or '-'}{reason}")
        if not results:
            say("the mail has no signature")
        return EX_OK if any(result.result == "pass" for result in results) else EX_NOTHING

    return Verb(
        "verify",
        (("FILE", 'The mail; "-" is standard input.'),),
        ("mtactl dkim verify mail.eml", "mtactl dkim verify mail.eml --json"),
        params=[click.Argument(["file"], metavar="FILE"), *common_options(hidden=True)],
        help="Judges each DKIM signature of a mail by what DNS serves now. Exit 0 when one is good, 1 when none is.",
        callback=callback,
    )


def dkim_import_opendkim() -> click.Command:
    def callback(key_table: str, signing_table: str, now: bool, **given: Any) -> int:
        from mtad.dkim import opendkim

        options = remember(**given)
        try:
            keys = opendkim.key_table(_text(key_table))
            signs = opendkim.signing_table(_text(signing_table)) if signing_table else []
        except opendkim.TableError as error:
            raise CallError(str(error), EX_DATAERR) from None
        entries, rules, problems = opendkim.wanted(keys, signs)
        bad = 0
        for entry in entries:
            try:
                _take(options, entry, now=now)
            except CallError as error:
                bad += 1
                say(f"{entry.path}: {error.text}")
        for problem in problems:
            say(problem)
        if rules and not options.json:
            print("# for mtad.toml:")
            for match, by in rules:
                print(f'[[dkim.sign]]\nmatch = "{match}"\nby = "{by}"')
        return EX_DATAERR if bad or problems else EX_OK

    return Verb(
        "import-opendkim",
        (("KEYTABLE", "OpenDKIM's KeyTable."),),
        ("mtactl dkim import-opendkim /etc/opendkim/KeyTable --signing-table /etc/opendkim/SigningTable",),
        params=[
            click.Argument(["key_table"], metavar="KEYTABLE"),
            click.Option(["--signing-table"], default="", metavar="FILE", help="OpenDKIM's SigningTable."),
            click.Option(["--now"], is_flag=True, help="Sign with all of them at once, whatever DNS serves."),
            *common_options(hidden=True),
        ],
        help="Takes over every key of a KeyTable as `dkim import` would, and prints what of the SigningTable has to go"
        " into mtad.toml.",
        callback=callback,
    )


def _take(options: Options, entry: Any, *, now: bool) -> None:
    from mtactl.perform import call
    from mtad.control.operations import BY_NAME

    pem = _text(entry.path)
    if "-----BEGIN " not in pem:
        raise CallError("holds no private key in PEM form", EX_DATAERR)
    arguments = {"domain": entry.domain, "selector": entry.selector, "key": f"{entry.selector} {pem}"}
    for row in call(BY_NAME["dkim.import"], options, {**arguments, **({"now": True} if now else {})}):
        print(json.dumps(row) if options.json else f"{row['name']}: {row['note']}")


def read(path: str, limit: int) -> bytes:
    """What a file holds; "-" is standard input. CallError (65)."""
    try:
        if path == "-":
            octets = sys.stdin.buffer.read(limit + 1)
        else:
            with open(path, "rb") as file:
                octets = file.read(limit + 1)
    except OSError as error:
        raise CallError(f"{path}: {error.strerror}", EX_DATAERR) from None
    if len(octets) > limit:
        raise CallError(f"{path} is too large", EX_DATAERR)
    return octets


def _text(path: str) -> str:
    return read(os.path.abspath(path), FILE_MAX_BYTES).decode("utf-8", "replace")


def crlf(octets: bytes) -> bytes:
    """A mail as it goes over the wire, whatever its line ends in a file."""
    return octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
