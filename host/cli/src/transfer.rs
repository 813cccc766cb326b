//! Files of tenants: `mortise tenant export` and `import`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use mortise_client::AdminClient;
use mortise_client::admin::TenantInfo;
use serde_json::json;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use crate::context::Context;
use crate::output;

/// Bytes read at once.
const READ_BYTES: usize = 256 << 10;

/// Writes a tenant into a file, or to the standard output.
pub(crate) async fn export(
    admin: &AdminClient,
    name: &str,
    file: &str,
    context: &Context,
) -> anyhow::Result<()> {
    let chunks = admin.export_tenant(name).await?;
    let progress = progress(None, context);
    if file == "-" {
        receive(chunks, &progress, |chunk| async move { output::raw(&chunk) }).await?;
        return Ok(());
    }
    // Aside first, so that a broken export never looks like a whole one.
    let path = Path::new(file);
    let aside = PathBuf::from(format!("{file}.part"));
    let bytes = match save(chunks, &aside, &progress).await {
        Ok(bytes) => bytes,
        Err(error) => {
            let _ = tokio::fs::remove_file(&aside).await;
            return Err(error);
        }
    };
    tokio::fs::rename(&aside, path).await.with_context(|| format!("rename {} to {file}", aside.display()))?;
    progress.finish_and_clear();
    let saved = json!({ "tenant": name, "file": file, "bytes": bytes });
    context.print(&saved, |_| format!("exported {name} to {file}: {}", output::size(bytes)))
}

async fn save(
    chunks: impl Stream<Item = Result<Bytes, mortise_client::ClientError>> + Unpin,
    path: &Path,
    progress: &ProgressBar,
) -> anyhow::Result<u64> {
    let write = || format!("write {}", path.display());
    let file = File::create(path).await.with_context(write)?;
    let file = tokio::sync::Mutex::new(file);
    let bytes = receive(chunks, progress, |chunk| async {
        let chunk = chunk;
        file.lock().await.write_all(&chunk).await.with_context(write)
    })
    .await?;
    let mut file = file.into_inner();
    file.flush().await.with_context(write)?;
    file.sync_all().await.with_context(write)?;
    Ok(bytes)
}

/// Hands every chunk on, and returns how many bytes there were.
async fn receive<F: Future<Output = anyhow::Result<()>>>(
    mut chunks: impl Stream<Item = Result<Bytes, mortise_client::ClientError>> + Unpin,
    progress: &ProgressBar,
    mut take: impl FnMut(Bytes) -> F,
) -> anyhow::Result<u64> {
    let mut bytes = 0;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        bytes += chunk.len() as u64;
        progress.set_position(bytes);
        take(chunk).await?;
    }
    Ok(bytes)
}

/// Makes a tenant of a file, or of the standard input.
pub(crate) async fn import(
    admin: &AdminClient,
    name: &str,
    file: &str,
    context: &Context,
) -> anyhow::Result<TenantInfo> {
    if file == "-" {
        let stdin = File::open("/dev/stdin").await.context("open the standard input")?;
        return send(admin, name, stdin, progress(None, context)).await.context("import the standard input");
    }
    let open = || format!("open {file}");
    let opened = File::open(file).await.with_context(open)?;
    let length = opened.metadata().await.with_context(open)?.len();
    send(admin, name, opened, progress(Some(length), context)).await.with_context(|| format!("import {file}"))
}

async fn send(
    admin: &AdminClient,
    name: &str,
    source: impl AsyncRead + Unpin + Send + 'static,
    progress: ProgressBar,
) -> anyhow::Result<TenantInfo> {
    let broken = Arc::new(Mutex::new(None));
    let imported = admin.import_tenant(name, chunks(source, Arc::clone(&broken), progress.clone())).await;
    progress.finish_and_clear();
    // A file that cannot be read to its end looks damaged to the node; this is why.
    if let Some(error) = broken.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(error.into());
    }
    Ok(imported?)
}

fn chunks(
    source: impl AsyncRead + Unpin + Send + 'static,
    broken: Arc<Mutex<Option<io::Error>>>,
    progress: ProgressBar,
) -> impl Stream<Item = Bytes> + Send + 'static {
    stream::unfold(source, move |mut source| {
        let (broken, progress) = (Arc::clone(&broken), progress.clone());
        async move {
            let mut buffer = BytesMut::with_capacity(READ_BYTES);
            match source.read_buf(&mut buffer).await {
                Ok(0) => None,
                Ok(read) => {
                    progress.inc(read as u64);
                    Some((buffer.freeze(), source))
                }
                Err(error) => {
                    *broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    None
                }
            }
        }
    })
}

/// A bar on the standard error where that is a terminal and a person is asking; else nothing shows.
fn progress(length: Option<u64>, context: &Context) -> ProgressBar {
    if context.json {
        return ProgressBar::hidden();
    }
    let template = match length {
        Some(_) => "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta} left",
        None => "{spinner} {bytes} {bytes_per_sec}",
    };
    let bar = length.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
