//! A bearer token as it is configured: what it may do, and a hash by which it is known. The secret itself is
//! nowhere but with its holder.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer};
use toml::value::{Datetime, Offset};

/// One `[[token]]` table.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSettings {
    /// Its name: the principal that log entries, plugins and log lines see. 1 to 64 printable ASCII characters
    /// without spaces, unique.
    pub name: String,
    /// BLAKE3 of the secret's text, in 64 hexadecimal digits. `mortise token new` prints it.
    pub hash: String,
    /// What it may do. None implies another.
    pub scopes: Vec<Scope>,
    /// Names of the tenants that it may read or write, or `"*"` for all. Needed with `tenant:read` and
    /// `tenant:write`.
    #[serde(default)]
    pub tenants: Vec<String>,
    /// When it stops working, in RFC 3339; without it, never.
    #[serde(default, deserialize_with = "expiry")]
    pub expires: Option<Expiry>,
}

/// The value of `tenants` that means all.
pub const ALL_TENANTS: &str = "*";

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Scope {
    /// Everything on the admin listener.
    #[serde(rename = "admin")]
    Admin,
    /// Fetching `/metrics`, which `admin` may, too.
    #[serde(rename = "metrics")]
    Metrics,
    /// Queries.
    #[serde(rename = "tenant:read")]
    TenantRead,
    /// Sessions and writes.
    #[serde(rename = "tenant:write")]
    TenantWrite,
}

impl Scope {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Metrics => "metrics",
            Self::TenantRead => "tenant:read",
            Self::TenantWrite => "tenant:write",
        }
    }
}

/// A moment, as it was written and as the clock has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expiry {
    written: Datetime,
    /// When.
    pub at: SystemTime,
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.written.fmt(f)
    }
}

impl Expiry {
    /// Reads RFC 3339, such as `2030-01-31T12:00:00Z` or `2030-01-31T12:00:00+01:00`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let written: Datetime =
            text.parse().map_err(|_| format!("{text:?} is no date and time in RFC 3339"))?;
        Self::from_datetime(written)
    }

    fn from_datetime(written: Datetime) -> Result<Self, String> {
        let (Some(date), Some(time), Some(offset)) = (written.date, written.time, written.offset) else {
            return Err(format!("{written} needs date, time and offset, such as 2030-01-31T12:00:00Z"));
        };
        let days = days_since_1970(date.year.into(), date.month.into(), date.day.into());
        let hms =
            i64::from(time.hour) * 3600 + i64::from(time.minute) * 60 + i64::from(time.second.unwrap_or(0));
        let offset_minutes = match offset {
            Offset::Z => 0,
            Offset::Custom { minutes } => i64::from(minutes),
        };
        let seconds = days * 86_400 + hms - offset_minutes * 60;
        let seconds = u64::try_from(seconds).map_err(|_| format!("{written} is before 1970"))?;
        Ok(Self { written, at: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) })
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar; Howard Hinnant's `days_from_civil`. Years start in
/// March, so that the leap day is a year's last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// A TOML date and time, or the same as a string.
fn expiry<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Expiry>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Datetime(Datetime),
        Text(String),
    }
    let parsed = match Written::deserialize(deserializer)? {
        Written::Datetime(datetime) => Expiry::from_datetime(datetime),
        Written::Text(text) => Expiry::parse(&text),
    };
    parsed.map(Some).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> u64 {
        Expiry::parse(text).unwrap().at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
    }

    #[test]
    fn rfc_3339_becomes_the_right_second() {
        assert_eq!(seconds("1970-01-01T00:00:00Z"), 0);
        assert_eq!(seconds("2000-02-29T12:30:15Z"), 951_827_415);
        assert_eq!(seconds("2026-11-21T00:00:00Z"), 1_795_219_200);
        assert_eq!(seconds("2026-11-21T01:00:00+01:00"), 1_795_219_200);
        assert_eq!(seconds("2026-11-20T18:30:00-05:30"), 1_795_219_200);
    }

    #[test]
    fn half_a_moment_is_refused() {
        for text in
            ["tomorrow", "2030-01-01", "2030-01-01T00:00:00", "2030-13-01T00:00:00Z", "1969-01-01T00:00:00Z"]
        {
            assert!(Expiry::parse(text).is_err(), "{text}");
        }
    }
}
