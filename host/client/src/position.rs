//! Places in a group's log: the tokens of writes.

use std::fmt;
use std::str::FromStr;

use mortise_core::ids::{GroupId, LogIndex};
use mortise_proto::v1;

use crate::error::{ClientError, ErrorKind};

/// A place in a group's log. Two logs of the group with the same position are the same up to it. As the token of a write it is where the
/// write's entry is: to ask what became of it ([`Tenant::ask_fate`](crate::Tenant::ask_fate)), and to read behind it
/// ([`Freshness::AtLeast`](crate::Freshness::AtLeast)). As text: `GROUP.EPOCH.INDEX`, such as
/// `1.3.1702`. Shown for a tenant that another group has, it is refused as [`ErrorKind::NotFound`]: the tenant that it was
/// given for is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The group whose log it is, from 1 on.
    pub group: GroupId,
    /// The epoch that the entry was appended in, from 1 on.
    pub epoch: u64,
    /// Its index, from 1 on.
    pub index: LogIndex,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.group, self.epoch, self.index)
    }
}

impl FromStr for Position {
    type Err = ClientError;

    fn from_str(text: &str) -> Result<Self, ClientError> {
        let number = |text: &str| text.parse::<u64>().ok().filter(|number| *number > 0);
        let numbers: Option<Vec<u64>> = text.split('.').map(number).collect();
        let Some(&[group, epoch, index]) = numbers.as_deref() else {
            let problem =
                format!("{text:?} is no token: it has a group, an epoch and an index, such as 1.3.1702");
            return Err(ClientError::new(ErrorKind::Invalid, problem));
        };
        Ok(Self { group: GroupId(group), epoch, index: LogIndex(index) })
    }
}

impl From<v1::Position> for Position {
    fn from(at: v1::Position) -> Self {
        Self { group: GroupId(at.group), epoch: at.epoch, index: LogIndex(at.index) }
    }
}

impl From<Position> for v1::Position {
    fn from(at: Position) -> Self {
        Self { epoch: at.epoch, index: at.index.0, group: at.group.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_is_printed_and_nonsense_is_refused() {
        let token = Position { group: GroupId(2), epoch: 3, index: LogIndex(1702) };
        assert_eq!(token.to_string(), "2.3.1702");
        assert_eq!("2.3.1702".parse::<Position>().unwrap(), token);
        for text in
            ["", ".", "3", "3.7", "1.3.", ".3.7", "0.3.7", "1.0.7", "1.3.0", "1.3.7.1", "1.-3.7", "1.three.7"]
        {
            assert_eq!(text.parse::<Position>().unwrap_err().kind(), ErrorKind::Invalid, "{text}");
        }
    }
}
