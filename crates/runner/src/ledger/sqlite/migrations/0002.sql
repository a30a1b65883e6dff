-- Schema 2. What the reading of a source carries from one file into the next: runs that are open there. `point` is the
-- digest of the first line of the file that comes next, in hexadecimal, or `end`.
CREATE TABLE carried (
    source INTEGER NOT NULL,
    point  TEXT NOT NULL,
    after  TEXT NOT NULL,              -- the file read before
    at     INTEGER NOT NULL,
    state  BLOB NOT NULL,
    PRIMARY KEY (source, point)
) STRICT;
