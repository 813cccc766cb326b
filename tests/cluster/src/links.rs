//! Links between nodes that can be cut: a TCP proxy for each directed link, which the node at its beginning dials instead of
//! the other one.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};

/// Bytes read at once: what of a cut link is held back, at most, for each connection and direction.
const PART_BYTES: usize = 64 << 10;

/// All links of a cluster, by the nodes at their ends: the one that dials, and the one that is dialled.
#[derive(Default)]
pub struct Links(BTreeMap<(usize, usize), Arc<Link>>);

/// One directed link. While it is cut, what is sent on its connections stays on its way, and no new connection gets through.
struct Link {
    port: u16,
    cut: Mutex<Cut>,
    healed: Condvar,
    held: AtomicU64,
}

/// Which way nothing passes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Cut {
    /// From the node that dialled.
    pub forth: bool,
    /// To it.
    pub back: bool,
}

impl Cut {
    /// Neither way.
    pub const BOTH: Self = Self { forth: true, back: true };
}

impl Link {
    fn cut(&self) -> MutexGuard<'_, Cut> {
        self.cut.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while `way` says that the link is cut.
    fn wait(&self, way: fn(&Cut) -> bool) {
        let mut cut = self.cut();
        while way(&cut) {
            cut = self.healed.wait(cut).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Links {
    /// Makes a link from each node to each other one. `ports`: of the nodes' peer listeners, the first node's first.
    pub(crate) fn open(ports: &[u16]) -> Result<Self> {
        let mut links = BTreeMap::new();
        for from in 1..=ports.len() {
            for (to, port) in ports.iter().enumerate().map(|(at, port)| (at + 1, *port)) {
                if from == to {
                    continue;
                }
                let listener = TcpListener::bind(("127.0.0.1", 0)).context("open a link")?;
                let link = Arc::new(Link {
                    port: listener.local_addr().context("open a link")?.port(),
                    cut: Mutex::default(),
                    healed: Condvar::new(),
                    held: AtomicU64::new(0),
                });
                let accepting = link.clone();
                std::thread::spawn(move || accept(&listener, port, &accepting));
                links.insert((from, to), link);
            }
        }
        Ok(Self(links))
    }

    /// Where `from` reaches the others.
    pub(crate) fn from(&self, from: usize) -> impl Iterator<Item = (usize, u16)> + '_ {
        self.0.iter().filter(move |((dials, _), _)| *dials == from).map(|((_, to), link)| (*to, link.port))
    }

    /// Cuts the link that `from` dials to `to`, or heals it.
    pub fn set(&self, from: usize, to: usize, cut: Cut) {
        if let Some(link) = self.0.get(&(from, to)) {
            *link.cut() = cut;
            link.healed.notify_all();
        }
    }

    /// Cuts a node off from all others, or brings it back.
    pub fn isolate(&self, node: usize, cut: bool) {
        let cut = if cut { Cut::BOTH } else { Cut::default() };
        for (from, to) in self.0.keys().filter(|(from, to)| *from == node || *to == node) {
            self.set(*from, *to, cut);
        }
    }

    /// Bytes that cut links have held back so far.
    pub fn held_bytes(&self) -> u64 {
        self.0.values().map(|link| link.held.load(Ordering::Relaxed)).sum()
    }
}

fn accept(listener: &TcpListener, port: u16, link: &Arc<Link>) {
    while let Ok((dialled, _)) = listener.accept() {
        let link = link.clone();
        std::thread::spawn(move || {
            link.wait(|cut| cut.forth || cut.back);
            // A node that is down refuses: so does its link.
            let Ok(node) = TcpStream::connect(("127.0.0.1", port)) else { return };
            let (Ok(dialled_too), Ok(node_too)) = (dialled.try_clone(), node.try_clone()) else { return };
            let back = link.clone();
            std::thread::spawn(move || copy(node_too, dialled_too, &back, |cut| cut.back));
            copy(dialled, node, &link, |cut| cut.forth);
        });
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, link: &Link, way: fn(&Cut) -> bool) {
    let mut part = vec![0; PART_BYTES];
    while let Ok(count @ 1..) = from.read(&mut part) {
        if way(&link.cut()) {
            link.held.fetch_add(count as u64, Ordering::Relaxed);
            link.wait(way);
        }
        if to.write_all(&part[..count]).is_err() {
            break;
        }
    }
    // Each may be gone already.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
