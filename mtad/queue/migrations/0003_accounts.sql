-- Accounts: what a user has beyond a password (JSON), this installation's secret, and what users sent.

ALTER TABLE user ADD COLUMN data TEXT NOT NULL DEFAULT '';

CREATE TABLE secret (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- From it the salts follow that names without an account get, so that they look like all others.
INSERT INTO secret VALUES ('accounts', randomblob(32));

-- Messages of a user by the time they were accepted, in steps of mtad.queue.sending.STEP_S.
CREATE TABLE sent (
    user TEXT NOT NULL,
    at INTEGER NOT NULL, -- when the step begins
    messages INTEGER NOT NULL,
    PRIMARY KEY (user, at)
) STRICT, WITHOUT ROWID;

CREATE INDEX sent_at ON sent (at);

-- Whom a user has written to. `first_at` decides what is new today, `last_at` when it is forgotten.
CREATE TABLE correspondent (
    user TEXT NOT NULL,
    address TEXT NOT NULL, -- as mtad.mail.address.fold makes it
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    PRIMARY KEY (user, address)
) STRICT, WITHOUT ROWID;

CREATE INDEX correspondent_first ON correspondent (user, first_at);
CREATE INDEX correspondent_last ON correspondent (last_at);
