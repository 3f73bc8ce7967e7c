"""The state of a domain's keys on disk: data/dkim/<domain>/state.json beside the keys, so that a backup has both.

It is written as a whole and durably before anything follows from it.
"""

import json
import os
from contextlib import suppress
from typing import Any

from mtad.dkim.rotation import KeyState, Ring, Stage

NAME = "state.json"
FILE_MAX_BYTES = 4 * 1024 * 1024
KEYS_MAX = 2000  # more than are ever made: what is written here must be read again
_VERSION = 1


class LedgerError(ValueError):
    """The file cannot be understood. The words are for the operator."""


def read(folder: str, domain: str) -> Ring | None:
    """The ring of a domain; None where nothing was written yet. Raises LedgerError, OSError."""
    try:
        with open(f"{folder}/{domain}/{NAME}", "rb") as file:
            octets = file.read(FILE_MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    try:
        if len(octets) > FILE_MAX_BYTES:
            raise LedgerError("is too large")
        return _ring(domain, json.loads(octets))
    except LedgerError as error:
        raise LedgerError(f"{error}; all keys of the domain sign. Take it from a backup, or remove it") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise LedgerError("is damaged; all keys of the domain sign. Take it from a backup, or remove it") from None


def write(folder: str, ring: Ring) -> None:
    """Replace the state of a domain. Durable on return. Raises OSError."""
    place = f"{folder}/{ring.domain}"
    octets = json.dumps(_plain(ring), indent=1).encode() + b"\n"
    temporary = f"{place}/.{NAME}.{os.getpid()}.tmp"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with open(handle, "wb") as file:
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, f"{place}/{NAME}")
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(place)


def sync_folder(folder: str) -> None:
    """Make the names in a directory durable."""
    handle = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _plain(ring: Ring) -> dict[str, Any]:
    keys = [
        {
            "selector": key.selector,
            "algorithm": key.algorithm,
            "stage": key.stage.value,
            "since": key.since,
            "made_at": key.made_at,
            "record": key.record,
            "replaces": list(key.replaces),
            "linger_s": key.linger_s,
            "until": key.until,
        }
        for key in ring.keys
    ]
    return {"version": _VERSION, "schedule_s": ring.schedule_s, "rotated_at": ring.rotated_at, "keys": keys}


def _ring(domain: str, found: dict[str, Any]) -> Ring:
    if found["version"] != _VERSION:
        raise LedgerError("is of another version of mtad")
    if len(found["keys"]) > KEYS_MAX:
        raise LedgerError("is damaged")
    keys = tuple(
        KeyState(
            selector=_text(key["selector"]),
            algorithm=_text(key["algorithm"]),
            stage=Stage(key["stage"]),
            since=float(key["since"]),
            made_at=float(key["made_at"]),
            record=_text(key["record"]),
            replaces=tuple(_text(name) for name in key["replaces"]),
            linger_s=float(key["linger_s"]),
            until=float(key["until"]),
        )
        for key in found["keys"]
    )
    return Ring(domain, keys, float(found["schedule_s"]), float(found["rotated_at"]))


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 4096:
        raise LedgerError("is damaged")
    return value
