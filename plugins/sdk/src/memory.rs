//! The state in memory, for unit tests on the machine that compiles: the host's imports exist in a component only.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use crate::snapshot::{Sink, Source};
use crate::{Context, Direction, KeyRange, Plugin, Rejection, Transaction, View, log::Level};

type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

/// A tenant's state in memory, through which a plugin's logic is tested without a component.
///
/// It keeps the contract's rules: a refused command leaves nothing behind, and the due time is cleared just before
/// `expire`. Limits, fuel and encodings are seen only by tests of the compiled component, with `mortise-testkit`.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pairs: RefCell<Pairs>,
    due: Cell<Option<u64>>,
}

impl Memory {
    /// A state without keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// The state, to read.
    pub fn view(&self) -> View<'_> {
        View::new(Reader(self))
    }

    /// The state, to write. Writes take effect at once.
    pub fn transaction(&mut self) -> Transaction<'_> {
        Transaction::new(Reader(self), Writer(self))
    }

    /// Admits and applies a command; a refused one leaves nothing behind.
    ///
    /// # Errors
    /// The plugin refused.
    pub fn apply<P: Plugin>(
        &mut self,
        context: &Context,
        command: P::Command,
    ) -> Result<P::Reply, Rejection> {
        P::check(&self.view(), context, &command)?;
        let before = self.clone();
        let result = P::apply(&mut self.transaction(), context, command);
        if result.is_err() {
            *self = before;
        }
        result
    }

    /// Answers a request.
    ///
    /// # Errors
    /// The plugin refused.
    pub fn query<P: Plugin>(&self, context: &Context, request: P::Request) -> Result<P::Response, Rejection> {
        P::query(&self.view(), context, request)
    }

    /// Calls `expire` where it is due at `context.time_ms`, and says whether it was.
    pub fn expire<P: Plugin>(&mut self, context: &Context) -> bool {
        let due = self.due.get().is_some_and(|due| due <= context.time_ms);
        if due {
            self.due.set(None);
            P::expire(&mut self.transaction(), context);
        }
        due
    }

    /// The plugin's snapshot.
    ///
    /// # Errors
    /// As [`Plugin::snapshot`].
    pub fn snapshot<P: Plugin>(&self) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let mut sink = Sink::new(Output(&mut bytes));
        P::snapshot(&self.view(), &mut sink)?;
        sink.flush();
        Ok(bytes)
    }

    /// A state made from a snapshot.
    ///
    /// # Errors
    /// As [`Plugin::restore`].
    pub fn restore<P: Plugin>(context: &Context, snapshot: &[u8]) -> Result<Self, String> {
        let mut memory = Self::new();
        P::restore(&mut memory.transaction(), context, &mut Source::new(Input(snapshot)))?;
        Ok(memory)
    }

    /// When `expire` is due, in milliseconds of log time.
    pub fn due(&self) -> Option<u64> {
        self.due.get()
    }

    /// A copy of all pairs, in key order.
    pub fn pairs(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.pairs.borrow().iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(&'a Memory);

impl Reader<'_> {
    pub(crate) fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.pairs.borrow().get(key).cloned()
    }

    pub(crate) fn get_many(&self, keys: &[Vec<u8>]) -> Vec<Option<Vec<u8>>> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    pub(crate) fn page(
        &self,
        range: &KeyRange,
        direction: Direction,
        bytes_max: u32,
    ) -> (Vec<u8>, Option<Vec<u8>>) {
        let pairs = self.0.pairs.borrow();
        let mut inside: Vec<_> = pairs.iter().filter(|(key, _)| range.contains(key)).collect();
        if direction == Direction::Descending {
            inside.reverse();
        }
        let mut page = Vec::new();
        for (taken, (key, value)) in inside.iter().enumerate() {
            let bytes = 8 + key.len() + value.len();
            if taken > 0 && page.len() + bytes > bytes_max as usize {
                let next = match direction {
                    Direction::Ascending => key,
                    Direction::Descending => inside[taken - 1].0,
                };
                return (page, Some(next.to_vec()));
            }
            page.extend_from_slice(&(key.len() as u32).to_le_bytes());
            page.extend_from_slice(&(value.len() as u32).to_le_bytes());
            page.extend_from_slice(key);
            page.extend_from_slice(value);
        }
        (page, None)
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Writer<'a>(&'a Memory);

impl Writer<'_> {
    pub(crate) fn put(&self, key: &[u8], value: &[u8]) {
        self.0.pairs.borrow_mut().insert(key.to_vec(), value.to_vec());
    }

    pub(crate) fn delete(&self, key: &[u8]) {
        self.0.pairs.borrow_mut().remove(key);
    }

    pub(crate) fn delete_range(&self, range: &KeyRange) {
        self.0.pairs.borrow_mut().retain(|key, _| !range.contains(key));
    }

    pub(crate) fn next_due(&self, time_ms: Option<u64>) {
        self.0.due.set(time_ms);
    }
}

pub(crate) struct Output<'a>(&'a mut Vec<u8>);

impl Output<'_> {
    pub(crate) fn write(&mut self, chunk: &[u8]) {
        self.0.extend_from_slice(chunk);
    }
}

pub(crate) struct Input<'a>(&'a [u8]);

impl Input<'_> {
    pub(crate) fn read(&mut self, bytes_max: u32) -> Option<Vec<u8>> {
        let (head, rest) = self.0.split_at(self.0.len().min(bytes_max as usize));
        self.0 = rest;
        (!head.is_empty()).then(|| head.to_vec())
    }
}

pub(crate) fn write_log(level: Level, message: &str) {
    eprintln!("{level:?}: {message}");
}
