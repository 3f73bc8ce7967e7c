"""DKIM keys on disk: data/dkim/<domain>/<selector>.pem, PKCS#8, 0600 in directories of 0700; state.json beside them.

The state says which keys sign. It is durable before a new key exists that must not sign yet, and before a private key
is destroyed: what a crash leaves behind follows from the state, and is put right by the next change.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from string import ascii_lowercase
from typing import Literal

from mtad import faults
from mtad.dkim import ledger
from mtad.dkim.material import (
    DkimKeyError,
    Kind,
    SigningKey,
    check_selector,
    make,
    parse,
    pem,
    record,
    signing_key,
    strings,
)
from mtad.dkim.rotation import KeyState, Look, Move, Ring, Stage
from mtad.dkim.shelf import Held, KeyFile, Shelf, described
from mtad.mail import address as addresses
from mtad.mail.text import clean

__all__ = ["DkimKeyError", "KeyFile", "Keys", "SigningKey", "parse", "record", "strings"]

Algorithm = Literal["rsa", "ed25519", "both"]
ALGORITHMS: tuple[Algorithm, ...] = ("rsa", "ed25519", "both")

KEYS_MAX = 200  # of a domain; the retired are forgotten, so most of so many wait for somebody to remove their records

Change = Callable[[Ring], tuple[Ring, list[Move]]]


class Keys:
    """All keys of a directory. Safe for several threads; `keys` costs a look into a dictionary.

    `looks` is what DNS was last seen to serve, by domain and selector: in memory only. `stir` is called after every
    change that an operator made.
    """

    def __init__(self, folder: str) -> None:
        self.looks: dict[tuple[str, str], Look] = {}
        self.troubles: dict[str, str] = {}  # by domain: why its records could not be published
        self.stir: Callable[[], None] = lambda: None
        self._shelf = Shelf(folder)
        self._keys: dict[str, tuple[SigningKey, ...]] = {}
        self._held: dict[str, Held] = {}
        self._lock = threading.RLock()

    def load(self) -> list[str]:
        """Read all keys; the problems, worst first, one line each. A bad key is left out, the others sign.

        Takes about 40 ms for each new or changed RSA key: not for an event loop that has other work.
        """
        errors: list[str] = []
        warnings: list[str] = []
        with self._lock:
            held = {domain: self._shelf.hold(domain, errors, warnings) for domain in self._shelf.domains(errors)}
            self._held = {domain: one for domain, one in held.items() if one.files or one.ring.keys}
            self._keys = {domain: one.signing for domain, one in self._held.items() if one.signing}
        return errors + warnings

    def keys(self, domain: str) -> tuple[SigningKey, ...]:
        """The keys that sign for exactly this domain (A-label, lower case), RSA first."""
        return self._keys.get(domain, ())

    def signs(self, domain: str) -> bool:
        """Whether it has a key that signs."""
        return domain in self._keys

    def any(self) -> bool:
        """Whether there is anything to sign with."""
        return bool(self._keys)

    def rings(self) -> Mapping[str, Ring]:
        """What is known of all domains' keys, the retired included."""
        return {domain: held.ring for domain, held in self._held.items()}

    def ring(self, domain: str) -> Ring:
        """The same of one domain."""
        held = self._held.get(domain)
        return held.ring if held is not None else Ring(domain)

    # --- new keys

    def generate(
        self,
        domain: str,
        selector: str = "",
        algorithm: Algorithm = "rsa",
        now: float = 0.0,
        *,
        at_once: bool = False,
    ) -> list[KeyFile]:
        """Make one key, or for "both" an RSA key at the selector and an Ed25519 key at "<selector>-ed". Durable.

        Without a selector: sYYYYMMDD of `now`, with a letter behind it when taken. The first key of a domain signs from
        the next `load` on, and so does any other `at_once`; else it is pending. DkimKeyError when a selector is taken
        or a name is bad, OSError when it cannot be written. RSA takes 0.1 s.
        """
        domain = domain_of(domain)
        with self._lock:
            held = self._shelf.hold(domain, [], [])
            wanted = self._wanted(held, selector.lower(), algorithm, now)
            made = [signing_key(domain, name, self._shelf.path(domain, name), make(kind)) for name, kind in wanted]
            return self._add(held, made, now, at_once=at_once)

    def adopt(
        self, domain: str, selector: str, octets: bytes, now: float = 0.0, *, at_once: bool = False
    ) -> list[KeyFile]:
        """Take in a private key in PEM form, as `generate` would have made it. Raises the same."""
        domain, selector = domain_of(domain), selector.lower()
        with self._lock:
            held = self._shelf.hold(domain, [], [])
            self._check_free(held, selector)
            key = parse(domain, selector, self._shelf.path(domain, selector), octets)
            return self._add(held, [key], now, at_once=at_once)

    def rotate(
        self, domain: str, selector: str = "", algorithm: Algorithm | None = None, now: float = 0.0
    ) -> list[KeyFile]:
        """Make the keys that will replace those that sign, of the same kinds unless `algorithm` says so. Durable.

        Raises DkimKeyError, OSError.
        """
        domain = domain_of(domain)
        with self._lock:
            held = self._shelf.hold(domain, [], [])
            self._check_whole(held)
            active = held.ring.of(Stage.ACTIVE)
            if not active:
                raise DkimKeyError(f"{domain} has no key that signs: mtactl dkim generate {domain}")
            if held.ring.rotation:
                names = ", ".join(key.selector for key in held.ring.rotation)
                raise DkimKeyError(f"{domain} is in a rotation already, to {names}: mtactl dkim status {domain}")
            kinds = {key.algorithm for key in active}
            as_now: Algorithm = "both" if len(kinds) > 1 else "rsa" if "rsa" in kinds else "ed25519"
            wanted = self._wanted(held, selector.lower(), algorithm or as_now, now)
            made = [signing_key(domain, name, self._shelf.path(domain, name), make(kind)) for name, kind in wanted]
            return self._add(held, made, now, replaces=tuple(sorted(key.selector for key in active)))

    def private(self, domain: str, selector: str) -> bytes:
        """A private key as PEM. DkimKeyError where there is none."""
        key = self._held[domain].files.get(selector) if domain in self._held else None
        if key is None:
            raise DkimKeyError(f"{domain} has no key at selector {clean(selector, 80)}")
        return pem(key.private)

    # --- changes

    def change(self, domain: str, change: Change) -> list[Move]:
        """Let `change` make a new ring of the present one; then what follows from it is done. Durable.

        Raises what `change` raises, DkimKeyError, OSError.
        """
        with self._lock:
            held = self._shelf.hold(domain, [], [])
            self._check_whole(held)
            ring, moves = change(held.ring)
            on_disk = ledger.read(self._shelf.folder, domain)
            if ring != on_disk and (ring.keys or on_disk is not None):
                faults.point("dkim.before_state")
                ledger.write(self._shelf.folder, ring)
                faults.point("dkim.after_state")
            self._shelf.destroy(ring)
            self._take(domain, self._shelf.hold(domain, [], []))
            return moves

    def _add(
        self,
        held: Held,
        made: Sequence[SigningKey],
        now: float,
        *,
        at_once: bool = False,
        replaces: tuple[str, ...] = (),
    ) -> list[KeyFile]:
        """Write new keys. One that must not sign yet is known to the state before its file is there; one that signs at
        once has its file first: both ways, a crash in between leaves no key that signs unasked."""
        self._check_whole(held)
        domain = held.ring.domain
        if len(held.ring.keys) + len(made) > KEYS_MAX:
            waiting = len(held.ring.of(Stage.RETIRING))
            raise DkimKeyError(
                f"{domain} has {len(held.ring.keys)} keys, {waiting} of which wait for the removal of their records:"
                f" mtactl dkim status {domain}"
            )
        stage = Stage.ACTIVE if at_once or not held.ring.of(Stage.ACTIVE) else Stage.PENDING
        states = tuple(
            KeyState(
                key.selector, key.algorithm, stage, now, now, record(key), replaces if stage is Stage.PENDING else ()
            )
            for key in made
        )
        ring = replace(held.ring, keys=held.ring.keys + states)
        self._shelf.prepare(domain)
        if stage is Stage.PENDING:
            ledger.write(self._shelf.folder, ring)
            faults.point("dkim.state_of_new_key")
        for key in made:
            self._shelf.put(key)
            faults.point("dkim.new_key")
        if stage is Stage.ACTIVE:
            ledger.write(self._shelf.folder, ring)
        return [described(key, stage) for key in made]

    def _take(self, domain: str, held: Held) -> None:
        """Put one domain in its new form into use."""
        keys, all_held = dict(self._keys), dict(self._held)
        for table in (keys, all_held):
            table.pop(domain, None)
        if held.files or held.ring.keys:
            all_held[domain] = held
        if held.signing:
            keys[domain] = held.signing
        self._keys, self._held = keys, all_held

    def _wanted(self, held: Held, selector: str, algorithm: Algorithm, now: float) -> list[tuple[str, Kind]]:
        """The selectors of new keys, free all of them."""
        kinds: list[tuple[str, Kind]]
        match algorithm:
            case "rsa":
                kinds = [("", "rsa")]
            case "ed25519":
                kinds = [("", "ed25519")]
            case "both":
                kinds = [("", "rsa"), ("-ed", "ed25519")]
        if selector:
            for suffix, _ in kinds:
                self._check_free(held, selector + suffix)
            return [(selector + suffix, kind) for suffix, kind in kinds]
        day = time.strftime("s%Y%m%d", time.gmtime(now))
        for letter in "", *ascii_lowercase[1:]:
            if not any(self._taken(held, f"{day}{letter}{suffix}") for suffix, _ in kinds):
                return [(f"{day}{letter}{suffix}", kind) for suffix, kind in kinds]
        raise DkimKeyError(f"{held.ring.domain} has a key at every selector of the day; name one")

    def _check_free(self, held: Held, selector: str) -> None:
        check_selector(selector)
        if self._taken(held, selector):
            raise DkimKeyError(f"{held.ring.domain} has a key at selector {selector} already")

    def _taken(self, held: Held, selector: str) -> bool:
        return held.ring.key(selector) is not None or os.path.lexists(self._shelf.path(held.ring.domain, selector))

    def _check_whole(self, held: Held) -> None:
        if held.damaged:
            raise DkimKeyError(held.damaged)

    def list(self) -> Sequence[KeyFile]:
        """All keys that have a private half, by domain; RSA first."""
        found = []
        for _, held in sorted(self._held.items()):
            for key in sorted(held.files.values(), key=lambda key: (key.algorithm != "rsa", key.selector)):
                state = held.ring.key(key.selector)
                found.append(described(key, state.stage if state is not None else Stage.ACTIVE))
        return found


def domain_of(domain: str) -> str:
    """A domain as its directory is called. Raises DkimKeyError."""
    try:
        name = addresses.to_ascii(domain.removesuffix("."))
    except addresses.AddressError as error:
        raise DkimKeyError(f"{clean(domain, 80)!r}: {error}") from None
    if name.startswith("["):
        raise DkimKeyError(f"{name} is no domain")
    return name
