-- What the extensions of SMTP ask for: MT-PRIORITY, FUTURERELEASE, DELIVERBY, and the header field TLS-Required.

ALTER TABLE message ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE message ADD COLUMN hold_until REAL NOT NULL DEFAULT 0;
ALTER TABLE message ADD COLUMN by_at REAL NOT NULL DEFAULT 0;
ALTER TABLE message ADD COLUMN by_mode TEXT NOT NULL DEFAULT '';
ALTER TABLE message ADD COLUMN by_trace INTEGER NOT NULL DEFAULT 0;
ALTER TABLE message ADD COLUMN tls_optional INTEGER NOT NULL DEFAULT 0;

-- The rank is that of the message: in the index it makes a lease take what is due by rank, then by time.
ALTER TABLE recipient ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
DROP INDEX recipient_due;
CREATE INDEX recipient_due ON recipient (state, priority, next_at, domain) WHERE state = 0;
