//! Links that can be cut, between nodes and from each node to etcd: a TCP proxy for each directed link, which the node at its
//! beginning dials instead of who is at its end.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};

/// Bytes read at once: what of a cut link is held back, at most, for each connection and direction.
const PART_BYTES: usize = 64 << 10;

/// Where a link to etcd ends. Nodes are numbered from 1 on.
const ETCD: usize = 0;

/// All links of a cluster, by who is at their ends: the node that dials, and the one that is dialled.
pub struct Links(BTreeMap<(usize, usize), Arc<Link>>);

/// One directed link. While it is cut, what is sent on its connections stays on its way, and no new connection gets through.
struct Link {
    port: u16,
    cut: Mutex<Cut>,
    healed: Condvar,
    held_forth: AtomicU64,
    held_back: AtomicU64,
}

/// A way that bytes go through a link.
struct Way {
    is_cut: fn(&Cut) -> bool,
    held: fn(&Link) -> &AtomicU64,
}

const FORTH: Way = Way { is_cut: |cut| cut.forth, held: |link| &link.held_forth };
const BACK: Way = Way { is_cut: |cut| cut.back, held: |link| &link.held_back };

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

    /// Waits while the link is cut as `is_cut` says.
    fn wait(&self, is_cut: fn(&Cut) -> bool) {
        let mut cut = self.cut();
        while is_cut(&cut) {
            cut = self.healed.wait(cut).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Links {
    /// Makes a link from each node to each other one, and to etcd. `ports`: of the nodes' peer listeners, the first node's
    /// first.
    pub(crate) fn open(ports: &[u16], etcd: u16) -> Result<Self> {
        let mut links = BTreeMap::new();
        for from in 1..=ports.len() {
            let nodes = ports.iter().enumerate().map(|(at, port)| (at + 1, *port));
            for (to, port) in nodes.chain([(ETCD, etcd)]) {
                if from == to {
                    continue;
                }
                let listener = TcpListener::bind(("127.0.0.1", 0)).context("open a link")?;
                let link = Arc::new(Link {
                    port: listener.local_addr().context("open a link")?.port(),
                    cut: Mutex::default(),
                    healed: Condvar::new(),
                    held_forth: AtomicU64::new(0),
                    held_back: AtomicU64::new(0),
                });
                let accepting = link.clone();
                std::thread::spawn(move || accept(&listener, port, &accepting));
                links.insert((from, to), link);
            }
        }
        Ok(Self(links))
    }

    /// Where `from` reaches the other nodes.
    pub(crate) fn from(&self, from: usize) -> impl Iterator<Item = (usize, u16)> + '_ {
        let links = self.0.iter().filter(move |((dials, to), _)| *dials == from && *to != ETCD);
        links.map(|((_, to), link)| (*to, link.port))
    }

    /// Where `from` reaches etcd.
    pub(crate) fn to_etcd(&self, from: usize) -> Option<u16> {
        self.0.get(&(from, ETCD)).map(|link| link.port)
    }

    /// Cuts the link that `from` dials to `to`, or heals it.
    pub fn set(&self, from: usize, to: usize, cut: Cut) {
        if let Some(link) = self.0.get(&(from, to)) {
            *link.cut() = cut;
            link.healed.notify_all();
        }
    }

    /// Cuts a node off from all other nodes, or brings it back.
    pub fn isolate(&self, node: usize, cut: bool) {
        let ends = self.0.keys().filter(|(from, to)| (*from == node || *to == node) && *to != ETCD);
        ends.for_each(|(from, to)| self.set(*from, *to, both(cut)));
    }

    /// Cuts a node off from etcd, or brings it back.
    pub fn isolate_from_etcd(&self, node: usize, cut: bool) {
        self.set(node, ETCD, both(cut));
    }

    /// Bytes from the node `from` to the node `to` that cuts have held back so far, whoever dialled.
    pub fn held_bytes(&self, from: usize, to: usize) -> u64 {
        let held = |ends, held: fn(&Link) -> &AtomicU64| {
            self.0.get(&ends).map_or(0, |link| held(link).load(Ordering::Relaxed))
        };
        held((from, to), FORTH.held) + held((to, from), BACK.held)
    }
}

fn both(cut: bool) -> Cut {
    if cut { Cut::BOTH } else { Cut::default() }
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
            std::thread::spawn(move || copy(node_too, dialled_too, &back, &BACK));
            copy(dialled, node, &link, &FORTH);
        });
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, link: &Link, way: &Way) {
    let mut part = vec![0; PART_BYTES];
    while let Ok(count @ 1..) = from.read(&mut part) {
        if (way.is_cut)(&link.cut()) {
            (way.held)(link).fetch_add(count as u64, Ordering::Relaxed);
            link.wait(way.is_cut);
        }
        if to.write_all(&part[..count]).is_err() {
            break;
        }
    }
    // Each may be gone already.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
