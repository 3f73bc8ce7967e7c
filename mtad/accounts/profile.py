"""What an account has beyond its name and password: one frozen value, kept as JSON. Pure."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from mtad.accounts.scram import ITERATIONS_MAX, Keys

APP_PASSWORDS_MAX = 50
LABEL_MAX = 60
SENDERS_MAX = 1000
CERTIFICATES_MAX = 50


@dataclass(frozen=True, slots=True, repr=False)
class AppPassword:
    """A password for one program. It was generated, so keys of SCRAM are as good a form of it as any."""

    label: str
    keys: Keys
    created_at: float
    used_at: float = 0.0  # to the day; 0 = never


@dataclass(frozen=True, slots=True, repr=False)
class Profile:
    """`salt`, `iterations` belong to `keys` and to those of all app passwords. Limits: None is the configured default,
    0 no limit."""

    salt: bytes = b""
    iterations: int = 0
    keys: Keys | None = None  # of the account's own password; None until it was given once
    app_passwords: tuple[AppPassword, ...] = ()
    senders: tuple[str, ...] = ()  # beyond the own address and aliases: addresses, and "@domain"
    certificates: tuple[str, ...] = ()  # SHA-256 of the DER form, lower-case hex
    messages_per_day: int | None = None
    new_recipients_per_day: int | None = None
    receive_only: bool = False


@lru_cache(maxsize=4096)
def parse(data: str) -> Profile:
    """The profile of its JSON form. Unknown members are left out. ValueError for anything else."""
    try:
        given = json.loads(data or "{}")
        scram = given.get("scram") or {}
        limits = given.get("limits") or {}
        return Profile(
            salt=_unb64(scram.get("salt", "")),
            iterations=_iterations(scram),
            keys=_keys(scram) if "stored_key" in scram else None,
            app_passwords=tuple(
                AppPassword(str(one["name"]), _keys(one), float(one["created_at"]), float(one.get("used_at", 0.0)))
                for one in given.get("app_passwords", ())
            ),
            senders=tuple(str(one) for one in given.get("senders", ())),
            certificates=tuple(str(one) for one in given.get("certificates", ())),
            messages_per_day=_limit(limits.get("messages_per_day")),
            new_recipients_per_day=_limit(limits.get("new_recipients_per_day")),
            receive_only=bool(given.get("receive_only", False)),
        )
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError):
        raise ValueError("the data of an account is damaged") from None  # nothing of it, for it holds keys


def dump(profile: Profile) -> str:
    """The JSON form; what is at its default is left out."""
    data: dict[str, Any] = {}
    if profile.iterations:
        data["scram"] = {"salt": _b64(profile.salt), "iterations": profile.iterations}
        if profile.keys is not None:
            data["scram"].update(_of_keys(profile.keys))
    if profile.app_passwords:
        data["app_passwords"] = [
            {"name": one.label, **_of_keys(one.keys), "created_at": one.created_at, "used_at": one.used_at}
            for one in profile.app_passwords
        ]
    for name in ("senders", "certificates"):
        if getattr(profile, name):
            data[name] = list(getattr(profile, name))
    limits = {
        name: getattr(profile, name)
        for name in ("messages_per_day", "new_recipients_per_day")
        if getattr(profile, name) is not None
    }
    if limits:
        data["limits"] = limits
    if profile.receive_only:
        data["receive_only"] = True
    return json.dumps(data, separators=(",", ":")) if data else ""


def used(profile: Profile, label: str, now: float) -> Profile:
    """The profile after the app password of that label was right."""
    kept = (replace(one, used_at=now) if one.label == label else one for one in profile.app_passwords)
    return replace(profile, app_passwords=tuple(kept))


def _keys(given: Mapping[str, Any]) -> Keys:
    return Keys(_unb64(given["stored_key"]), _unb64(given["server_key"]))


def _of_keys(keys: Keys) -> dict[str, str]:
    return {"stored_key": _b64(keys.stored_key), "server_key": _b64(keys.server_key)}


def _iterations(given: Mapping[str, Any]) -> int:
    """Each try of a password costs so many."""
    found = int(given.get("iterations", 0))
    if not 0 <= found <= ITERATIONS_MAX:
        raise ValueError("iterations")
    return found


def _limit(given: Any) -> int | None:
    return None if given is None else int(given)


def _b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii")


def _unb64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
