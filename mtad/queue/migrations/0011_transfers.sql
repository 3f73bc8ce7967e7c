-- Mail on its way to another host's queue (mtad.queue.transfers): on neither side is it in the queue meanwhile.

CREATE TABLE transfer (
    id TEXT PRIMARY KEY,
    way TEXT NOT NULL, -- out, in
    state TEXT NOT NULL, -- out: sent, confirmed, aborted; in: coming, received, active
    host TEXT NOT NULL, -- where it comes from
    at REAL NOT NULL, -- of its last change
    word TEXT NOT NULL, -- that lets the other side send the mail; of one that came in: its SHA-256
    digest TEXT NOT NULL, -- of all that was sent; "" until it was sent to its end
    messages INTEGER NOT NULL,
    recipients INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The open recipients of these messages, each as JSON of its columns: nothing else knows of them.
CREATE TABLE parked (
    message INTEGER NOT NULL,
    n INTEGER NOT NULL,
    transfer TEXT NOT NULL REFERENCES transfer (id),
    data TEXT NOT NULL,
    PRIMARY KEY (message, n)
) STRICT, WITHOUT ROWID;

CREATE INDEX parked_transfer ON parked (transfer, message, n);
