"""The scenarios run as they do from `scripts/faults.sh`, only shorter."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_result import Result, Skipped

Scenario = Callable[..., Result]


@pytest.fixture
def scenario(short_dir: Path) -> Scenario:
    """Runs one by its name; skips what cannot run here."""
    from fault_scenarios import SCENARIOS

    def run(name: str, count: int, **more: object) -> Result:
        try:
            return asyncio.run(SCENARIOS[name].run(short_dir, count, random.Random(name), **more))
        except Skipped as why:
            pytest.skip(str(why))

    return run
