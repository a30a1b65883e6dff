//! How an invocation ended: the exit status that timers and monitoring act on.

use std::process::ExitCode;

/// How an invocation ended. Where several apply, usage comes before unreachable before attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Exit {
    /// 0: all well.
    #[default]
    Well,
    /// 1: done, but something new or overdue needs a person.
    Attention,
    /// 3: a service could not be reached; nothing is lost, run again.
    Unreachable,
    /// 2: usage or configuration.
    Usage,
}

impl Exit {
    /// The exit status.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Well => 0,
            Self::Attention => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
        }
    }

    /// Both happened: the one that comes first in the order 2, 3, 1, 0.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let rank = |exit: Self| match exit {
            Self::Usage => 3,
            Self::Unreachable => 2,
            Self::Attention => 1,
            Self::Well => 0,
        };
        if rank(other) > rank(self) { other } else { self }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn usage_comes_before_unreachable_before_attention() {
        assert_eq!(Exit::Attention.and(Exit::Unreachable).code(), 3);
        assert_eq!(Exit::Unreachable.and(Exit::Usage).code(), 2);
        assert_eq!(Exit::Usage.and(Exit::Attention).code(), 2);
        assert_eq!(Exit::Well.and(Exit::Attention).code(), 1);
        assert_eq!(Exit::Well.and(Exit::Well).code(), 0);
    }
}
