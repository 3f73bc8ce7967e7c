"""What lies on disk of the keys, read and written: a directory for each domain, a file for each private key."""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from mtad.dkim import ledger
from mtad.dkim.material import (
    FILE_MAX_BYTES,
    RSA_BITS_GOOD,
    DkimKeyError,
    SigningKey,
    check_selector,
    parse,
    pem,
    record,
)
from mtad.dkim.rotation import KeyState, Ring, Stage


@dataclass(frozen=True, slots=True)
class KeyFile:
    """What an operator sees of a key. `name` is where its record belongs, `record` the TXT value."""

    domain: str
    selector: str
    algorithm: str
    bits: int
    path: str
    name: str
    record: str
    created_at: float
    stage: Stage = Stage.ACTIVE


@dataclass(frozen=True, slots=True)
class Held:
    """What there is of a domain: its ring, and the keys whose files can be used."""

    ring: Ring
    files: Mapping[str, SigningKey]
    damaged: str = ""  # why the state must not be changed

    @property
    def signing(self) -> tuple[SigningKey, ...]:
        """RSA first: it is what every receiver can verify."""
        found = [self.files[key.selector] for key in self.ring.of(Stage.ACTIVE) if key.selector in self.files]
        return tuple(sorted(found, key=lambda key: (key.algorithm != "rsa", key.selector)))


class Shelf:
    """The directory of all keys. Remembers a file that it read until the file changes; decides nothing about stages but
    for what the state does not know."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._read: dict[str, tuple[tuple[int, int, int], SigningKey]] = {}  # by path: what it was when it was read

    def path(self, domain: str, selector: str) -> str:
        return f"{self.folder}/{domain}/{selector}.pem"

    def domains(self, errors: list[str]) -> list[str]:
        """The domains that have a directory; none where there is no directory at all."""
        try:
            return sorted(
                entry.name for entry in os.scandir(self.folder) if entry.is_dir() and not entry.name.startswith(".")
            )
        except FileNotFoundError:
            return []
        except OSError as error:
            errors.append(f"{self.folder}: cannot be read: {error.strerror}")
            return []

    def hold(self, domain: str, errors: list[str], warnings: list[str]) -> Held:
        """Read what there is of a domain, and make state and files agree. Touches nothing."""
        place = f"{self.folder}/{domain}"
        names, damaged = _names(place)
        if damaged:
            errors.append(damaged)
        files: dict[str, SigningKey] = {}
        made_at: dict[str, float] = {}
        for name in names:
            selector, path = name.removesuffix(".pem"), f"{place}/{name}"
            try:
                stamp, key = self._one(domain, selector, path, warnings)
            except DkimKeyError as error:
                errors.append(f"{path}: {error}")
                continue
            self._read[path] = stamp, key
            files[selector], made_at[selector] = key, stamp[2] / 1e9
        ring: Ring | None = None
        try:
            ring = ledger.read(self.folder, domain)
        except (ledger.LedgerError, OSError) as error:
            damaged = f"{place}/{ledger.NAME}: {getattr(error, 'strerror', None) or error}"
            errors.append(damaged)
        ring = _agreed(ring or Ring(domain), {name.removesuffix(".pem") for name in names}, place, errors)
        for spent in ring.of(Stage.RETIRED):
            files.pop(spent.selector, None)
        stage = Stage.PENDING if ring.of(Stage.ACTIVE) else Stage.ACTIVE
        unknown = tuple(
            KeyState(name, key.algorithm, stage, made_at[name], made_at[name], record(key))
            for name, key in files.items()
            if ring.key(name) is None
        )
        return Held(replace(ring, keys=ring.keys + unknown), files, damaged)

    def _one(
        self, domain: str, selector: str, path: str, warnings: list[str]
    ) -> tuple[tuple[int, int, int], SigningKey]:
        """The key of a file, from memory when the file is still the same."""
        try:
            check_selector(selector)
        except DkimKeyError:
            raise DkimKeyError("the file name is no selector") from None
        try:
            with open(path, "rb") as file:
                found = os.fstat(file.fileno())
                octets = file.read(FILE_MAX_BYTES + 1)
        except OSError as error:
            raise DkimKeyError(f"cannot be read: {error.strerror}") from None
        if found.st_mode & 0o077:
            warnings.append(f"{path}: is open to others than its owner (chmod 600)")
        stamp = (found.st_ino, found.st_size, found.st_mtime_ns)
        kept = self._read.get(path)
        key = kept[1] if kept is not None and kept[0] == stamp else parse(domain, selector, path, octets)
        if key.algorithm == "rsa" and key.bits < RSA_BITS_GOOD:
            warnings.append(f"{path}: {key.bits} bits are few; make a new key of {RSA_BITS_GOOD}")
        return stamp, key

    def prepare(self, domain: str) -> None:
        """Make the directories of a domain. Durable."""
        for folder in (self.folder, f"{self.folder}/{domain}"):
            if not os.path.isdir(folder):
                os.makedirs(folder, 0o700)
                ledger.sync_folder(os.path.dirname(folder))

    def put(self, key: SigningKey) -> None:
        """Write a private key; a name that exists is never replaced. Durable on return."""
        _write(key.path, pem(key.private))

    def destroy(self, ring: Ring) -> None:
        """Remove the private keys of what is retired."""
        gone = False
        for key in ring.of(Stage.RETIRED):
            path = self.path(ring.domain, key.selector)
            self._read.pop(path, None)
            try:
                os.unlink(path)
                gone = True
            except FileNotFoundError:
                continue
        if gone:
            ledger.sync_folder(f"{self.folder}/{ring.domain}")


def _agreed(ring: Ring, there: set[str], place: str, errors: list[str]) -> Ring:
    """The ring without what a crash left half made: a coming key that has no file, and those that were to come with it.
    An active key that has none cannot sign."""
    broken = {key.replaces for key in ring.rotation if key.selector not in there}
    keys = []
    for key in ring.keys:
        if key.replaces in broken and key.replaces and key.selector in there:
            keys.append(replace(key, stage=Stage.RETIRED, replaces=()))
        elif key.selector in there or key.stage in (Stage.RETIRING, Stage.RETIRED):
            keys.append(key)
        elif key.stage is Stage.ACTIVE:
            errors.append(f"{place}/{key.selector}.pem: is gone; it should sign")
    return replace(ring, keys=tuple(keys))


def described(key: SigningKey, stage: Stage) -> KeyFile:
    try:
        created_at = os.stat(key.path).st_mtime
    except OSError:
        created_at = 0.0
    name = f"{key.selector}._domainkey.{key.domain}"
    return KeyFile(key.domain, key.selector, key.algorithm, key.bits, key.path, name, record(key), created_at, stage)


def _names(folder: str) -> tuple[list[str], str]:
    """The key files of a domain, and why they cannot be told: what is not seen must not be taken for gone."""
    try:
        return sorted(name for name in os.listdir(folder) if name.endswith(".pem") and not name.startswith(".")), ""
    except FileNotFoundError:
        return [], ""
    except OSError as error:
        return [], f"{folder}: cannot be read: {error.strerror}"


def _write(path: str, octets: bytes) -> None:
    """Write, fsync, and link into place: a name that exists is never replaced. Durable on return."""
    folder = os.path.dirname(path)
    temporary = f"{folder}/.{os.path.basename(path)}.{os.getpid()}.tmp"
    with suppress(FileNotFoundError):
        os.unlink(temporary)  # of a crash, before which we had this number too
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with open(handle, "wb") as file:
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise DkimKeyError(f"{path} exists already") from None
    finally:
        os.unlink(temporary)
    ledger.sync_folder(folder)
