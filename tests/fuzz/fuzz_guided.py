"""The same parsers under atheris, which follows the code that an input reaches: `fuzz_guided.py PARSER [OPTION...]`.

The options are those of libFuzzer. It ends with the input that did harm in a file. `scripts/fuzz.sh` runs it where
atheris is installed; nothing else needs it. `--list` names the parsers, `--seeds PARSER FOLDER` writes
what it begins with.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]


def main(words: list[str]) -> int:
    if words[:1] == ["--list"]:
        import fuzz_table

        print(*(parser.name for parser in fuzz_table.PARSERS), sep="\n")
        return 0
    if words[:1] == ["--seeds"] and len(words) == 3:
        import fuzz_table

        for number, octets in enumerate(fuzz_table.BY_NAME[words[1]].beginnings()):
            Path(words[2], f"seed-{number}").write_bytes(octets)
        return 0
    if not words or words[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 64
    import atheris

    with atheris.instrument_imports(include=["mtad", "mtactl"]):
        import fuzz_table

    parser = fuzz_table.BY_NAME[words[0]]

    def one(octets: bytes) -> None:
        if parser.pieces is None:
            parser.run(octets)
            return
        # The first octet says how large the pieces are.
        size, octets = octets[0] + 1 if octets else 1, octets[1:]
        pieces = [octets[at : at + size] for at in range(0, len(octets), size)]
        assert parser.run_pieces(pieces) == parser.run(octets), f"in pieces of {size} it is another result"

    atheris.Setup([sys.argv[0], *words[1:]], one)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
