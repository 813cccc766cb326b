//! Reading the format from anything that gives bytes. The input is taken for hostile: a length is bounded before
//! memory is reserved for it.

use std::io::{self, Read};

use bytes::{Bytes, BytesMut};

use super::{
    BEGINNING_BYTES, CHUNK_BYTES_MAX, FRAME_BYTES, KIND_CHUNK, KIND_HEADER, KIND_SECTION, KIND_SECTION_END,
    KIND_TRAILER, MAGIC, SnapshotError, SnapshotInfo, TRAILER_BYTES, VERSION, frame_crc,
};

/// The beginning of a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// What the writer said of it.
    pub header: Bytes,
}

/// Reads a snapshot from a stream, up to the end of its trailer and no further.
pub struct SnapshotDecoder<R: Read> {
    input: R,
    label: String,
    hasher: blake3::Hasher,
    /// Bytes read so far.
    offset: u64,
    header: Bytes,
    sections: u64,
    in_section: bool,
    info: Option<SnapshotInfo>,
}

struct Frame {
    kind: u8,
    /// Where it begins.
    offset: u64,
    payload: Bytes,
    /// Of all bytes before it.
    digest_before: Option<[u8; 32]>,
}

impl<R: Read> SnapshotDecoder<R> {
    /// Reads the beginning and the header. `label` names the stream in errors.
    ///
    /// # Errors
    /// It is no snapshot, is of a newer format, is damaged or ends; the stream fails.
    pub fn new(input: R, label: &str) -> Result<Self, SnapshotError> {
        let mut decoder = Self {
            input,
            label: label.to_owned(),
            hasher: blake3::Hasher::new(),
            offset: 0,
            header: Bytes::new(),
            sections: 0,
            in_section: false,
            info: None,
        };
        let mut beginning = [0; BEGINNING_BYTES];
        let filled = decoder.fill(&mut beginning)?;
        let file = decoder.label.clone();
        if !MAGIC.starts_with(&beginning[..filled.min(MAGIC.len())]) {
            return Err(SnapshotError::NotASnapshot { file });
        }
        if filled < BEGINNING_BYTES {
            return Err(SnapshotError::Truncated { file, offset: filled as u64 });
        }
        let number = |at: usize| {
            u32::from_le_bytes([beginning[at], beginning[at + 1], beginning[at + 2], beginning[at + 3]])
        };
        if crc32c::crc32c(&beginning[..12]) != number(12) {
            return Err(decoder.damaged(0, "the checksum of the beginning does not match"));
        }
        if number(8) > VERSION {
            return Err(SnapshotError::TooNew { file, version: number(8), known: VERSION });
        }
        decoder.hasher.update(&beginning);
        let frame = decoder.frame()?;
        if frame.kind != KIND_HEADER {
            return Err(decoder.damaged(frame.offset, "there is no header"));
        }
        decoder.header = frame.payload;
        Ok(decoder)
    }

    /// What the writer said of the whole snapshot.
    pub fn header(&self) -> &Bytes {
        &self.header
    }

    /// The next section; what is left of the present one is checked and skipped. `None` at the end, where everything
    /// was compared with the trailer.
    ///
    /// # Errors
    /// It is damaged or ends; the stream fails.
    pub fn next_section(&mut self) -> Result<Option<Section>, SnapshotError> {
        while self.in_section {
            self.read_chunk()?;
        }
        if self.info.is_some() {
            return Ok(None);
        }
        let frame = self.frame()?;
        match frame.kind {
            KIND_SECTION => {
                self.in_section = true;
                self.sections += 1;
                Ok(Some(Section { header: frame.payload }))
            }
            KIND_TRAILER => {
                self.info = Some(self.check_trailer(&frame)?);
                Ok(None)
            }
            _ => Err(self.damaged(frame.offset, "there is neither a section nor the trailer")),
        }
    }

    /// The next chunk of the present section; `None` at its end.
    ///
    /// # Errors
    /// It is damaged or ends; the stream fails.
    pub fn read_chunk(&mut self) -> Result<Option<Bytes>, SnapshotError> {
        if !self.in_section {
            return Ok(None);
        }
        let frame = self.frame()?;
        match frame.kind {
            KIND_CHUNK => Ok(Some(frame.payload)),
            KIND_SECTION_END if frame.payload.is_empty() => {
                self.in_section = false;
                Ok(None)
            }
            _ => Err(self.damaged(frame.offset, "there is neither a chunk nor the end of the section")),
        }
    }

    /// What the snapshot is known by, once [`next_section`](Self::next_section) returned `None`.
    pub fn info(&self) -> Option<&SnapshotInfo> {
        self.info.as_ref()
    }

    /// Gives the stream back, which stands after the last byte read.
    pub fn into_inner(self) -> R {
        self.input
    }

    /// Checks that nothing follows the snapshot.
    pub(super) fn check_end(&mut self) -> Result<(), SnapshotError> {
        match self.fill(&mut [0])? {
            0 => Ok(()),
            _ => Err(self.damaged(self.offset - 1, "something follows the trailer")),
        }
    }

    fn check_trailer(&self, frame: &Frame) -> Result<SnapshotInfo, SnapshotError> {
        let trailer: &[u8; TRAILER_BYTES] = match frame.payload.as_ref().try_into() {
            Ok(trailer) => trailer,
            Err(_) => return Err(self.damaged(frame.offset, "the trailer has the wrong length")),
        };
        let mut expected = [0; TRAILER_BYTES];
        expected[..8].copy_from_slice(&frame.offset.to_le_bytes());
        expected[8..16].copy_from_slice(&self.sections.to_le_bytes());
        let digest = frame.digest_before.unwrap_or_default();
        expected[16..].copy_from_slice(&digest);
        if *trailer != expected {
            return Err(self.damaged(frame.offset, "the trailer does not match what is before it"));
        }
        Ok(SnapshotInfo { bytes: self.offset, sections: self.sections, digest })
    }

    fn frame(&mut self) -> Result<Frame, SnapshotError> {
        let offset = self.offset;
        let mut head = [0; FRAME_BYTES];
        self.fill_all(&mut head)?;
        let kind = head[0];
        let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
        let crc = u32::from_le_bytes([head[5], head[6], head[7], head[8]]);
        if length as usize > CHUNK_BYTES_MAX {
            return Err(self.damaged(offset, "a part is longer than allowed"));
        }
        let digest_before = (kind == KIND_TRAILER).then(|| *self.hasher.finalize().as_bytes());
        let mut payload = BytesMut::zeroed(length as usize);
        self.fill_all(&mut payload)?;
        if frame_crc(kind, length, &payload) != crc {
            return Err(self.damaged(offset, "the checksum does not match"));
        }
        self.hasher.update(&head);
        self.hasher.update(&payload);
        Ok(Frame { kind, offset, payload: payload.freeze(), digest_before })
    }

    fn fill_all(&mut self, buffer: &mut [u8]) -> Result<(), SnapshotError> {
        if self.fill(buffer)? < buffer.len() {
            return Err(SnapshotError::Truncated { file: self.label.clone(), offset: self.offset });
        }
        Ok(())
    }

    /// Reads until the buffer is full or the stream ends; the number of bytes read.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, SnapshotError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.input.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let file = self.label.clone();
                    return Err(SnapshotError::Io { action: "read snapshot", file, error });
                }
            }
        }
        self.offset += filled as u64;
        Ok(filled)
    }

    fn damaged(&self, offset: u64, what: &str) -> SnapshotError {
        SnapshotError::Damaged { file: self.label.clone(), offset, what: what.to_owned() }
    }
}
