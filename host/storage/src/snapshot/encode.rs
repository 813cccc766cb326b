//! Writing the format to anything that takes bytes.

use std::io::{self, Write};

use super::{
    CHUNK_BYTES_MAX, FRAME_BYTES, KIND_CHUNK, KIND_HEADER, KIND_SECTION, KIND_SECTION_END, KIND_TRAILER,
    MAGIC, SnapshotError, SnapshotInfo, TRAILER_BYTES, VERSION, frame_crc,
};

/// Writes a snapshot to a stream. The caller flushes and syncs what it gave.
pub struct SnapshotEncoder<W: Write> {
    output: W,
    label: String,
    hasher: blake3::Hasher,
    bytes: u64,
    sections: u64,
    in_section: bool,
}

impl<W: Write> SnapshotEncoder<W> {
    /// Begins a snapshot. `label` names the stream in errors; `header` is what its reader sees first.
    ///
    /// # Errors
    /// The header is too large; the stream fails.
    pub fn new(output: W, label: &str, header: &[u8]) -> Result<Self, SnapshotError> {
        let label = label.to_owned();
        let mut encoder =
            Self { output, label, hasher: blake3::Hasher::new(), bytes: 0, sections: 0, in_section: false };
        let mut beginning = MAGIC.to_vec();
        beginning.extend_from_slice(&VERSION.to_le_bytes());
        let crc = crc32c::crc32c(&beginning);
        beginning.extend_from_slice(&crc.to_le_bytes());
        encoder.put(&beginning)?;
        encoder.frame(KIND_HEADER, "a header", header)?;
        Ok(encoder)
    }

    /// Begins a section.
    ///
    /// # Errors
    /// Another section was not ended; the header is too large; the stream fails.
    pub fn begin_section(&mut self, header: &[u8]) -> Result<(), SnapshotError> {
        if self.in_section {
            return Err(SnapshotError::OutOfOrder { what: "a section inside a section" });
        }
        self.frame(KIND_SECTION, "a section header", header)?;
        self.in_section = true;
        self.sections += 1;
        Ok(())
    }

    /// Writes one chunk of the section. The reader gets the same chunks.
    ///
    /// # Errors
    /// There is no section; the chunk is larger than [`CHUNK_BYTES_MAX`]; the stream fails.
    pub fn write(&mut self, chunk: &[u8]) -> Result<(), SnapshotError> {
        if !self.in_section {
            return Err(SnapshotError::OutOfOrder { what: "a chunk outside a section" });
        }
        self.frame(KIND_CHUNK, "a chunk", chunk)
    }

    /// Ends the section.
    ///
    /// # Errors
    /// There is no section; the stream fails.
    pub fn end_section(&mut self) -> Result<(), SnapshotError> {
        if !self.in_section {
            return Err(SnapshotError::OutOfOrder { what: "the end of a section outside a section" });
        }
        self.in_section = false;
        self.frame(KIND_SECTION_END, "the end of a section", &[])
    }

    /// Ends the snapshot and gives the stream back.
    ///
    /// # Errors
    /// A section was not ended; the stream fails.
    pub fn finish(mut self) -> Result<(W, SnapshotInfo), SnapshotError> {
        if self.in_section {
            return Err(SnapshotError::OutOfOrder { what: "the end of a snapshot inside a section" });
        }
        let digest = *self.hasher.finalize().as_bytes();
        let mut trailer = Vec::with_capacity(TRAILER_BYTES);
        trailer.extend_from_slice(&self.bytes.to_le_bytes());
        trailer.extend_from_slice(&self.sections.to_le_bytes());
        trailer.extend_from_slice(&digest);
        self.frame(KIND_TRAILER, "the trailer", &trailer)?;
        let info = SnapshotInfo { bytes: self.bytes, sections: self.sections, digest };
        Ok((self.output, info))
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn frame(&mut self, kind: u8, what: &'static str, payload: &[u8]) -> Result<(), SnapshotError> {
        if payload.len() > CHUNK_BYTES_MAX {
            return Err(SnapshotError::TooLarge { what, bytes: payload.len() });
        }
        let length = payload.len() as u32;
        let mut head = [kind; FRAME_BYTES];
        head[1..5].copy_from_slice(&length.to_le_bytes());
        head[5..].copy_from_slice(&frame_crc(kind, length, payload).to_le_bytes());
        self.put(&head)?;
        self.put(payload)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.output.write_all(bytes).map_err(|error: io::Error| SnapshotError::Io {
            action: "write snapshot",
            file: self.label.clone(),
            error,
        })?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}
