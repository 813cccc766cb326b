//! How a plugin says no.

use std::fmt;

/// Why a command or request is refused. Each kind reaches a gRPC client as one status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It is malformed, or can never be right (INVALID_ARGUMENT).
    Invalid,
    /// The state is not as it requires; another time it may be (ABORTED).
    Conflict,
    /// What it names does not exist (NOT_FOUND).
    Missing,
    /// The caller may not do this (PERMISSION_DENIED).
    Denied,
    /// A bound was reached (RESOURCE_EXHAUSTED).
    Exhausted,
    /// The plugin does not know how (UNIMPLEMENTED).
    Unsupported,
}

/// A refusal: every write of the refused command vanishes, and the refusal becomes its recorded outcome.
///
/// ```
/// use mortise_sdk::Rejection;
///
/// fn withdraw(balance: i64, amount: i64) -> Result<i64, Rejection> {
///     if amount > balance {
///         return Err(Rejection::conflict("insufficient_funds", "the account holds less than that"));
///     }
///     Ok(balance - amount)
/// }
/// assert_eq!(withdraw(1, 2).unwrap_err().code, "insufficient_funds");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Why, in one of six ways.
    pub kind: Kind,
    /// The plugin's own code, for programs: short, stable, snake_case.
    pub code: &'static str,
    /// For people: what is wrong and what to do.
    pub message: String,
}

impl Rejection {
    /// The command is malformed, or can never be right.
    pub fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, code, message)
    }

    /// The state is not as the command requires.
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, code, message)
    }

    /// What the command names does not exist.
    pub fn missing(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Missing, code, message)
    }

    /// The caller may not do this.
    pub fn denied(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Denied, code, message)
    }

    /// A bound was reached.
    pub fn exhausted(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Exhausted, code, message)
    }

    /// The plugin does not know how.
    pub fn unsupported(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, code, message)
    }

    #[cold]
    fn new(kind: Kind, code: &'static str, message: impl Into<String>) -> Self {
        Self { kind, code, message: message.into() }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Rejection {}
