//! What a caller may do.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use super::token;
use crate::config::{ALL_TENANTS, Scope, TokenSettings};

/// The tokens that the node knows. None: every caller may do everything.
#[derive(Debug, Default)]
pub struct Tokens {
    known: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    /// Its comparison takes the same time wherever two hashes differ.
    hash: blake3::Hash,
    grant: Arc<Grant>,
}

/// What a token allows.
#[derive(Debug)]
struct Grant {
    name: String,
    scopes: Vec<Scope>,
    tenants: Vec<String>,
    all_tenants: bool,
    expires: Option<SystemTime>,
}

/// Who asks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Caller {
    /// `None`: anybody, where no tokens are configured.
    grant: Option<Arc<Grant>>,
}

/// What a caller wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Anything of the service Admin.
    Administer,
    /// See the metrics.
    Measure,
    /// Query this tenant.
    Read(&'a str),
    /// Write to this tenant.
    Write(&'a str),
}

/// Why a caller is turned away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// No `authorization` in the call's metadata.
    #[error("a token is needed: send metadata \"authorization: Bearer TOKEN\"")]
    Missing,
    /// `authorization` is something else than a bearer token.
    #[error("the metadata \"authorization\" is not of the form \"Bearer TOKEN\"")]
    Malformed,
    /// No token with this hash is configured.
    #[error("this token is not known here")]
    Unknown,
    /// It was valid once.
    #[error("the token {name:?} has expired: ask for a new one")]
    Expired {
        /// Its name.
        name: String,
    },
    /// Its scopes do not include what the call needs.
    #[error("the token {name:?} lacks the scope {scope}")]
    Scope {
        /// Its name.
        name: String,
        /// What the call needs.
        scope: &'static str,
    },
    /// It is for other tenants.
    #[error("the token {name:?} is not for the tenant {tenant:?}")]
    Tenant {
        /// Its name.
        name: String,
        /// The tenant that the call names.
        tenant: String,
    },
}

impl Tokens {
    /// The tokens of a checked configuration.
    pub fn new(settings: &[TokenSettings]) -> Self {
        let known = settings.iter().filter_map(|token| {
            // A checked configuration holds no other hashes; leaving such a token out refuses its holder.
            let hash = blake3::Hash::from_hex(&token.hash).ok()?;
            let grant = Grant {
                name: token.name.clone(),
                scopes: token.scopes.clone(),
                tenants: token.tenants.clone(),
                all_tenants: token.tenants.iter().any(|tenant| tenant == ALL_TENANTS),
                expires: token.expires.map(|expiry| expiry.at),
            };
            Some(Known { hash, grant: Arc::new(grant) })
        });
        Self { known: known.collect() }
    }

    /// Who sends this value of the header `authorization`.
    ///
    /// # Errors
    /// Tokens are configured, and this is none of them or an expired one.
    pub fn caller(&self, authorization: Option<&[u8]>, now: SystemTime) -> Result<Caller, AccessError> {
        if self.known.is_empty() {
            return Ok(Caller { grant: None });
        }
        let secret = bearer(authorization.ok_or(AccessError::Missing)?).ok_or(AccessError::Malformed)?;
        let hash = token::hash(secret);
        let mut grant = None;
        for known in &self.known {
            // No early end: how long this takes says nothing about which token it was.
            if known.hash == hash {
                grant = Some(Arc::clone(&known.grant));
            }
        }
        let caller = Caller { grant: Some(grant.ok_or(AccessError::Unknown)?) };
        caller.check_expiry(now)?;
        Ok(caller)
    }
}

/// The token in `Bearer TOKEN`. The scheme's case does not matter (RFC 9110, 11.1).
fn bearer(authorization: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(authorization).ok()?;
    let (scheme, token) = text.split_once(' ')?;
    let token = token.trim_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

impl Caller {
    /// The token's name; `None` where no tokens are configured.
    pub fn principal(&self) -> Option<&str> {
        self.grant.as_ref().map(|grant| grant.name.as_str())
    }

    /// Whether the caller may do this now.
    ///
    /// # Errors
    /// The token has expired, lacks the scope, or is for other tenants.
    pub fn check(&self, action: Action<'_>, now: SystemTime) -> Result<(), AccessError> {
        self.check_expiry(now)?;
        let Some(grant) = self.grant.as_deref() else { return Ok(()) };
        let has = |scope| grant.scopes.contains(&scope);
        let (scope, tenant) = match action {
            Action::Administer => (Scope::Admin, None),
            Action::Measure if has(Scope::Admin) => (Scope::Admin, None),
            Action::Measure => (Scope::Metrics, None),
            Action::Read(tenant) => (Scope::TenantRead, Some(tenant)),
            Action::Write(tenant) => (Scope::TenantWrite, Some(tenant)),
        };
        if !has(scope) {
            return Err(AccessError::Scope { name: grant.name.clone(), scope: scope.name() });
        }
        match tenant {
            Some(tenant) if !grant.covers(tenant) => {
                Err(AccessError::Tenant { name: grant.name.clone(), tenant: tenant.into() })
            }
            _ => Ok(()),
        }
    }

    fn check_expiry(&self, now: SystemTime) -> Result<(), AccessError> {
        match self.grant.as_deref() {
            Some(Grant { name, expires: Some(expires), .. }) if now >= *expires => {
                Err(AccessError::Expired { name: name.clone() })
            }
            _ => Ok(()),
        }
    }
}

impl Grant {
    fn covers(&self, tenant: &str) -> bool {
        self.all_tenants || self.tenants.iter().any(|covered| covered == tenant)
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.principal().unwrap_or("anybody"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Expiry;
    use crate::security::Token;

    fn settings(token: &Token, scopes: &[Scope], tenants: &[&str]) -> TokenSettings {
        TokenSettings {
            name: "loader".into(),
            hash: token.hash(),
            scopes: scopes.to_vec(),
            tenants: tenants.iter().map(ToString::to_string).collect(),
            expires: Some(Expiry::parse("2030-01-01T00:00:00Z").unwrap()),
        }
    }

    fn now() -> SystemTime {
        Expiry::parse("2029-12-31T23:59:59Z").unwrap().at
    }

    fn caller(tokens: &Tokens, authorization: &str) -> Result<Caller, AccessError> {
        tokens.caller(Some(authorization.as_bytes()), now())
    }

    #[test]
    fn without_tokens_everybody_may_do_everything() {
        let caller = Tokens::default().caller(None, now()).unwrap();
        assert_eq!(caller.principal(), None);
        for action in [Action::Administer, Action::Measure, Action::Read("a"), Action::Write("a")] {
            caller.check(action, now()).unwrap();
        }
    }

    #[test]
    fn only_a_known_bearer_token_is_let_in() {
        let token = Token::generate().unwrap();
        let tokens = Tokens::new(&[settings(&token, &[Scope::Admin], &[])]);
        let secret = token.secret();
        assert_eq!(caller(&tokens, &format!("Bearer {secret}")).unwrap().principal(), Some("loader"));
        caller(&tokens, &format!("bearer  {secret}")).unwrap();
        assert_eq!(tokens.caller(None, now()).unwrap_err(), AccessError::Missing);
        for malformed in ["", "Bearer", "Bearer ", &format!("Basic {secret}"), secret] {
            assert_eq!(caller(&tokens, malformed).unwrap_err(), AccessError::Malformed, "{malformed}");
        }
        assert_eq!(tokens.caller(Some(b"Bearer \xff"), now()).unwrap_err(), AccessError::Malformed);
        for wrong in ["mrt_x", &secret[1..], &secret.to_uppercase(), &token.hash()] {
            assert_eq!(caller(&tokens, &format!("Bearer {wrong}")).unwrap_err(), AccessError::Unknown);
        }
    }

    #[test]
    fn an_expired_token_is_refused_also_in_the_middle_of_a_stream() {
        let token = Token::generate().unwrap();
        let tokens = Tokens::new(&[settings(&token, &[Scope::TenantWrite], &["a"])]);
        let authorization = format!("Bearer {}", token.secret());
        let caller = caller(&tokens, &authorization).unwrap();
        caller.check(Action::Write("a"), now()).unwrap();
        let later = now() + Duration::from_secs(1);
        let expired = AccessError::Expired { name: "loader".into() };
        assert_eq!(caller.check(Action::Write("a"), later).unwrap_err(), expired);
        assert_eq!(tokens.caller(Some(authorization.as_bytes()), later).unwrap_err(), expired);
    }

    #[test]
    fn no_scope_implies_another_and_tenants_are_exact() {
        let token = Token::generate().unwrap();
        let with = |scopes: &[Scope], tenants: &[&str]| {
            let tokens = Tokens::new(&[settings(&token, scopes, tenants)]);
            caller(&tokens, &format!("Bearer {}", token.secret())).unwrap()
        };
        let writer = with(&[Scope::TenantWrite], &["books", "films"]);
        writer.check(Action::Write("films"), now()).unwrap();
        let error = writer.check(Action::Read("films"), now()).unwrap_err();
        assert_eq!(error, AccessError::Scope { name: "loader".into(), scope: "tenant:read" });
        let error = writer.check(Action::Write("film"), now()).unwrap_err();
        assert_eq!(error, AccessError::Tenant { name: "loader".into(), tenant: "film".into() });
        assert!(writer.check(Action::Administer, now()).is_err());
        assert!(writer.check(Action::Measure, now()).is_err());

        let reader = with(&[Scope::TenantRead], &["*"]);
        reader.check(Action::Read("anything"), now()).unwrap();
        assert!(reader.check(Action::Write("anything"), now()).is_err());

        let admin = with(&[Scope::Admin], &[]);
        admin.check(Action::Administer, now()).unwrap();
        admin.check(Action::Measure, now()).unwrap();
        assert!(admin.check(Action::Write("books"), now()).is_err());

        let metrics = with(&[Scope::Metrics], &[]);
        metrics.check(Action::Measure, now()).unwrap();
        assert!(metrics.check(Action::Administer, now()).is_err());
    }
}
