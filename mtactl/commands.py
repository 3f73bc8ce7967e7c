"""The commands that are about no daemon: init, config check, completion. Each function builds its command."""

import json
import shlex
import sys
from typing import Any

import click

from mtactl.base import Options, read_password, say
from mtactl.cli import Verb, common_options, remember, tree
from mtactl.errors import EX_CONFIG, EX_OK, EX_USAGE, CallError


def init() -> click.Command:
    def callback(hostname: str, domain: tuple[str, ...], smarthost: str, config: str, **given: Any) -> int:
        from mtactl.init import InitError, write_config

        password_fd = given.pop("password_fd")
        options = remember(**given)
        password = read_password(password_fd) if "@" in smarthost.partition("://")[2] else ""
        try:
            path = write_config(hostname, domain, smarthost, password=password, root=options.root, config=config)
        except InitError as error:
            raise CallError(error.text, error.code) from None
        print(json.dumps({"path": path}) if options.json else path)
        if not options.json:
            root = f" --root {shlex.quote(options.root)}" if options.root else ""
            start = f"`mtad run{root}`" + ("" if root else ", or `systemctl start mtad`")
            say(f"now start it: {start}; add a user: `mtactl{root} user add NAME`")
        return EX_OK

    return Verb(
        "init",
        (),
        (
            "mtactl init --hostname mail.example.test --domain example.test",
            "mtactl init --hostname web1.example.test --domain example.test --smarthost smtp://relay.example.test:25",
        ),
        params=[
            click.Option(["--hostname"], required=True, metavar="NAME", help="This host's name, as in DNS."),
            click.Option(["--domain"], required=True, multiple=True, metavar="DOMAIN", help="Mail for it is ours."),
            click.Option(
                ["--smarthost"],
                default="",
                metavar="URL",
                help="Send everything else there: smtp://user@host:587; the password is read as `user add` reads it.",
            ),
            click.Option(["--config"], default="", metavar="FILE", help="The file to write."),
            click.Option(["--password-fd"], type=click.INT, metavar="FD", help="Read the password from there."),
            *common_options(hidden=True),
        ],
        help="Writes a commented mtad.toml that works as it is. A file that exists is never replaced (73).",
        callback=callback,
    )


def config_check() -> click.Command:
    def callback(config: str, **given: Any) -> int:
        from mtad.config import ConfigErrors
        from mtad.config.load import load

        options = remember(**given)
        try:
            settings = load(options.root, config)
        except ConfigErrors as errors:
            if options.json:
                _report(options, "", [{"key": e.key, "text": e.text, "hint": e.hint} for e in errors.errors], [])
            raise CallError(str(errors), EX_CONFIG) from None
        _report(options, settings.paths.config, [], list(settings.warnings))
        return EX_OK

    return Verb(
        "check",
        (),
        ("mtactl config check", "mtactl config check --root /srv/mail --json"),
        params=[
            click.Option(["--config"], default="", metavar="FILE", help="Check this file."),
            *common_options(hidden=True),
        ],
        help="Reads the configuration as the daemon would, and prints every problem (78).",
        callback=callback,
    )


def _report(options: Options, path: str, errors: list[dict[str, str]], warnings: list[str]) -> None:
    if options.json:
        print(json.dumps({"ok": not errors, "config": path, "errors": errors, "warnings": warnings}))
        return
    for warning in warnings:
        say(f"warning: {warning}")
    print(f"{path}: good")


def completion() -> click.Command:
    def callback(shell: str, **given: Any) -> int:
        from click.shell_completion import get_completion_class

        remember(**given)
        kind = get_completion_class(shell)
        if kind is None:  # pragma: no cover  (the choice below lets none through)
            raise CallError(f"no completion for {shell}", EX_USAGE)
        sys.stdout.write(kind(tree(), {}, "mtactl", "_MTACTL_COMPLETE").source())
        return EX_OK

    return Verb(
        "completion",
        (("SHELL", "bash, zsh or fish."),),
        (
            "mtactl completion bash > /usr/share/bash-completion/completions/mtactl",
            "mtactl completion fish > ~/.config/fish/completions/mtactl.fish",
        ),
        params=[
            click.Argument(["shell"], type=click.Choice(["bash", "zsh", "fish"]), metavar="SHELL"),
            *common_options(hidden=True),
        ],
        help="Prints the script that makes the shell complete mtactl's commands and options.",
        callback=callback,
    )
