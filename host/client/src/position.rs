//! Places in a group's log: the tokens of writes.

use std::fmt;
use std::str::FromStr;

use mortise_core::ids::LogIndex;
use mortise_proto::v1;

use crate::error::{ClientError, ErrorKind};

/// A place in a group's log. Two logs with the same position are the same up to it. As the token of a write it is where the
/// write's entry is: to ask what became of it ([`Tenant::ask_fate`](crate::Tenant::ask_fate)), and to read behind it
/// ([`Freshness::AtLeast`](crate::Freshness::AtLeast)). As text: `EPOCH.INDEX`, such as `3.1702`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The epoch that the entry was appended in, from 1 on.
    pub epoch: u64,
    /// Its index, from 1 on.
    pub index: LogIndex,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.index.0)
    }
}

impl FromStr for Position {
    type Err = ClientError;

    fn from_str(text: &str) -> Result<Self, ClientError> {
        let number = |text: &str| text.parse::<u64>().ok().filter(|number| *number > 0);
        let parts = text.split_once('.').and_then(|(epoch, index)| Some((number(epoch)?, number(index)?)));
        let (epoch, index) = parts.ok_or_else(|| {
            let problem = format!("{text:?} is no token: it has an epoch and an index, such as 3.1702");
            ClientError::new(ErrorKind::Invalid, problem)
        })?;
        Ok(Self { epoch, index: LogIndex(index) })
    }
}

impl From<v1::Position> for Position {
    fn from(at: v1::Position) -> Self {
        Self { epoch: at.epoch, index: LogIndex(at.index) }
    }
}

impl From<Position> for v1::Position {
    fn from(at: Position) -> Self {
        Self { epoch: at.epoch, index: at.index.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_is_printed_and_nonsense_is_refused() {
        let token = Position { epoch: 3, index: LogIndex(1702) };
        assert_eq!(token.to_string(), "3.1702");
        assert_eq!("3.1702".parse::<Position>().unwrap(), token);
        for text in ["", ".", "3", "3.", ".7", "0.7", "3.0", "3.7.1", "-3.7", "three.7"] {
            assert_eq!(text.parse::<Position>().unwrap_err().kind(), ErrorKind::Invalid, "{text}");
        }
    }
}
