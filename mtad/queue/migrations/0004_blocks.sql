-- Who is kept out: an address, a network, "user@domain" or "@domain". until_at 0 is for good.

CREATE TABLE block (
    value TEXT PRIMARY KEY,
    reason TEXT NOT NULL,
    made_by TEXT NOT NULL,
    made_at REAL NOT NULL,
    until_at REAL NOT NULL,
    times INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
