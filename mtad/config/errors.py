"""What is wrong with the settings, said so that it can be fixed."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from mtad.mail.text import clean


@dataclass(frozen=True, slots=True)
class ConfigError:
    """One problem: the key ("delivery.retry", "MTA_HOSTNAME", or the file), what is wrong, and what to do about it."""

    key: str
    text: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.key}: {self.text}" + (f" ({self.hint})" if self.hint else "")


class ConfigErrors(Exception):  # noqa: N818  (it carries them all)
    """Every problem of the settings at once; str() is one line per problem."""

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.errors = tuple(errors)


@dataclass(slots=True)
class Findings:
    """What was found while reading: errors stop the daemon, warnings do not."""

    errors: list[ConfigError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def error(self, key: str, text: str, hint: str = "") -> None:
        # Both may hold what somebody pasted into the file.
        self.errors.append(ConfigError(clean(key), clean(text), hint))

    def warn(self, key: str, text: str, hint: str = "") -> None:
        self.warnings.append(str(ConfigError(clean(key), clean(text), hint)))
