//! What comes in: texts, files, the standard input, hexadecimal.

use std::io::Read;

use anyhow::{Context as _, bail};

/// Bytes of an argument: `-` is the standard input, `@NAME` a file, everything else itself.
pub(crate) fn bytes(argument: &str) -> anyhow::Result<Vec<u8>> {
    if argument == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).context("read the standard input")?;
        return Ok(bytes);
    }
    match argument.strip_prefix('@') {
        Some(path) => std::fs::read(path).with_context(|| format!("read {path}")),
        None => Ok(argument.as_bytes().to_vec()),
    }
}

/// Bytes of hexadecimal digits, two each; `0x` may stand before them.
pub(crate) fn unhex(text: &str) -> anyhow::Result<Vec<u8>> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if !digits.len().is_multiple_of(2) || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        bail!("{text:?} is not hexadecimal: give two digits for each byte, such as 00ff");
    }
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    };
    let pairs = digits.as_bytes().chunks_exact(2);
    Ok(pairs.map(|pair| nibble(pair[0]) << 4 | nibble(pair[1])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_is_read_or_refused() {
        assert_eq!(unhex("0x00fFa1").unwrap(), [0, 255, 0xa1]);
        assert!(unhex("").unwrap().is_empty());
        for text in ["0", "zz", "é", "0x0"] {
            assert!(unhex(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        assert_eq!(bytes("plain").unwrap(), b"plain");
        assert!(bytes("@/no/such/file").unwrap_err().to_string().contains("/no/such/file"));
    }
}
