//! A TCP proxy before a node: counts connections, cuts them, holds their bytes back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What a gate lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    All,
    /// Connections stay open, and bytes stay where they are.
    Nothing,
    /// Connections end, and new ones end at once.
    Closed,
}

/// How many connections there were and are.
#[derive(Default)]
struct Counts {
    made: AtomicUsize,
    open: AtomicUsize,
}

pub(crate) struct Gate {
    address: SocketAddr,
    counts: Arc<Counts>,
    pass: watch::Sender<Pass>,
    /// Each new number cuts the connections there are.
    cut: watch::Sender<usize>,
    accepts: JoinHandle<()>,
}

impl Gate {
    pub(crate) async fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::new(Counts::default());
        let (pass, cut) = (watch::Sender::new(Pass::All), watch::Sender::new(0));
        let (of_task, passing, cutting) = (Arc::clone(&counts), pass.subscribe(), cut.subscribe());
        let accepts = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                of_task.made.fetch_add(1, Ordering::SeqCst);
                of_task.open.fetch_add(1, Ordering::SeqCst);
                let (counts, passing, mut cutting) = (Arc::clone(&of_task), passing.clone(), cutting.clone());
                cutting.mark_unchanged();
                tokio::spawn(async move {
                    let mut closing = passing.clone();
                    tokio::select! {
                        _ = closing.wait_for(|pass| *pass == Pass::Closed) => {}
                        _ = cutting.changed() => {}
                        () = forward(stream, target, passing) => {}
                    }
                    counts.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, counts, pass, cut, accepts }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn let_through(&self, pass: Pass) {
        self.pass.send_replace(pass);
    }

    /// Ends the connections there are.
    pub(crate) fn cut(&self) {
        self.cut.send_modify(|number| *number += 1);
    }

    /// Connections so far.
    pub(crate) fn made(&self) -> usize {
        self.counts.made.load(Ordering::SeqCst)
    }

    /// Connections now.
    pub(crate) fn open(&self) -> usize {
        self.counts.open.load(Ordering::SeqCst)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.accepts.abort();
        self.let_through(Pass::Closed);
    }
}

/// Forwards until one side ends.
async fn forward(near: TcpStream, target: SocketAddr, pass: watch::Receiver<Pass>) {
    let Ok(far) = TcpStream::connect(target).await else { return };
    let (near_reads, near_writes) = near.into_split();
    let (far_reads, far_writes) = far.into_split();
    tokio::select! {
        () = copy(near_reads, far_writes, pass.clone()) => {}
        () = copy(far_reads, near_writes, pass) => {}
    }
}

async fn copy(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut pass: watch::Receiver<Pass>,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if pass.wait_for(|pass| *pass == Pass::All).await.is_err()
            || to.write_all(&buffer[..read]).await.is_err()
        {
            return;
        }
    }
}
