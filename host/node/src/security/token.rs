//! A token's secret, as its holder has it.

use std::fmt;

/// Marks a token as ours, for people and for scanners that look for leaked secrets.
const PREFIX: &str = "mrt_";
/// Bytes of randomness: no dictionary helps against them, so a plain hash is enough to keep.
const RANDOM_BYTES: usize = 32;

/// A bearer token: `mrt_` and 64 hexadecimal digits. What the node is configured with is only [`Token::hash`].
pub struct Token(String);

/// The system gave no random numbers.
#[derive(Debug, thiserror::Error)]
#[error("get random bytes from the system: {0}")]
pub struct TokenError(getrandom::Error);

impl Token {
    /// A new token, from the system's random numbers.
    ///
    /// # Errors
    /// There are none.
    pub fn generate() -> Result<Self, TokenError> {
        let mut bytes = [0; RANDOM_BYTES];
        getrandom::fill(&mut bytes).map_err(TokenError)?;
        Ok(Self(format!("{PREFIX}{}", blake3::Hash::from_bytes(bytes).to_hex())))
    }

    /// The text that its holder sends: `Authorization: Bearer TEXT`.
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// What goes into the node's configuration: BLAKE3 of the text, in hexadecimal.
    pub fn hash(&self) -> String {
        hash(&self.0).to_hex().to_string()
    }
}

impl fmt::Debug for Token {
    /// Without the secret, so that it reaches no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

/// The hash by which a token is known.
pub(super) fn hash(secret: &str) -> blake3::Hash {
    blake3::hash(secret.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_hide_from_debug() {
        let (one, other) = (Token::generate().unwrap(), Token::generate().unwrap());
        assert_ne!(one.secret(), other.secret());
        assert_eq!(one.secret().len(), 4 + 64);
        assert!(one.secret().starts_with("mrt_") && one.hash().len() == 64);
        assert_eq!(format!("{one:?}"), "Token(hidden)");
    }
}
