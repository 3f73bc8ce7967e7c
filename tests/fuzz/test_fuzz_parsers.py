"""Every parser of outside octets: nothing but what it declares is raised, whatever it is given and however it is cut.

The parsers with their own properties are in `fuzz_mail.py`, `fuzz_peers.py` and `fuzz_files.py`; `corpus/` holds inputs
that once did harm, here or to others. `scripts/fuzz.sh` runs the same for as long as one likes.
"""

import pytest
from fuzz_parser import CORPUS, MANY, Parser, cut, mutants
from fuzz_table import PARSERS
from hypothesis import given
from hypothesis import strategies as st

by_name = pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
KEPT = [(parser, path) for parser in PARSERS for path in sorted((CORPUS / parser.name).glob("*"))]


def test_no_parser_stands_twice_and_no_corpus_is_forgotten() -> None:
    names = [parser.name for parser in PARSERS]
    assert len(set(names)) == len(names)
    assert {path.name for path in CORPUS.iterdir()} <= set(names)


@pytest.mark.parametrize(("parser", "path"), KEPT, ids=lambda value: getattr(value, "name", None))
def test_the_corpus_of_attacks_does_no_harm(parser: Parser, path) -> None:  # type: ignore[no-untyped-def]
    octets = path.read_bytes()
    parser.run(octets)
    if parser.pieces is not None:
        pieces = [octets[at : at + 1] for at in range(len(octets))]
        assert parser.run_pieces(pieces) == parser.run(octets)


@by_name
def test_good_input_is_taken(parser: Parser) -> None:
    assert parser.seeds
    outcomes = [parser.run(seed) for seed in parser.seeds]
    assert any(not isinstance(outcome, type) for outcome in outcomes) or parser.name in NEVER_TAKEN


NEVER_TAKEN = {"srs", "scram-server", "sasl-client"}  # they ask for a secret that is not in the seeds


@by_name
@MANY
@given(data=st.data())
def test_nothing_but_what_is_declared_is_raised(parser: Parser, data: st.DataObject) -> None:
    parser.run(data.draw(mutants(parser.seeds)))


@pytest.mark.parametrize("parser", [one for one in PARSERS if one.pieces], ids=lambda parser: parser.name)
@MANY
@given(data=st.data())
def test_any_cut_gives_the_same(parser: Parser, data: st.DataObject) -> None:
    octets = data.draw(mutants(parser.seeds))
    pieces = cut(octets, data.draw(st.lists(st.integers(0, 400), max_size=12)))
    assert parser.run_pieces(pieces) == parser.run(octets)
