//! What is true or false of a row, as it is stored: one number.

use super::Row;

const RESEND: i64 = 1;
const TAKEN: i64 = 2;
const DRIFTED: i64 = 4;
const ON_HOLD: i64 = 8;

/// The flags of a row.
pub(super) fn flags(row: &Row) -> i64 {
    let flag = |set: bool, flag: i64| if set { flag } else { 0 };
    flag(row.resend, RESEND)
        | flag(row.taken, TAKEN)
        | flag(row.drifted, DRIFTED)
        | flag(row.on_hold, ON_HOLD)
}

/// And back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flags(pub(super) i64);

impl Flags {
    pub(super) const fn resend(self) -> bool {
        self.0 & RESEND != 0
    }

    pub(super) const fn taken(self) -> bool {
        self.0 & TAKEN != 0
    }

    pub(super) const fn drifted(self) -> bool {
        self.0 & DRIFTED != 0
    }

    pub(super) const fn on_hold(self) -> bool {
        self.0 & ON_HOLD != 0
    }
}
