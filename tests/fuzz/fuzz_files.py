"""The parsers of what stands in files and what operators and programs of this host say."""

import contextlib
import json
import os
import tempfile
import tomllib
from collections.abc import Sequence

from fuzz_mail import whole
from fuzz_parser import Parser, readable, text

from mtactl.submit import options as submit_options
from mtad.accounts import aliases, imported, passwords, profile, sha_crypt
from mtad.config import ConfigErrors, load
from mtad.control import values, wire
from mtad.control.operation import UsageError, check
from mtad.control.operations import BY_NAME
from mtad.dkim import material, opendkim

_ROOT = tempfile.TemporaryDirectory(prefix="fuzz-")  # gone with the process
os.chmod(_ROOT.name, 0o700)


def _file(name: str, octets: bytes) -> str:
    path = f"{_ROOT.name}/{name}"
    with open(path, "wb") as file:
        file.write(octets)
    return path


def _config(octets: bytes) -> object:
    """Either a whole tree, or every problem, each one line that names its key."""
    path = _file("mtad.toml", octets)
    try:
        config = load(_ROOT.name, path, {}, 1000)
    except ConfigErrors as errors:
        problems = errors.errors
    else:
        problems = ()
    for problem in problems:
        assert problem.key
        assert str(problem).isprintable(), problem
    if problems:
        return problems
    for line in config.warnings:
        assert str(line).isprintable(), line
    hash(config)
    tomllib.loads(octets.decode())
    return config


def _aliases(octets: bytes) -> object:
    found, problems = aliases.load_aliases([_file("aliases", octets)])
    assert all(problem.isprintable() for problem in problems)
    for name, targets in found.entries():
        assert found.expand(name) == targets
        assert not any(target.startswith(("|", "/")) for target in targets)
    return found.entries(), problems


def _targets(octets: bytes) -> object:
    return aliases.parse_targets(text(octets))


def _passwords(octets: bytes) -> object:
    """A password file, and a try against each hash that was taken over."""
    found = list(imported.entries(enumerate(readable(octets).splitlines(), 1)))
    for entry in found:
        assert entry.problem.isprintable()
    return found


def _hash(octets: bytes) -> object:
    words = readable(octets)
    assert not imported.problem(words) or not imported.verify("no", words)
    given = imported.read(words)
    if isinstance(given, imported.Plain):
        return None
    assert imported.scheme_of(given)
    assert imported.problem(given) == "", "what is stored is sound"
    assert passwords.known(given) in (True, False)
    if "$" not in given:  # cheap to try
        assert imported.verify("no", given) in (True, False)
    return given


def _sha_crypt(octets: bytes) -> object:
    return sha_crypt.known(readable(octets))


def _profile(octets: bytes) -> object:
    found = profile.parse(readable(octets))
    dumped = profile.dump(found)
    assert profile.dump(profile.parse(dumped)) == dumped
    return hash(found)


def _pem(octets: bytes) -> object:
    return material.parse("example.test", "s", "/key", octets).bits


def _key_table(octets: bytes) -> object:
    words = readable(octets)
    keys, _, signs = words.partition("\n--\n")
    return opendkim.wanted(opendkim.key_table(keys), opendkim.signing_table(signs))


def _frames(chunks: Sequence[bytes]) -> object:
    """Requests over the control socket: those before the first that is none, then the refusal."""
    decoder = wire.Decoder(20_000)
    found: list[object] = []
    try:
        for chunk in chunks:
            for frame in decoder.feed(chunk):
                request = wire.request(frame)
                found.append((request.method, repr(request.parameters)))
                assert list(wire.Decoder().feed(wire.encode(frame))) == [frame]
    except wire.WireError as error:
        return found, str(error)
    return found, decoder.empty


def _operation(octets: bytes) -> object:
    """The parameters of an operation, as JSON."""
    name, _, arguments = readable(octets).partition(" ")
    operation = BY_NAME.get(name)
    try:
        given = json.loads(arguments)
    except (ValueError, RecursionError):
        return None
    if operation is None or not isinstance(given, dict):
        return None
    checked = check(operation, given)
    assert checked.keys() == {param.name for param in operation.params}
    return checked


def _values(octets: bytes) -> object:
    """Every kind of value that an operator can write."""
    words = text(octets)
    found: list[object] = []
    for parse in (
        values.text, values.quota, values.fingerprint, values.line, values.key_file, values.duration, values.size,
        values.compare, values.identifier, values.domain, values.user, values.path,
    ):  # fmt: skip
        with contextlib.suppress(values.BadValue):
            found.append(parse(words))
    return found


def _options(octets: bytes) -> object:
    """The command line of sendmail, one word a NUL."""
    found = submit_options.parse(["sendmail", *text(octets).split("\0")])
    assert found.mode in {*submit_options.MODES.values(), "flush", "help"}
    return found.mode, found.sender, found.recipients, found.warnings


CONFIG = (
    b'hostname = "mx.a.test"\ndomains = ["a.test"]\n[listen]\nsmtp = ["127.0.0.1:2525"]\n[access]\n'
    b'trusted_networks = ["10.0.0.0/8"]\n[limits]\nmessage_size = "10M"\n[[delivery.route]]\nmatch = "*"\n'
    b'to = "smtp://r.test:587"\n[dkim]\n[[dkim.sign]]\nmatch = "*"\nby = "a.test"\n',
    b'hostname = "mx.a.test"\ndomains = ["a.test"]\n[delivery]\nexpire = "5d"\nretry = ["5m", "1h"]\n',
)
HASHES = (
    b"{SSHA256}SoB/eMHVVpAtRxHpGjJKp2kFLMpNqpRW8xPnsQ6iZCo8xw==", b"{PLAIN}x", b"$6$salt$" + b"x" * 86,
    b"$scrypt$ln=14,r=8,p=1$c2FsdA$" + b"A" * 43, b"{PBKDF2}$1$salt$5000$" + b"a" * 40,
    b"{SCRAM-SHA-256}4096,c2FsdA==,AAAA,AAAA",
)  # fmt: skip
CALL = b'{"method":"org.mtad.QueueList","parameters":{"from":"a@b.test","older":"2h"},"more":true}\0'
OPERATIONS = (
    b'queue.list {"from":"a@b","older":"2h","size":">4k","id":["3kf9"]}', b'user.add {"name":"alice","password":"x"}',
    b'queue.hold {"all":true,"reason":"x"}', b'dkim.create {"domain":"a.test"}', b'queue.redirect {"domain":"a"}',
)  # fmt: skip
PROFILE = json.dumps(
    {"scram": {"salt": "AAAA", "iterations": 4096, "stored_key": "AAAA", "server_key": "AAAA"}, "senders": ["@a.test"],
     "app_passwords": [{"name": "x", "stored_key": "AAAA", "server_key": "", "created_at": 1.5}],
     "limits": {"messages_per_day": 5}, "receive_only": True}
).encode()  # fmt: skip

PARSERS = (
    Parser("config", _config, (), CONFIG, ((CONFIG[0], b""), (b'hostname = "', b'"'), (b"domains = [", b"]"))),
    Parser(
        "aliases",
        _aliases,
        (),
        (b'team: alice, "b c"@d.test, \\root\n  carol # x\n"q:r": |cmd, /file\n:a\n',),
        ((b"a: ", b"\n"), (b"", b""), (b'a: "', b'"')),
    ),
    Parser("alias-targets", _targets, (ValueError,), (b'a, "b,c"@d.test, "|x y"',)),
    Parser(
        "password-file",
        _passwords,
        (),
        (b"alice:" + HASHES[0] + b":1:2\n# x\nbob:*\n\ncarol\n",),
        ((b"a:", b""), (b"", b"")),
    ),
    Parser(
        "password-hash",
        _hash,
        (imported.HashError,),
        HASHES,
        ((b"{SSHA}", b""), (b"$6$", b""), (b"{PBKDF2}$1$", b""), (b"{SCRAM-SHA-256}4096,", b""), (b"$scrypt$", b"")),
    ),
    Parser("sha-crypt", _sha_crypt, (), (HASHES[2],), ((b"$6$rounds=", b"$x"), (b"$6$", b"$x"))),
    Parser("profile", _profile, (ValueError,), (PROFILE, b"{}"), ((b"", b""), (b'{"senders":[', b"]}"))),
    Parser(
        "pem",
        _pem,
        (material.DkimKeyError,),
        (material.pem(material.make("ed25519")),),
        ((b"-----BEGIN PRIVATE KEY-----\n", b"\n-----END PRIVATE KEY-----\n"),),
    ),
    Parser(
        "opendkim-tables",
        _key_table,
        (opendkim.TableError,),
        (b"k a.test:s:/key\nm %:s:/key\n\n--\n*@a.test k\n.b.test m\nu@c.test k\n",),
        ((b"", b""), (b"k ", b":s:/k\n--\n")),
    ),
    Parser(
        "control-frames",
        whole(_frames),
        (),
        (CALL, CALL + b'{"method":"a.B"}\0'),
        ((b'{"method":"a.B","parameters":', b"}\0"), (b"", b"\0"), (b'{"method":"', b'"}\0')),
        pieces=_frames,
    ),
    Parser(
        "operation",
        _operation,
        (UsageError,),
        OPERATIONS,
        ((b'queue.list {"from":"', b'"}'), (b'queue.list {"id":["', b'"]}'), (b'queue.list {"older":"', b'"}')),
    ),
    Parser(
        "operator-values",
        _values,
        (),
        (b"1h30m", b">=4k", b"3kf9x2m7q0w1.2", b"12 alice:x", b"/a/b", b"AA:BB", b"k -----BEGIN x"),
    ),
    Parser(
        "sendmail-options",
        _options,
        (submit_options.UsageError,),
        (b"-i\0-f\0a@b.test\0-t\0--\0c@d.test", b"-bp", b"-oi\0-F\0A B\0-N\0failure,delay\0x", b"-q5m\0-OTimeout=1"),
        ((b"-f", b""), (b"-", b""), (b"-o", b"")),
    ),
)
