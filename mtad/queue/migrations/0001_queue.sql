-- The queue. Ids are the 60-bit numbers of message ids: they grow with time, so new rows go to the end of each table.
-- Times are unix seconds. State numbers are mtad.mail.envelope.State; LEASED is never stored.

CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    sender TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    accepted_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    source TEXT NOT NULL,
    ip TEXT NOT NULL,
    port INTEGER NOT NULL,
    helo TEXT NOT NULL,
    esmtp INTEGER NOT NULL,
    tls TEXT NOT NULL,
    user TEXT NOT NULL,
    uid INTEGER NOT NULL,
    body TEXT NOT NULL,
    smtputf8 INTEGER NOT NULL,
    ret TEXT NOT NULL,
    envid TEXT NOT NULL,
    requiretls INTEGER NOT NULL,
    header_id TEXT NOT NULL,
    subject TEXT NOT NULL,
    digest BLOB NOT NULL,
    finished_at REAL -- when the last recipient ended; NULL while one is READY, HELD or TRASHED
) STRICT;

-- Open messages by id with their sizes (lists, totals), and finished ones by age (the sweep).
CREATE INDEX message_finished ON message (finished_at, id, size_bytes);

CREATE TABLE recipient (
    message INTEGER NOT NULL REFERENCES message (id) ON DELETE CASCADE,
    n INTEGER NOT NULL,
    address TEXT NOT NULL,
    original TEXT NOT NULL,
    domain TEXT NOT NULL,
    state INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    next_at REAL NOT NULL, -- of a TRASHED one: since when it is
    notify TEXT NOT NULL,
    orcpt TEXT NOT NULL,
    warned_at REAL NOT NULL,
    last_code INTEGER NOT NULL, -- 0: no reply yet
    last_status TEXT NOT NULL,
    last_text TEXT NOT NULL,
    last_host TEXT NOT NULL,
    last_stage TEXT NOT NULL,
    last_cause TEXT NOT NULL,
    PRIMARY KEY (message, n)
) STRICT, WITHOUT ROWID;

-- What is due, oldest first; the domain is in it so that skipping one touches no row.
CREATE INDEX recipient_due ON recipient (state, next_at, domain) WHERE state = 0;
-- Open recipients by destination: totals, trash, and jumping from domain to domain.
CREATE INDEX recipient_open ON recipient (state, domain, next_at) WHERE state IN (0, 2, 5);
-- How many ended, by outcome, without reading them.
CREATE INDEX recipient_history ON recipient (state) WHERE state IN (3, 4);

CREATE TABLE body (
    id INTEGER PRIMARY KEY REFERENCES message (id) ON DELETE CASCADE,
    head BLOB NOT NULL,
    data BLOB -- NULL: the octets are in the file of that id in the spool directory
) STRICT;

CREATE TABLE attempt (
    id INTEGER PRIMARY KEY,
    message INTEGER NOT NULL REFERENCES message (id) ON DELETE CASCADE,
    n INTEGER NOT NULL,
    started_at REAL NOT NULL,
    took_s REAL NOT NULL,
    code INTEGER NOT NULL,
    status TEXT NOT NULL,
    text TEXT NOT NULL,
    host TEXT NOT NULL,
    stage TEXT NOT NULL,
    cause TEXT NOT NULL,
    relay TEXT NOT NULL,
    tls TEXT NOT NULL
) STRICT;

CREATE INDEX attempt_message ON attempt (message);

CREATE TABLE user (
    name TEXT PRIMARY KEY,
    secret TEXT NOT NULL,
    created_at REAL NOT NULL,
    disabled TEXT NOT NULL
) STRICT, WITHOUT ROWID;
