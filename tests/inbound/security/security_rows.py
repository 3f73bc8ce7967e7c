"""The rows of the list of attacks that the front door answers for, and the run of one attack against both servers."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from inbound_house import House
from security_target import Target, Unsafe, ours, stock

# Numbers of the project's security checklist.
ROWS = (1, 2, 3, 4, *range(8, 18), *range(19, 26), *range(35, 41))

# Rows at which the stock class cannot fail, and why.
WHY_NOT = {
    1: "aiosmtpd ends a mail at CRLF.CRLF alone since 1.4.5 (CVE-2024-27305)",
    3: "the class has no sendmail program and no local socket",
    4: "aiosmtpd drops what was pipelined behind STARTTLS since 1.4.6 (CVE-2024-34083)",
    11: "aiosmtpd refuses a line of more than 1,001 octets, which is safe, if strict",
    19: "the class has no sendmail program",
    20: "the class knows no parameter that could carry a line end, and writes no queue and no report",
    21: "the class is a server, and speaks to no other server",
    24: "the class has no database",
    37: "TLS versions and ciphers are those of the context that the class is given",
    40: "the class has no control socket",
}

Attack = Callable[[Target], Awaitable[None]]


async def prove(
    row: int,
    attack: Attack,
    house: House,
    *,
    safe_there: bool = False,
    stock_options: Mapping[str, Any] | None = None,
    **limits: Any,
) -> None:
    """Ours withstands; the stock class does not, unless WHY_NOT says so or this part of the row is `safe_there`."""
    await withstand(attack, house, **limits)
    async with stock(house.tls, **(stock_options or {})) as target:
        if row in WHY_NOT or safe_there:
            await attack(target)
        else:
            with pytest.raises(Unsafe):
                await attack(target)


async def withstand(attack: Attack, house: House, **limits: Any) -> None:
    """Ours does, and nothing broke inside."""
    async with ours(house, **limits) as target:
        await attack(target)
    assert not [line for line in house.log if "Traceback" in line or "internal error" in line], house.log
