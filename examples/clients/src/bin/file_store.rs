//! A small application: a store of files, in chunks, over the keys of `kv`.
//!
//! ```text
//! f/NAME            what the file is: its bytes, chunks and checksum, and which upload it came by
//! c/NAME 0 UPLOAD/N its chunks, in order
//! ```
//! An upload writes its chunks first, and then `f/NAME`, if nobody else has changed that since and the chunks are there: so a
//! reader sees the old file or the new one, never a mixture. Then the chunks of other uploads are removed. An upload that is
//! still under way finds its first chunk gone, and fails: it writes the others only when that one is there.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use clap::{Parser, Subcommand};
use mortise_client::kv::{Expected, KeyRange, Kv, RangeOptions, Record, Write};
use mortise_client::{ClientError, WriterOptions};
use mortise_example_clients::Place;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

/// Bytes of a chunk: small enough that several fit into the memory of everybody on the way.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks on their way at once.
const IN_FLIGHT: usize = 16;
/// How often a read begins anew where the file is replaced meanwhile.
const ATTEMPTS_MAX: usize = 5;

/// Keeps files in the tenant `kv`
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes a file into the store, whatever was there under the name
    Write { name: String, file: PathBuf },
    /// Reads a file from the store
    Read { name: String, file: PathBuf },
    /// Lists the files
    List,
    /// Removes a file
    Remove { name: String },
}

/// What `f/NAME` holds.
#[derive(Serialize, Deserialize)]
struct Info {
    bytes: u64,
    chunks: u64,
    upload: String,
    blake3: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { place, command } = Arguments::parse();
    let tenant = place.client().await?.tenant("kv");
    let writer = tenant.writer(WriterOptions::default()).await?;
    let kv = Kv::with_writer(tenant, writer);
    match command {
        Command::Write { name, file } => write(&kv, &name, &file).await,
        Command::Read { name, file } => read(&kv, &name, &file).await,
        Command::List => list(&kv).await,
        Command::Remove { name } => remove(&kv, &name).await,
    }
}

async fn write(kv: &Kv, name: &str, path: &Path) -> anyhow::Result<()> {
    ensure!(!name.contains('\0'), "a name holds no zero byte");
    let mut file = tokio::fs::File::open(path).await.with_context(|| format!("open {}", path.display()))?;
    let present = kv.get(info_key(name)).await?;
    let upload =
        format!("{}-{}", SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos(), std::process::id());
    let (mut bytes, mut chunks, mut hasher) = (0, 0, blake3::Hasher::new());
    let mut uploads = JoinSet::new();
    loop {
        let mut chunk = Vec::new();
        (&mut file).take(CHUNK_BYTES as u64).read_to_end(&mut chunk).await?;
        if chunk.is_empty() {
            break;
        }
        hasher.update(&chunk);
        bytes += chunk.len() as u64;
        let (kv, key) = (kv.clone(), chunk_key(name, &upload, chunks));
        // It cannot be there: if it is, another upload has the same name.
        uploads.spawn(async move { kv.put_if_absent(key, chunk, 0).await });
        if (chunks == 0 || uploads.len() >= IN_FLIGHT)
            && let Some(done) = uploads.join_next().await
        {
            done??;
        }
        chunks += 1;
    }
    while let Some(done) = uploads.join_next().await {
        done??;
    }
    let info = Info { bytes, chunks, upload: upload.clone(), blake3: hasher.finalize().to_string() };
    let unchanged = present.map_or(Expected::Absent, |record| Expected::Version(record.version));
    let first = (chunks > 0).then(|| (chunk_key(name, &upload, 0), Expected::Present));
    let conditions = [(info_key(name), unchanged)].into_iter().chain(first);
    // What is not of this upload is of no use to anybody any more.
    let (all, own) = (chunks_of(name), chunk_prefix(name, &upload));
    let behind = [own.as_slice(), &[0xff]].concat();
    let writes = [
        Write::Put { key: info_key(name), value: serde_json::to_vec(&info)?, ttl_ms: 0 },
        Write::DeleteRange { keys: KeyRange { end: own, ..all.clone() } },
        Write::DeleteRange { keys: KeyRange { start: behind, ..all } },
    ];
    let replaced = kv.batch(conditions, writes).await;
    if replaced.as_ref().is_err_and(is_conflict) {
        bail!("somebody else wrote or removed {name} meanwhile: look, and write it again");
    }
    replaced?;
    println!("{name}: {bytes} bytes in {chunks} chunks");
    Ok(())
}

async fn read(kv: &Kv, name: &str, path: &Path) -> anyhow::Result<()> {
    for _ in 0..ATTEMPTS_MAX {
        let Some(record) = kv.get(info_key(name)).await? else { bail!("there is no file {name}") };
        let info: Info = serde_json::from_slice(&record.value).with_context(|| format!("what {name} is"))?;
        let mut file =
            tokio::fs::File::create(path).await.with_context(|| format!("create {}", path.display()))?;
        if read_chunks(kv, name, &info, &mut file).await? {
            file.flush().await?;
            println!("{name}: {} bytes", info.bytes);
            return Ok(());
        }
    }
    bail!("{name} was replaced {ATTEMPTS_MAX} times while it was read: try again later");
}

/// Returns whether all of them are still there.
async fn read_chunks(kv: &Kv, name: &str, info: &Info, file: &mut tokio::fs::File) -> anyhow::Result<bool> {
    let (mut bytes, mut hasher) = (0, blake3::Hasher::new());
    for chunk in 0..info.chunks {
        let Some(Record { value, .. }) = kv.get(chunk_key(name, &info.upload, chunk)).await? else {
            return Ok(false);
        };
        hasher.update(&value);
        bytes += value.len() as u64;
        file.write_all(&value).await?;
    }
    ensure!(bytes == info.bytes && hasher.finalize().to_string() == info.blake3, "{name} is damaged");
    Ok(true)
}

async fn list(kv: &Kv) -> anyhow::Result<()> {
    let keys = KeyRange { prefix: b"f/".into(), ..KeyRange::default() };
    let mut after = Some(Vec::new());
    while let Some(last) = after {
        let page = kv.range(keys.clone(), RangeOptions { after: last, ..RangeOptions::default() }).await?;
        for record in page.records {
            let info: Info = serde_json::from_slice(&record.value)?;
            let name = String::from_utf8_lossy(record.key.get(2..).unwrap_or_default()).into_owned();
            println!("{:>12}  {name}", info.bytes);
        }
        after = page.more.then_some(page.next);
    }
    Ok(())
}

async fn remove(kv: &Kv, name: &str) -> anyhow::Result<()> {
    let writes = [Write::Delete { key: info_key(name) }, Write::DeleteRange { keys: chunks_of(name) }];
    let removed = kv.batch([(info_key(name), Expected::Present)], writes).await;
    ensure!(!removed.as_ref().is_err_and(is_conflict), "there is no file {name}");
    removed?;
    println!("{name}: removed");
    Ok(())
}

fn is_conflict(error: &ClientError) -> bool {
    error.rejection().is_some_and(|why| why.code == "compare_failed")
}

fn info_key(name: &str) -> Vec<u8> {
    [b"f/", name.as_bytes()].concat()
}

/// All chunks under a name. Names hold no zero byte, so that no other name's begin the same.
fn chunks_of(name: &str) -> KeyRange {
    KeyRange { prefix: [b"c/", name.as_bytes(), b"\0"].concat(), ..KeyRange::default() }
}

fn chunk_prefix(name: &str, upload: &str) -> Vec<u8> {
    [b"c/", name.as_bytes(), b"\0", upload.as_bytes(), b"/"].concat()
}

/// Numbers have as many digits as are needed for the order of keys to be theirs.
fn chunk_key(name: &str, upload: &str, chunk: u64) -> Vec<u8> {
    [chunk_prefix(name, upload), format!("{chunk:010}").into_bytes()].concat()
}
