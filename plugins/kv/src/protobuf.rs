//! Commands and replies as protobuf messages.

use mortise_sdk::{Decode, Encode, Encoding, Rejection};
use prost::Message;
use prost::bytes::Bytes;

/// The encoding of every message that prost knows.
pub struct Protobuf;

impl Encoding for Protobuf {
    const MEDIA_TYPE: &'static str = "application/x-protobuf";
}

impl<T: Message> Encode<T> for Protobuf {
    fn encode(message: &T) -> Result<Vec<u8>, Rejection> {
        Ok(message.encode_to_vec())
    }
}

impl<T: Message + Default> Decode<T> for Protobuf {
    fn decode(bytes: Vec<u8>) -> Result<T, Rejection> {
        // From `Bytes`, prost copies a field once, or, where it is `Bytes` itself, not at all; from a slice, once more.
        T::decode(Bytes::from(bytes)).map_err(|error| Rejection::invalid("malformed", error.to_string()))
    }
}
