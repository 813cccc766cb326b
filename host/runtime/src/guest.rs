//! What belongs to one instance: the state it was lent, what it has used up, and how far it may grow.
//!
//! Every check here decides an outcome, so it depends on the profile, on the input and on the state alone.

use std::cell::Cell;
use std::sync::Arc;

use bytes::Bytes;
use mortise_core::layer::Layer;
use mortise_core::outcome::Limit;
use mortise_core::overlay::Overlay;
use mortise_core::profile::Profile;
use mortise_core::state::{Direction, KeyRange};

use crate::abi::Page;
use crate::bulk::Line;
use crate::failure::{LocalFault, Stop};
use crate::growth::Growth;
use crate::logs::Logs;
use crate::page;

/// Most bytes of a page that a scan returns, unless its one pair has more; a larger `max-bytes` is taken as this.
/// Pages of this size already cost next to nothing per call.
pub const PAGE_BYTES_MAX: usize = 1 << 20;
/// Most keys of one `get-many`; more end the call as `read_bytes_max` does. Each costs the host a lookup and a slot
/// before a byte is copied.
pub const GET_MANY_KEYS_MAX: usize = 65_536;
/// Bytes of writes that `restore` and `migrate` gather before they are flushed to their target.
const FLUSH_BYTES: u64 = 8 << 20;
/// What a write costs in memory beside its bytes, roughly.
const WRITE_OVERHEAD_BYTES: u64 = 96;

/// What a call may do. It decides which limits hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// `describe`, `validate`, `query`, `apply`, `expire`: every limit.
    Single,
    /// `restore`: as much may be written as fuel allows.
    Restore,
    /// `snapshot`, `migrate`: as much may be read, too, but no host call returns more than `read_bytes_max`.
    ReadAll,
}

/// wasmtime's data of one instance.
pub(crate) struct Guest {
    pub(crate) limits: Arc<Profile>,
    /// Set while a call lasts that may see a state.
    pub(crate) overlay: Option<Overlay>,
    pub(crate) meter: Meter,
    pub(crate) growth: Growth,
    pub(crate) logs: Logs,
    /// Set during bulk calls.
    pub(crate) line: Option<Line>,
}

/// What the present call has used beside the guest's own instructions.
#[derive(Debug)]
pub(crate) struct Meter {
    task: Task,
    fuel_max: u64,
    /// Fuel that host calls cost.
    pub(crate) fuel: u64,
    read: u64,
    written: u64,
    /// Bytes written since the last flush.
    pending: u64,
}

impl Guest {
    pub(crate) fn new(limits: Arc<Profile>) -> Self {
        let growth = Growth::new(&limits);
        let meter = Meter { task: Task::Single, fuel_max: 0, fuel: 0, read: 0, written: 0, pending: 0 };
        Self { limits, overlay: None, meter, growth, logs: Logs::default(), line: None }
    }

    /// Begins a call.
    pub(crate) fn start(&mut self, task: Task, fuel_max: u64) {
        self.meter = Meter { task, fuel_max, fuel: 0, read: 0, written: 0, pending: self.meter.pending };
        self.growth.refused = None;
    }

    /// Pays for one host call that takes `bytes`.
    pub(crate) fn charge_call(&mut self, bytes: usize) -> Result<(), Stop> {
        if self.meter.task == Task::ReadAll {
            self.meter.read = 0;
        }
        self.charge(1, bytes as u64)
    }

    /// Pays for one key of a `get-many`: a lookup costs the host as much as a `get`.
    pub(crate) fn charge_key(&mut self, bytes: usize) -> Result<(), Stop> {
        self.charge(1, bytes as u64)
    }

    /// Pays for `bytes` that a host call returns or goes through.
    pub(crate) fn charge_bytes(&mut self, bytes: u64) -> Result<(), Stop> {
        self.charge(0, bytes)
    }

    fn byte_cost(&self, bytes: u64) -> u64 {
        bytes.div_ceil(16).saturating_mul(self.limits.fuel_host_16_bytes)
    }

    fn charge(&mut self, calls: u64, bytes: u64) -> Result<(), Stop> {
        let cost = calls.saturating_mul(self.limits.fuel_host_call).saturating_add(self.byte_cost(bytes));
        self.meter.fuel = self.meter.fuel.saturating_add(cost);
        within(self.meter.fuel, self.meter.fuel_max, Limit::Fuel)
    }

    pub(crate) fn check_key(&self, bytes: usize) -> Result<(), Stop> {
        within(bytes as u64, self.limits.key_bytes_max, Limit::KeyBytes)
    }

    /// A range may end just behind the longest key, which takes one byte more.
    pub(crate) fn check_bound(&self, bytes: usize) -> Result<(), Stop> {
        within((bytes as u64).saturating_sub(1), self.limits.key_bytes_max, Limit::KeyBytes)
    }

    pub(crate) fn check_value(&self, bytes: usize) -> Result<(), Stop> {
        within(bytes as u64, self.limits.value_bytes_max, Limit::ValueBytes)
    }

    /// Counts `bytes` as read.
    pub(crate) fn count_read(&mut self, bytes: usize) -> Result<(), Stop> {
        self.meter.read = self.meter.read.saturating_add(bytes as u64);
        within(self.meter.read, self.limits.read_bytes_max, Limit::ReadBytes)
    }

    /// Counts `bytes` as written.
    pub(crate) fn count_written(&mut self, bytes: usize) -> Result<(), Stop> {
        self.meter.written = self.meter.written.saturating_add(bytes as u64);
        self.meter.pending = self.meter.pending.saturating_add(bytes as u64 + WRITE_OVERHEAD_BYTES);
        match self.meter.task {
            Task::Single => within(self.meter.written, self.limits.write_bytes_max, Limit::WriteBytes),
            Task::Restore | Task::ReadAll => Ok(()),
        }
    }

    /// The way to whoever made this bulk call.
    pub(crate) fn line(&mut self) -> Result<&mut Line, Stop> {
        self.line.as_mut().ok_or_else(not_lent)
    }

    pub(crate) fn overlay(&self) -> Result<&Overlay, Stop> {
        self.overlay.as_ref().ok_or_else(not_lent)
    }

    /// The present command's writes.
    pub(crate) fn writes(&mut self) -> Result<&mut Layer, Stop> {
        self.overlay.as_mut().map(Overlay::command_mut).ok_or_else(not_lent)
    }

    /// The value of `key`, counted and paid for.
    pub(crate) fn value(&mut self, value: Option<Bytes>) -> Result<Option<Vec<u8>>, Stop> {
        let bytes = value.as_ref().map_or(0, Bytes::len);
        self.charge_bytes(bytes as u64)?;
        self.count_read(bytes)?;
        Ok(value.map(Vec::from))
    }

    /// A page of a scan, counted and paid for: by its bytes, or by all that the scan went through where that is more,
    /// such as keys that the entry deleted.
    pub(crate) fn scan(
        &mut self,
        range: &KeyRange,
        direction: Direction,
        bytes_max: usize,
    ) -> Result<Page, Stop> {
        let left = self.limits.read_bytes_max.saturating_sub(self.meter.read);
        let passed = Cell::new(0);
        let pairs = self.overlay()?.scan_counted(range, direction, &passed);
        let (page, bytes) = page::pack(pairs, direction, bytes_max.min(PAGE_BYTES_MAX), left)?;
        self.count_read(bytes)?;
        self.charge_bytes(passed.get().max(page.pairs.len() as u64))?;
        Ok(page)
    }

    /// Deletes the range, and pays for the pairs in it as a scan does: storage has to delete each.
    pub(crate) fn delete_range(&mut self, range: KeyRange) -> Result<(), Stop> {
        let fuel_left = self.meter.fuel_max.saturating_sub(self.meter.fuel);
        let passed = Cell::new(0);
        for pair in self.overlay()?.scan_counted(&range, Direction::Ascending, &passed) {
            pair?;
            within(self.byte_cost(passed.get()), fuel_left, Limit::Fuel)?;
        }
        self.charge_bytes(passed.get())?;
        self.writes()?.delete_range(range);
        Ok(())
    }

    /// In bulk calls: hands what was written to the target once it is much. Reads go on over the flushed state.
    pub(crate) fn flush_if_large(&mut self) -> Result<(), Stop> {
        if self.line.is_some() && self.meter.pending > FLUSH_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Stop> {
        self.meter.pending = 0;
        let mut overlay = self.overlay.take().ok_or_else(not_lent)?;
        overlay.accept();
        let line = self.line.as_mut().ok_or_else(not_lent)?;
        self.overlay = Some(Overlay::new(line.flush(overlay.into_layer())?));
        Ok(())
    }
}

/// No guest holds a handle outside a call that lends it one.
fn not_lent() -> Stop {
    Stop::Fault(LocalFault::Call("a host function was called with nothing lent".into()))
}

fn within(value: u64, max: u64, limit: Limit) -> Result<(), Stop> {
    if value > max { Err(Stop::Limit(limit)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use mortise_core::state::MemoryState;

    use super::*;

    fn guest(pairs: u32) -> Guest {
        let pair = |n: u32| (Bytes::from(n.to_be_bytes().to_vec()), Bytes::from_static(b"value"));
        let state: MemoryState = (0..pairs).map(pair).collect();
        let mut guest = Guest::new(Arc::new(Profile::default()));
        guest.overlay = Some(Overlay::new(Arc::new(state)));
        guest.start(Task::Single, guest.limits.fuel);
        guest
    }

    /// What a scan that finds nothing costs.
    fn empty_scan(guest: &mut Guest) -> u64 {
        let before = guest.meter.fuel;
        let page = guest.scan(&KeyRange::all(), Direction::Ascending, 100).unwrap();
        assert!(page.pairs.is_empty());
        guest.meter.fuel - before
    }

    #[test]
    fn keys_that_the_entry_deleted_cannot_be_scanned_for_free() {
        let mut by_range = guest(1000);
        by_range.delete_range(KeyRange::all()).unwrap();
        let deleting = by_range.meter.fuel;
        // 64 bytes for the step, 9 for the pair; 16 bytes a unit.
        assert_eq!(deleting, (1000u64 * 73).div_ceil(16));
        assert_eq!(empty_scan(&mut by_range), deleting);
        let mut one_by_one = guest(1000);
        for n in 0..1000u32 {
            one_by_one.writes().unwrap().delete(Bytes::from(n.to_be_bytes().to_vec()));
        }
        assert_eq!(empty_scan(&mut one_by_one), (1000u64 * (73 + 64)).div_ceil(16));
        assert_eq!(empty_scan(&mut guest(0)), 0);
    }

    #[test]
    fn deleting_a_range_stops_where_fuel_does() {
        let mut guest = guest(1000);
        guest.start(Task::Single, 100);
        assert!(matches!(guest.delete_range(KeyRange::all()), Err(Stop::Limit(Limit::Fuel))));
        assert!(guest.writes().unwrap().is_empty());
    }

    #[test]
    fn reading_is_bounded_for_a_call_or_in_bulk_for_a_host_call() {
        let big = || Some(Bytes::from(vec![0; 60 << 20]));
        for (task, passes) in [(Task::Single, false), (Task::Restore, false), (Task::ReadAll, true)] {
            let mut guest = guest(0);
            guest.start(task, u64::MAX);
            let twice = (0..2).all(|_| guest.charge_call(0).and_then(|()| guest.value(big())).is_ok());
            assert_eq!(twice, passes, "{task:?}");
            assert!(guest.value(big()).is_err(), "two large values in one host call");
        }
    }
}
