"""All parsers of outside octets: what the properties run over."""

import fuzz_chains
import fuzz_files
import fuzz_mail
import fuzz_peers
import fuzz_state

PARSERS = (*fuzz_mail.PARSERS, *fuzz_peers.PARSERS, *fuzz_files.PARSERS, *fuzz_state.PARSERS, *fuzz_chains.PARSERS)
BY_NAME = {parser.name: parser for parser in PARSERS}
