"""Is this host fit to serve mail? Facts are gathered by thin I/O (`gather_*`), judged by pure functions (`judge_*`)."""
