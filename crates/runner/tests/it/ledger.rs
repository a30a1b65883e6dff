//! The ledger in SQLite, from outside: each promise, crash by crash.
