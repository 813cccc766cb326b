//! Errors as the user sees them: one line that says what to do next, and an exit code.

use std::fmt;
use std::process::ExitCode;

use mortise_client::{ClientError, ErrorKind, TookEffect};
use mortise_coordination::CoordinationError;

/// Failed for a reason that has no code of its own.
pub(crate) const FAILURE: u8 = 1;
/// The command line is wrong.
const USAGE: u8 = 2;
/// The plugin refused.
pub(crate) const REJECTED: u8 = 3;
/// No such tenant, plugin or key.
pub(crate) const NOT_FOUND: u8 = 4;
/// No answer.
pub(crate) const UNAVAILABLE: u8 = 5;
/// No token, or not the right one.
const NOT_PERMITTED: u8 = 6;

/// A failure of this program's own that has an exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) kind: &'static str,
    pub(crate) message: String,
}

impl Failure {
    /// Something is not there.
    pub(crate) fn not_found(message: String) -> Self {
        Self { code: NOT_FOUND, kind: "not_found", message }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Prints an error to the standard error.
pub(crate) fn report(error: &anyhow::Error, json: bool) -> ExitCode {
    let (code, kind) = classify(error);
    let mut message = describe(error);
    let client = error.downcast_ref::<ClientError>();
    if let Some(hint) = client.and_then(hint)
        && !json
    {
        message = format!("{message}; {hint}");
    }
    if json {
        let mut object = serde_json::json!({ "error": message, "kind": kind, "exit_code": code });
        if let Some(error) = client {
            object["retryable"] = error.is_retryable().into();
            object["took_effect"] = format!("{:?}", error.took_effect()).to_lowercase().into();
            if let Some(hint) = hint(error) {
                object["hint"] = hint.into();
            }
            if let Some(oldest) = error.oldest_sequence() {
                object["oldest_sequence"] = oldest.into();
            }
            if let Some(rejection) = error.rejection() {
                object["rejection"] = serde_json::json!({
                    "kind": format!("{:?}", rejection.kind).to_lowercase(),
                    "code": rejection.code,
                    "message": rejection.message,
                });
            }
        }
        eprintln!("{object}");
    } else {
        eprintln!("mortise: {message}");
    }
    ExitCode::from(code)
}

/// Prints what is wrong with the command line, or the help that it asks for.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os().any(|argument| argument == "--json");
    if error.use_stderr() && json {
        let text = error.to_string();
        // The rest is the usage, for people.
        let text = text.split("\n\nUsage:").next().unwrap_or_default().trim_start_matches("error: ");
        let text: Vec<_> = text.split_whitespace().collect();
        eprintln!("{}", serde_json::json!({ "error": text.join(" "), "kind": "usage", "exit_code": USAGE }));
        return ExitCode::from(USAGE);
    }
    // Nobody to tell where even this fails.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
}

/// In one line, with its causes.
fn describe(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // Many an error tells its cause itself.
        if !text.contains(&cause) {
            text = if text.is_empty() { cause } else { format!("{text}: {cause}") };
        }
    }
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The exit code, and a name for it.
fn classify(error: &anyhow::Error) -> (u8, &'static str) {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return (failure.code, failure.kind);
    }
    match error.downcast_ref::<CoordinationError>() {
        Some(CoordinationError::Unavailable { .. }) => return (UNAVAILABLE, "unavailable"),
        Some(CoordinationError::Denied { .. }) => return (NOT_PERMITTED, "permission_denied"),
        _ => {}
    }
    let Some(error) = error.downcast_ref::<ClientError>() else {
        return (FAILURE, "failure");
    };
    match error.kind() {
        ErrorKind::Rejected => (REJECTED, "rejected"),
        ErrorKind::NotFound => (NOT_FOUND, "not_found"),
        ErrorKind::Unavailable => (UNAVAILABLE, "unavailable"),
        ErrorKind::DeadlineExceeded => (UNAVAILABLE, "deadline_exceeded"),
        ErrorKind::Overloaded => (UNAVAILABLE, "overloaded"),
        ErrorKind::ShuttingDown => (UNAVAILABLE, "shutting_down"),
        ErrorKind::NotLeader => (UNAVAILABLE, "not_leader"),
        ErrorKind::Unauthenticated => (NOT_PERMITTED, "unauthenticated"),
        ErrorKind::PermissionDenied => (NOT_PERMITTED, "permission_denied"),
        ErrorKind::PluginFailed => (FAILURE, "plugin_failed"),
        ErrorKind::Invalid => (FAILURE, "invalid"),
        ErrorKind::AlreadyExists => (FAILURE, "already_exists"),
        ErrorKind::TooLarge => (FAILURE, "too_large"),
        ErrorKind::DiskFull => (FAILURE, "disk_full"),
        ErrorKind::Lost => (FAILURE, "lost"),
        ErrorKind::FailedPrecondition => (FAILURE, "failed_precondition"),
        ErrorKind::Compacted => (FAILURE, "compacted"),
        ErrorKind::WrongCluster => (FAILURE, "wrong_cluster"),
        _ => (FAILURE, "failure"),
    }
}

/// What to do next.
fn hint(error: &ClientError) -> Option<String> {
    let next = match error.kind() {
        ErrorKind::Invalid if !error.groups().is_empty() => "name it with --group, or in MORTISE_GROUP",
        ErrorKind::Unavailable => {
            "is a node running there? `mortise dev` starts one; --endpoint and --admin-endpoint name others"
        }
        ErrorKind::DeadlineExceeded => "give it longer with --timeout",
        ErrorKind::Overloaded | ErrorKind::ShuttingDown | ErrorKind::NotLeader => "try again in a moment",
        ErrorKind::NotFound => "`mortise tenant list` and `mortise plugin list` show what there is",
        ErrorKind::AlreadyExists => "choose another name, or drop that one first",
        ErrorKind::Unauthenticated => "give a valid token with --token-file, or in MORTISE_TOKEN",
        ErrorKind::PermissionDenied => "use a token whose scopes and tenants allow it",
        ErrorKind::DiskFull => "free disk space where the node's data folder is",
        ErrorKind::Lost => "write it again, if it still makes sense",
        ErrorKind::Internal => "the node's log says more",
        ErrorKind::WrongCluster => "give endpoints of one cluster only",
        ErrorKind::Protocol => "use the same release here and on the node",
        _ => "",
    };
    let unknown = match error.took_effect() {
        TookEffect::Unknown => "it may have taken effect or not: check before you repeat it",
        TookEffect::Yes | TookEffect::No => "",
    };
    let parts: Vec<_> = [unknown, next].into_iter().filter(|part| !part.is_empty()).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn codes_survive_context() {
        let error = anyhow::Error::from(Failure::not_found("no key".into())).context("kv");
        assert_eq!(classify(&error), (NOT_FOUND, "not_found"));
        assert_eq!(classify(&anyhow::anyhow!("other")).0, FAILURE);
    }

    #[test]
    fn causes_are_told_once_and_in_one_line() {
        let inner: Result<(), _> = Err(std::io::Error::other("disk\n  gone"));
        let error = inner.context("read it").unwrap_err();
        assert_eq!(describe(&error), "read it: disk gone");
    }
}
