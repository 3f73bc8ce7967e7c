-- Keys of submissions: a program that is not sure whether its mail was taken says it again under the same key.

CREATE TABLE submission_key (
    uid INTEGER NOT NULL,
    key TEXT NOT NULL,
    message INTEGER NOT NULL, -- it may be forgotten before the key is
    mark BLOB NOT NULL, -- SHA-256 over its sender and recipients
    at REAL NOT NULL,
    PRIMARY KEY (uid, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX submission_key_at ON submission_key (at);
