-- What the life of a message leaves that nothing else tells, what happened beside messages, and how much there was.

-- The signatures that a message got when it was accepted: "example.test/s1 example.test/s2".
ALTER TABLE message ADD COLUMN signed TEXT NOT NULL DEFAULT '';

-- Which report tells of which message.
CREATE TABLE report (
    of INTEGER NOT NULL REFERENCES message (id) ON DELETE CASCADE,
    message INTEGER NOT NULL, -- the report, which may be forgotten earlier
    PRIMARY KEY (of, message)
) STRICT, WITHOUT ROWID;

CREATE INDEX report_message ON report (message);

-- Events that no other row tells: refusals, sign-ins, blocks ... The newest so many of each kind.
CREATE TABLE event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    kind TEXT NOT NULL,
    text TEXT NOT NULL,
    message TEXT NOT NULL, -- "" where it is about none
    sender TEXT NOT NULL,
    recipient TEXT NOT NULL,
    ip TEXT NOT NULL,
    user TEXT NOT NULL
) STRICT;

CREATE INDEX event_kind ON event (kind, id);

-- How much there was in each step of mtad.queue.history.STEP_S.
CREATE TABLE tally (
    at INTEGER PRIMARY KEY, -- when the step begins
    accepted INTEGER NOT NULL, -- recipients
    delivered INTEGER NOT NULL, -- tries, this and the next two
    deferred INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    refused INTEGER NOT NULL, -- at the door
    sign_in_failed INTEGER NOT NULL
) STRICT;
