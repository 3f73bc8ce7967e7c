"""mtad.toml and MTA_* variables -> parsed values by key, with every problem noted."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from mtad.config.errors import Findings
from mtad.config.keys import KEYED, KEYS, REPEATED, SECTIONS, Key
from mtad.config.parse import BadValue
from mtad.config.places import Place

FILE_MAX_BYTES = 4 * 1024 * 1024
SECRET_MAX_BYTES = 64 * 1024
TABLES_MAX = 10_000

# Of the family, but no settings: read by the commands, the logs and the fault points themselves.
OTHER_VARIABLES = frozenset({"MTA_ROOT", "MTA_CONFIG", "MTA_SOCKET", "MTA_SENDMAIL_STRICT", "MTA_FAULT"})
OTHER_PREFIX = "MTA_LOG_"

_BY_PATH = {key.path: key for key in KEYS}
_VARIABLES = {key.variable: key for key in KEYS if key.variable}


def read_file(place: Place, findings: Findings, *, optional: bool) -> dict[str, Any] | None:
    """The TOML document; None (and one error) when there is none to be had. An `optional` file may be absent."""
    import tomllib  # late: most who need the tree never read a file

    path = place.paths.config
    folder = os.path.dirname(path)
    root = f"--root {folder} " if place.role == "root" and place.paths.data == f"{folder}/data" else ""
    hint = f"make one: mtactl {root}init --hostname HOST --domain DOMAIN"
    octets = _read(path, FILE_MAX_BYTES, path, findings, optional=optional, hint=hint)
    if octets is None:
        return {} if optional and not findings.errors else None
    try:
        return tomllib.loads(octets.decode("utf-8-sig"))  # Windows' editors begin a file with a BOM
    except UnicodeDecodeError as error:
        findings.error(path, f"is not UTF-8 (line {octets.count(10, 0, error.start) + 1})")
    except tomllib.TOMLDecodeError as error:
        twice = str(error).startswith("Cannot ")
        hint = "each key and each [section] once" if twice else 'texts need quotes, lists brackets: key = ["..."]'
        findings.error(path, f"is not TOML: {error}", hint)
    except RecursionError:
        findings.error(path, "is nested too deeply")
    except ValueError:  # of int(), with a number of more than 4300 digits
        findings.error(path, "holds a number that is out of range")
    return None


def values_of(document: Mapping[str, Any], place: Place, findings: Findings) -> dict[str, Any]:
    """Parsed values by key path, without the tables that repeat."""
    return dict(_walk(document, "", place, findings))


def tables_of(section: str, document: Mapping[str, Any], place: Place, findings: Findings) -> list[dict[str, Any]]:
    """One dict of parsed values per table of a section that repeats, keyed by the field of the tree."""
    above, _, word = section.rpartition(".")
    parent = document.get(above)
    tables = parent.get(word, []) if isinstance(parent, dict) else []
    if section in KEYED:
        return _named_tables(section, tables or {}, place, findings)
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        findings.error(section, "is not a list of tables", f"begin each one with [[{section}]]")
        return []
    if len(tables) > TABLES_MAX:
        findings.error(section, f"has more than {TABLES_MAX} entries")
        return []
    found = []
    for number, table in enumerate(tables, 1):
        label = f"{section}[{number}]"
        before = len(findings.errors)
        values = {_BY_PATH[path].field: value for path, value in _walk(table, section, place, findings, label)}
        for key in KEYS:
            if key.section == section and key.default == "(required)" and key.name not in table:
                findings.error(f"{label}.{key.name}", "is missing", key.help)
        if len(findings.errors) == before:
            found.append(values)
    return found


def _named_tables(section: str, tables: Any, place: Place, findings: Findings) -> list[dict[str, Any]]:
    """As tables_of, where each has a name: it becomes the field "match"."""
    parse, example = KEYED[section]
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        findings.error(section, "needs a name for each table", f'begin each one with [{section}."{example}"]')
        return []
    if len(tables) > TABLES_MAX:
        findings.error(section, f"has more than {TABLES_MAX} entries")
        return []
    found: dict[str, dict[str, Any]] = {}
    for name, table in tables.items():
        label = f'{section}."{name[:60]}"'
        try:
            match = parse(name)
        except BadValue as error:
            # Without quotes each dot begins a table of its own.
            bare = any(isinstance(value, dict) for value in table.values())
            findings.error(label, error.text, f'[{section}."{example}"] with quotes' if bare else error.hint)
            continue
        inner = next((key for key, value in table.items() if isinstance(value, dict)), "")
        if inner:
            findings.error(label, "holds another table", f'write the name in quotes: [{section}."{name}.{inner}"]')
            continue
        if match in found:
            findings.error(label, f"is there twice, as {match}")
        values = {_BY_PATH[path].field: value for path, value in _walk(table, section, place, findings, label)}
        found[match] = {"match": match, **values}
    return list(found.values())


def override(values: dict[str, Any], environ: Mapping[str, str], place: Place, findings: Findings) -> None:
    """Put the MTA_* variables over the values of the file."""
    for variable, key in _VARIABLES.items():
        text = _variable(variable, environ, findings)
        if text is not None:
            parsed = _parsed(key, text, variable, place, findings, key.variable_parse)
            values.update({key.path: parsed} if parsed is not None else {})
    credentials = environ.get("CREDENTIALS_DIRECTORY", "")
    if credentials and not {"MTA_ADMIN_TOKEN", "MTA_ADMIN_TOKEN_FILE"} & environ.keys():
        octets = _read(f"{credentials}/admin_token", SECRET_MAX_BYTES, "access.admin_token", findings, optional=True)
        if octets is not None:
            text = octets.decode("utf-8", "replace").strip()
            values["access.admin_token"] = _parsed(_BY_PATH["access.admin_token"], text, "", place, findings)
    known = {*_VARIABLES, *(f"{variable}_FILE" for variable in _VARIABLES), *OTHER_VARIABLES}
    for variable in sorted(environ):
        if variable.startswith("MTA_") and variable not in known and not variable.startswith(OTHER_PREFIX):
            findings.warn(variable, "unknown variable, ignored", did_you_mean(variable, known))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    import difflib

    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]}?" if near else ""


def _walk(
    table: Mapping[str, Any], section: str, place: Place, findings: Findings, label: str = ""
) -> Iterable[tuple[str, Any]]:
    """(key path, parsed value) of one table and the tables in it; `label` is the section's name in messages."""
    for name, value in table.items():
        path = f"{section}.{name}" if section else name
        shown = f"{label or section}.{name}" if section else name
        if path in REPEATED:
            continue
        if path in SECTIONS:
            if isinstance(value, dict):
                yield from _walk(value, path, place, findings)
            else:
                findings.error(shown, "is a section, not a value", f"write [{path}] and its keys below it")
            continue
        key = _BY_PATH.get(path)
        if key is None:
            findings.error(shown, "unknown key", _hint_for_unknown(section, name))
            continue
        parsed = _parsed(key, value, shown, place, findings)
        if parsed is not None:
            yield path, parsed


def _hint_for_unknown(section: str, name: str) -> str:
    here = [key.name for key in KEYS if key.section == section]
    here += [path.rpartition(".")[2] for path in SECTIONS if path and path.rpartition(".")[0] == section]
    near = did_you_mean(name, here)
    if near:
        return near
    elsewhere = [key for key in KEYS if key.name == name and key.section != section]
    if elsewhere:
        return (
            f"it belongs to [{elsewhere[0].section}]" if elsewhere[0].section else "it belongs above the first section"
        )
    return "known here: " + ", ".join(here)


def _parsed(key: Key, value: Any, shown: str, place: Place, findings: Findings, parse: Any = None) -> Any:
    """The parsed value, paths made absolute; None after noting an error (no parser gives None but for http = "")."""
    try:
        parsed = (parse or key.parse)(value)
    except BadValue as error:
        findings.error(shown or key.path, error.text, error.hint)
        return None
    if key.base == "file":
        folder = os.path.dirname(place.paths.config)
        if isinstance(parsed, tuple):
            return tuple(os.path.normpath(os.path.join(folder, path)) for path in parsed)
        return os.path.normpath(os.path.join(folder, parsed)) if parsed else ""
    return parsed


def _variable(variable: str, environ: Mapping[str, str], findings: Findings) -> str | None:
    """The text of NAME, or of the file that NAME_FILE names. A variable set to nothing counts as unset."""
    text, path = environ.get(variable, ""), environ.get(f"{variable}_FILE", "")
    if text and path:
        findings.error(variable, f"is set, and {variable}_FILE too", "unset one of them")
        return None
    if not path:
        return text or None
    octets = _read(path, SECRET_MAX_BYTES, f"{variable}_FILE", findings, optional=False)
    return None if octets is None else octets.decode("utf-8", "replace").strip()


def _read(path: str, limit: int, key: str, findings: Findings, *, optional: bool, hint: str = "") -> bytes | None:
    """The octets; None when there are none, after noting an error. `hint` is for a file that does not exist."""
    where = "" if key == path else f"{path} "
    try:
        with open(path, "rb") as file:
            octets = file.read(limit + 1)
    except FileNotFoundError:
        if not optional:
            findings.error(key, f"{where}does not exist", hint)
        return None
    except OSError as error:
        findings.error(key, f"{where}cannot be read: {error.strerror}")
        return None
    if len(octets) > limit:
        findings.error(key, f"{where}is larger than {limit} octets")
        return None
    return octets
