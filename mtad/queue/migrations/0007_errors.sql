-- What kind of trouble the last reply of a recipient, and that of each try, was: a name of mtad.mail.errorclass, "" for
-- none. Worked out from the reply when it is written.

ALTER TABLE recipient ADD COLUMN error TEXT NOT NULL DEFAULT '';
ALTER TABLE attempt ADD COLUMN error TEXT NOT NULL DEFAULT '';

-- Only what is in trouble is in it: a mail that is delivered at once costs nothing here.
CREATE INDEX recipient_error ON recipient (error, state, domain) WHERE error <> '';

-- Addresses that are not tried for a user (mtad.queue.suppressions); user "" is everybody. until_at 0 is for good.
CREATE TABLE suppression (
    user TEXT NOT NULL,
    address TEXT NOT NULL, -- as mtad.mail.address.fold makes it
    reason TEXT NOT NULL,
    made_by TEXT NOT NULL,
    made_at REAL NOT NULL,
    until_at REAL NOT NULL,
    error TEXT NOT NULL, -- the class of what was said, "" of an operator's
    PRIMARY KEY (address, user)
) STRICT, WITHOUT ROWID;

CREATE INDEX suppression_until ON suppression (until_at) WHERE until_at > 0;

-- What is counted against an address before that.
CREATE TABLE hard_bounce (
    user TEXT NOT NULL,
    address TEXT NOT NULL,
    at REAL NOT NULL,
    message INTEGER NOT NULL, -- its number: several recipients of one mail count once
    PRIMARY KEY (address, user, message)
) STRICT, WITHOUT ROWID;

CREATE INDEX hard_bounce_at ON hard_bounce (at);
