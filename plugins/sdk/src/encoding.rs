//! How commands and replies become bytes.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Rejection;

/// An encoding of commands and replies. [`Json`] is one; another takes a type of your own and three short impls:
///
/// ```
/// use mortise_sdk::{Decode, Encode, Encoding, Rejection};
///
/// /// Text, as it is.
/// struct Text;
///
/// impl Encoding for Text {
///     const MEDIA_TYPE: &'static str = "text/plain";
/// }
/// impl Encode<String> for Text {
///     fn encode(value: &String) -> Result<Vec<u8>, Rejection> {
///         Ok(value.clone().into_bytes())
///     }
/// }
/// impl Decode<String> for Text {
///     fn decode(bytes: Vec<u8>) -> Result<String, Rejection> {
///         String::from_utf8(bytes).map_err(|_| Rejection::invalid("malformed", "this is not UTF-8"))
///     }
/// }
/// ```
pub trait Encoding {
    /// The media type that the plugin's manifest names.
    const MEDIA_TYPE: &'static str;
}

/// Turns a `T` into bytes.
pub trait Encode<T> {
    /// The bytes of `value`.
    ///
    /// # Errors
    /// `value` has no form in this encoding; the command is refused with the error.
    fn encode(value: &T) -> Result<Vec<u8>, Rejection>;
}

/// Turns bytes into a `T`.
pub trait Decode<T> {
    /// Reads a `T` that takes up all of `bytes`.
    ///
    /// # Errors
    /// The bytes are no `T`; by convention the code is `malformed`. The bytes come from outside: anything is possible.
    fn decode(bytes: Vec<u8>) -> Result<T, Rejection>;
}

/// JSON by serde, `application/json`.
#[derive(Clone, Copy, Debug)]
pub struct Json;

impl Encoding for Json {
    const MEDIA_TYPE: &'static str = "application/json";
}

impl<T: Serialize> Encode<T> for Json {
    fn encode(value: &T) -> Result<Vec<u8>, Rejection> {
        serde_json::to_vec(value).map_err(|error| Rejection::unsupported("unencodable", error.to_string()))
    }
}

impl<T: DeserializeOwned> Decode<T> for Json {
    fn decode(bytes: Vec<u8>) -> Result<T, Rejection> {
        serde_json::from_slice(&bytes).map_err(|error| Rejection::invalid("malformed", error.to_string()))
    }
}
