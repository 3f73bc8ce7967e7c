-- MTA-STS policies that were fetched, and what TLS came to, for the daily reports of TLSRPT.

CREATE TABLE sts_policy (
    domain TEXT PRIMARY KEY,
    id TEXT NOT NULL,
    mode TEXT NOT NULL,
    mx TEXT NOT NULL, -- patterns, one a line
    max_age_s INTEGER NOT NULL,
    fetched_at REAL NOT NULL,
    used_at REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tls_session (
    day INTEGER NOT NULL, -- days since 1970, UTC
    domain TEXT NOT NULL, -- whose policy it was
    policy TEXT NOT NULL, -- JSON
    result TEXT NOT NULL, -- "" is success
    mx TEXT NOT NULL,
    sender_ip TEXT NOT NULL,
    mx_ip TEXT NOT NULL,
    reason TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (day, domain, policy, result, mx, sender_ip, mx_ip, reason)
) STRICT, WITHOUT ROWID;
