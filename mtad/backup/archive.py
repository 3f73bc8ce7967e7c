"""The file of a backup: a tar archive, gzipped, and sealed on request. What is in it, in this order:

`backup.json` (of what, when, by which version), `mta.db`, `mtad.toml`, `files/...` (what the settings name),
`dkim/...`, `queue/...` (large bodies), `MANIFEST.json` (size and digest of each). Without its
manifest an archive is unfinished.
"""

import gzip
import hashlib
import io
import json
import re
import struct
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from mtad.backup import sealed
from mtad.backup.sealed import Opened, Sealer, SealError, Secret, Sink

FORMAT = 1
ABOUT, MANIFEST, DATABASE, SETTINGS = "backup.json", "MANIFEST.json", "mta.db", "mtad.toml"
JSON_MAX_BYTES = 256 << 20  # of the manifest; a million bodies have 100 MB
ABOUT_MAX_BYTES = 1 << 20
HEAD_MAX_BYTES = 1 << 20  # of what tar says of a file before it: a long name
BLOCK_BYTES = 256 * 1024

# Measured on a queue of text and encoded attachments: level 3 is twice as fast as 6 and 11 % larger.
_LEVEL = 3
_NAME = re.compile(r"(?:mta\.db|mtad\.toml|queue/[0-9a-z]{12}|dkim/[^/\0]{1,255}/[^/\0]{1,255}|files/[^\0]{1,4000})")
_GZIP = b"\x1f\x8b"


class BackupError(ValueError):
    """It is no backup, or a damaged one; the words are for the operator."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a backup."""

    name: str
    size_bytes: int
    mode: int
    mtime: int


class _Info(tarfile.TarInfo):
    """tarfile reads what stands before a file as a whole, however long it says it is."""

    _LONG = frozenset(
        (
            tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
            tarfile.GNUTYPE_LONGLINK, tarfile.GNUTYPE_SPARSE,
        )
    )  # fmt: skip

    def _proc_member(self, tar: tarfile.TarFile) -> Any:
        if self.type in self._LONG and self.size > HEAD_MAX_BYTES:
            raise BackupError("it is damaged: a name in it is too long")
        return super()._proc_member(tar)  # type: ignore[misc]


class Packer:
    """Writes a backup to `out`. `finish` ends it: what has no end is no backup. `sizes` is what is in it so far."""

    def __init__(self, out: Sink, secret: Secret | None) -> None:
        self.sizes: dict[str, int] = {}
        self._digests: dict[str, str] = {}
        self._sealer = Sealer(out, secret) if secret is not None else None
        self._gzip = _Gzip(self._sealer or out)
        self._tar = tarfile.open(fileobj=self._gzip, mode="w|", format=tarfile.PAX_FORMAT)  # type: ignore[call-overload]  # noqa: SIM115

    def add(self, member: Member, source: IO[bytes]) -> None:
        """Raises BackupError when the source is shorter than it said."""
        reader = _Digesting(source)
        info = tarfile.TarInfo(member.name)
        info.size, info.mode, info.mtime = member.size_bytes, member.mode, member.mtime
        try:
            self._tar.addfile(info, reader)
        except (tarfile.TarError, OSError) as error:
            if isinstance(error, OSError) and error.errno:
                raise
            raise BackupError(f"{member.name} ended early") from None
        self.sizes[member.name] = member.size_bytes
        self._digests[member.name] = reader.digest.hexdigest()

    def finish(self, now: float) -> None:
        files = {name: {"size_bytes": size, "sha256": self._digests[name]} for name, size in self.sizes.items()}
        octets = json.dumps({"format": FORMAT, "files": files}, indent=0).encode()
        self.add(Member(MANIFEST, len(octets), 0o600, int(now)), io.BytesIO(octets))
        self._tar.close()
        self._gzip.finish()
        if self._sealer is not None:
            self._sealer.finish()


class _Gzip:
    """Compresses what is written to it."""

    def __init__(self, out: Sink) -> None:
        self._out = out
        self._deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, 31)

    def write(self, octets: bytes) -> int:
        if packed := self._deflate.compress(octets):
            self._out.write(packed)
        return len(octets)

    def finish(self) -> None:
        self._out.write(self._deflate.flush())


class _Digesting:
    """A source whose digest is known once it was read."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self.digest = hashlib.sha256()

    def read(self, count: int = -1) -> bytes:
        octets = self._source.read(count)
        self.digest.update(octets)
        return octets


@contextmanager
def opened(file: IO[bytes], secret: Secret | None) -> Iterator[tarfile.TarFile]:
    """The archive in a file, as a stream. Everything that can be wrong with it is a BackupError, and what cannot be
    read an OSError."""
    try:
        start = file.read(len(sealed.MAGIC))
        file.seek(0)
        plain: IO[bytes] = file
        if start == sealed.MAGIC:
            plain = io.BufferedReader(Opened(file, secret), BLOCK_BYTES)
        elif start[:2] != _GZIP:
            raise BackupError("it is not a backup of mtad")
        elif secret is not None:
            raise BackupError("it is not encrypted")
        with (
            gzip.GzipFile(fileobj=plain, mode="rb") as unpacked,
            tarfile.open(fileobj=unpacked, mode="r|", bufsize=BLOCK_BYTES, tarinfo=_Info) as tar,
        ):
            yield tar
            while octets := unpacked.read(BLOCK_BYTES):  # to the end: its check sum, and nothing behind the archive
                if octets.strip(b"\0"):
                    raise BackupError("something follows its end")
    except SealError as error:
        raise BackupError(str(error)) from None
    except (
        EOFError,
        gzip.BadGzipFile,
        zlib.error,
        tarfile.TarError,
        struct.error,
        OverflowError,
        UnicodeError,
    ) as error:
        what = "it ends too early" if isinstance(error, EOFError) else "it is damaged"
        raise BackupError(f"{what}: {_plain(error)}") from None
    except OSError as error:
        if error.errno is None:  # of tarfile and gzip
            raise BackupError(f"it is damaged: {_plain(error)}") from None
        raise


def members(tar: tarfile.TarFile) -> Iterator[tuple[Member, IO[bytes]]]:
    """Each file with its octets, which must be read before the next one is asked for. The first is ABOUT, and the last
    MANIFEST; what has another order, a strange name, or is no file, is a BackupError."""
    seen: set[str] = set()
    for info in tar:
        expected = not seen if info.name == ABOUT else bool(seen) and MANIFEST not in seen
        safe = info.name in (ABOUT, MANIFEST) or (_NAME.fullmatch(info.name) and ".." not in info.name.split("/"))
        if not info.isreg() or info.issparse() or not expected or not safe or info.name in seen:
            raise BackupError(f"{info.name[:80]!a} does not belong there")
        source = tar.extractfile(info)
        assert source is not None
        seen.add(info.name)
        yield Member(info.name, info.size, info.mode & 0o777, int(info.mtime)), source
    if MANIFEST not in seen:
        raise BackupError("it has no end: it was never finished")


def read_json(member: Member, source: IO[bytes]) -> dict[str, Any]:
    if member.size_bytes > JSON_MAX_BYTES:
        raise BackupError(f"{member.name} is too large")
    try:
        found = json.loads(source.read())
    except (ValueError, RecursionError):
        raise BackupError(f"{member.name} is damaged") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise BackupError(f"{member.name} is of another version")
    return found


def digests_of(manifest: Mapping[str, Any]) -> dict[str, tuple[int, str]]:
    """Name -> size and digest."""
    try:
        return {str(name): (int(one["size_bytes"]), str(one["sha256"])) for name, one in manifest["files"].items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BackupError(f"{MANIFEST} is damaged") from None


def _plain(error: BaseException) -> str:
    return str(error).partition("\n")[0][:120] or type(error).__name__
