-- What operators did and to which recipients, and the rules by which new mail is held.

CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- never used twice: recipients remember it
    at REAL NOT NULL,
    uid INTEGER NOT NULL,
    who TEXT NOT NULL,
    operation TEXT NOT NULL,
    selector TEXT NOT NULL,
    reason TEXT NOT NULL,
    changed INTEGER NOT NULL
) STRICT;

CREATE INDEX audit_at ON audit (at);

-- A recipient that an operation changed, as it was before. It goes with its message.
CREATE TABLE touched (
    message INTEGER NOT NULL REFERENCES message (id) ON DELETE CASCADE,
    n INTEGER NOT NULL,
    audit INTEGER NOT NULL,
    state INTEGER NOT NULL,
    next_at REAL NOT NULL,
    address TEXT NOT NULL, -- this and the domain: "" unless they were changed
    domain TEXT NOT NULL,
    PRIMARY KEY (message, n, audit)
) STRICT, WITHOUT ROWID;

-- The id is that of the audited operation that made the rule: what it holds is touched under that number.
CREATE TABLE hold_rule (
    id INTEGER PRIMARY KEY,
    sender TEXT NOT NULL,
    recipient TEXT NOT NULL,
    domain TEXT NOT NULL,
    user TEXT NOT NULL,
    ip TEXT NOT NULL,
    reason TEXT NOT NULL,
    who TEXT NOT NULL,
    made_at REAL NOT NULL,
    until_at REAL NOT NULL, -- 0: for good
    freezes INTEGER NOT NULL -- made by `user freeze`
) STRICT;
