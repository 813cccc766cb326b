//! Import: an exported snapshot is checked whole, then goes through the log in chunks, and becomes a tenant by one
//! last entry.

use std::io::{Read, Seek, SeekFrom, Write};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use mortise_core::entry::{Body, Import};
use mortise_core::ids::{Epoch, TenantId};
use mortise_storage::ScratchFile;

use super::Replica;
use super::admin::blocking;
use super::api::{AdminError, TenantInfo};
use super::driver::Numbers;
use super::snapshot::check_export;

/// Bytes of an import in one log entry.
const CHUNK_BYTES: usize = 1 << 20;

impl Replica {
    /// Makes a tenant named `name` of an exported snapshot. The plugin it used is made known to the group where it
    /// was not. Takes about the snapshot's size in the data folder, until it is done.
    ///
    /// # Errors
    /// The name is malformed or taken; the snapshot is damaged; its plugin cannot be loaded.
    pub async fn import<E: Into<AdminError>>(
        &self,
        name: &str,
        chunks: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<TenantInfo, AdminError> {
        self.import_in(None, name, chunks).await
    }

    /// The same, in this leadership only; `None`: in whichever it comes to.
    ///
    /// # Errors
    /// As [`Replica::import`], and another leadership.
    pub(crate) async fn import_in<E: Into<AdminError>>(
        &self,
        epoch: Option<Epoch>,
        name: &str,
        chunks: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<TenantInfo, AdminError> {
        self.check_new(name)?;
        let mut file = self.shared().scratch().map_err(AdminError::internal)?;
        let mut chunks = std::pin::pin!(chunks);
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(Into::into)?;
            self.check_room()?;
            file = blocking(move || file.write_all(&chunk).map(|()| file))
                .await?
                .map_err(AdminError::internal)?;
        }
        let (component, file) = blocking(move || (check_export(&mut file), file)).await?;
        let component = component.map_err(AdminError::Invalid)?;
        self.upload_plugin(component).await?;
        self.log_import(epoch, name, file).await
    }

    fn check_room(&self) -> Result<(), AdminError> {
        match self.shared().refusal().clone() {
            Some(refusal) => Err(refusal.into()),
            None => Ok(()),
        }
    }

    async fn log_import(
        &self,
        epoch: Option<Epoch>,
        name: &str,
        mut file: ScratchFile,
    ) -> Result<TenantInfo, AdminError> {
        let import = self.next_import();
        file.seek(SeekFrom::Start(0)).map_err(AdminError::internal)?;
        let mut offset = 0;
        loop {
            let (bytes, rest) = blocking(move || read_chunk(file)).await?.map_err(AdminError::internal)?;
            file = rest;
            if bytes.is_empty() {
                break;
            }
            let length = bytes.len() as u64;
            let staged = self.propose_body(Body::Import(Import::Chunk { import, offset, bytes }), name).await;
            if let Err(error) = staged {
                // Where this fails too, the chunks stay staged and harmless.
                let _ = self.propose_body(Body::Import(Import::Abort { import }), name).await;
                return Err(error);
            }
            offset += length;
        }
        let owned = name.to_owned();
        let commit = move |numbers: &mut Numbers| {
            numbers.last_tenant += 1;
            let tenant = TenantId(numbers.last_tenant);
            Body::Import(Import::Commit { import, tenant, name: owned, bytes: offset })
        };
        self.propose_in(epoch, commit, name).await?;
        self.tenant_info(name, false).await
    }
}

fn read_chunk(mut file: ScratchFile) -> std::io::Result<(Bytes, ScratchFile)> {
    let mut bytes = Vec::new();
    Read::take(&mut file, CHUNK_BYTES as u64).read_to_end(&mut bytes)?;
    Ok((bytes.into(), file))
}
