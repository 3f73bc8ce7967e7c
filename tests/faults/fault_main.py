"""Runs the scenarios and prints the table. `scripts/faults.sh` is the way in."""

import argparse
import asyncio
import json
import os
import platform
import random
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "peers"), str(HERE.parents[1])]

from fault_result import Result, Skipped, table  # noqa: E402
from fault_scenarios import SCENARIOS, Scenario  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/faults.sh", description=__doc__)
    parser.add_argument("--long", action="store_true", help="the numbers of docs/reliability.md; takes hours")
    parser.add_argument("--short", action="store_true", help="some of everything; takes minutes (the default)")
    parser.add_argument("--keep", type=Path, help="add the results to this file, and print the table of all in it")
    parser.add_argument("--dir", type=Path, default=Path("/var/tmp"), help="where the daemons' data lie  [/var/tmp]")
    parser.add_argument("--seed", type=int, default=0, help="of the random instants; 0: a new one")
    parser.add_argument("names", nargs="*", help="only these, so often with NAME=COUNT: " + ", ".join(SCENARIOS))
    given = parser.parse_args()
    chosen: list[tuple[Scenario, tuple[int, ...]]] = []
    for word in given.names or SCENARIOS:
        name, counted, count = word.partition("=")
        if name not in SCENARIOS:
            parser.error(f"there is no {name}: {', '.join(SCENARIOS)}")
        if counted and not (count.isdecimal() and int(count)):
            parser.error(f"{word}: how often is a number from 1 on")
        scenario = SCENARIOS[name]
        chosen.append((scenario, (int(count),) if counted else scenario.long if given.long else (scenario.short,)))
    results: list[Result] = []
    for scenario, pieces in chosen:
        for count in pieces:
            if (result := _run(scenario, count, given.dir, given.seed)) is not None:
                results.append(result)
                if given.keep:
                    with given.keep.open("a") as file:
                        file.write(json.dumps(asdict(result)) + "\n")
    if given.keep:
        results = [Result.of(json.loads(line)) for line in given.keep.read_text().splitlines()]
    print(table(results))
    print(
        f"\n{platform.system()} {platform.release()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    )
    return 0 if all(result.good for result in results) else 1


def _run(scenario: Scenario, count: int, directory: Path, seed: int) -> Result | None:
    """One piece of a scenario, in a directory that is kept when something was found."""
    seed = seed or random.SystemRandom().randrange(1, 1 << 31)
    root = Path(tempfile.mkdtemp(prefix="mtad-faults-", dir=directory))
    print(f"{scenario.what}: {count}, seed {seed} ...", file=sys.stderr, flush=True)
    begun = time.monotonic()
    try:
        result = asyncio.run(scenario.run(root, count, random.Random(seed)))
    except Skipped as why:
        print(f"  skipped: {why}", file=sys.stderr)
        shutil.rmtree(root, ignore_errors=True)
        return None
    result.took_s = time.monotonic() - begun
    print(f"  {result.took_s:.0f} s: {result.verdict} {result.notes}", file=sys.stderr, flush=True)
    if result.good:
        shutil.rmtree(root, ignore_errors=True)
    else:
        print(f"  NOT GOOD; everything is in {root}", file=sys.stderr)
    return result


if __name__ == "__main__":
    sys.exit(main())
