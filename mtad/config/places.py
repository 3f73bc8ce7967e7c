"""Where the configuration, the data and the sockets are: --root, MTA_ROOT, the role of the user."""

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mtad.config.tree import Paths

SERVICE_USER = "mtad"
SOCKET_PATH_MAX = 107  # sun_path of unix(7), without its final NUL

Role = Literal["root", "system", "user"]


@dataclass(frozen=True, slots=True)
class Place:
    """The paths, and which defaults belong to them: under a root, the system's service, or a user's own."""

    role: Role
    paths: Paths
    aliases: str


def locate(root: str = "", config: str = "", environ: Mapping[str, str] | None = None, uid: int | None = None) -> Place:
    """All places, absolute. Options win over MTA_ROOT and MTA_CONFIG. Touches nothing."""
    environ = os.environ if environ is None else environ
    uid = os.geteuid() if uid is None else uid
    root = root or environ.get("MTA_ROOT", "")
    config = config or environ.get("MTA_CONFIG", "")
    if root:
        root = os.path.abspath(root)
        place = Place("root", Paths(f"{root}/mtad.toml", f"{root}/data", f"{root}/run"), f"{root}/aliases")
    elif uid == 0 or _name_of(uid) == SERVICE_USER:
        place = Place("system", Paths("/etc/mtad/mtad.toml", "/var/lib/mtad", "/run/mtad"), "/etc/aliases")
    else:
        place = _user_place(environ, uid)
    if config:
        paths = Paths(os.path.abspath(config), place.paths.data, place.paths.run)
        place = Place(place.role, paths, place.aliases)
    return place


def _user_place(environ: Mapping[str, str], uid: int) -> Place:
    home = environ.get("HOME") or _home_of(uid)

    def base(variable: str, default: str) -> str:
        given = environ.get(variable, "")
        return given if given.startswith("/") else f"{home}/{default}"  # a relative one is to be ignored (XDG)

    data = f"{base('XDG_STATE_HOME', '.local/state')}/mtad"
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    run = f"{runtime}/mtad" if runtime.startswith("/") else f"{data}/run"
    return Place("user", Paths(f"{base('XDG_CONFIG_HOME', '.config')}/mtad/mtad.toml", data, run), "/etc/aliases")


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def _home_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        return "/"
