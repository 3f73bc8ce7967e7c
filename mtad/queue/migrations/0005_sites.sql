-- What a restart must not forget of the sites that mail goes to, and what operators suspended.

CREATE TABLE site (
    name TEXT PRIMARY KEY,
    data TEXT NOT NULL -- JSON, as mtad.outbound.sites writes it: breaker, warm-up, domains
) STRICT, WITHOUT ROWID;

CREATE TABLE suspension (
    kind TEXT NOT NULL, -- domain, site, user
    value TEXT NOT NULL,
    reason TEXT NOT NULL,
    made_by TEXT NOT NULL,
    made_at REAL NOT NULL,
    until_at REAL NOT NULL, -- 0 is until it is removed
    PRIMARY KEY (kind, value)
) STRICT, WITHOUT ROWID;
