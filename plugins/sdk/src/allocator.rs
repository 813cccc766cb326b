//! The component's allocator: lists of free blocks, by size.
//!
//! ```text
//!   size up to 1,024 ─▶ rounded up to 16 ─▶ the size's list ─▶ else cut from the arena ─▶ else a new arena
//!   larger           ─▶ the standard library's allocator
//! ```
//! A command makes some ten small allocations and frees them at once. A list makes that ten instructions each, where
//! the standard allocator takes hundreds. The first arena is what the linker leaves between the data and the end of
//! memory, so that a fresh instance that applies a few small commands need not grow its memory at all.
//!
//! A freed block stays in its size's list. So what is lost is, for each size, at most what was once in use of it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr::{self, null_mut};

/// Blocks are multiples of this, and aligned to it.
const STEP: usize = 16;
/// The largest block that has a list.
const SMALL_BYTES_MAX: usize = 1024;
/// Bytes of an arena after the first: a quarter of a WebAssembly page.
const ARENA_BYTES: usize = 16 << 10;

/// See the module.
pub(crate) struct Allocator {
    lists: UnsafeCell<Lists>,
}

/// Invariant: a list of class n holds blocks of n times [`STEP`] bytes that nobody uses; each begins with the address
/// of the next.
struct Lists {
    free: [*mut Block; SMALL_BYTES_MAX / STEP + 1],
    /// What is left of the arena.
    arena: *mut u8,
    arena_bytes: usize,
    /// Gives the first arena, once.
    first: Option<fn() -> (*mut u8, usize)>,
}

struct Block {
    next: *mut Block,
}

// SAFETY: a component has one thread.
#[cfg(target_arch = "wasm32")]
unsafe impl Sync for Allocator {}

impl Allocator {
    pub(crate) const fn new(first: fn() -> (*mut u8, usize)) -> Self {
        let free = [null_mut(); SMALL_BYTES_MAX / STEP + 1];
        let lists = Lists { free, arena: null_mut(), arena_bytes: 0, first: Some(first) };
        Self { lists: UnsafeCell::new(lists) }
    }
}

/// The list for a layout; none where it is too large, or aligned to more than blocks are.
fn class(layout: &Layout) -> Option<usize> {
    (layout.size() <= SMALL_BYTES_MAX && layout.align() <= STEP).then(|| layout.size().div_ceil(STEP))
}

impl Lists {
    /// A block of `class` from the arena, or from a new arena.
    fn cut(&mut self, class: usize) -> *mut u8 {
        let bytes = class * STEP;
        if bytes > self.arena_bytes {
            // What is left of the old arena is lost; it is smaller than the largest block.
            // SAFETY: the layout is not empty, and STEP is a power of two.
            let arena = unsafe { System.alloc(Layout::from_size_align_unchecked(ARENA_BYTES, STEP)) };
            if arena.is_null() {
                return null_mut();
            }
            (self.arena, self.arena_bytes) = (arena, ARENA_BYTES);
        }
        let block = self.arena;
        // SAFETY: `bytes` are left from `arena` on.
        self.arena = unsafe { block.add(bytes) };
        self.arena_bytes -= bytes;
        block
    }

    /// Before memory first grows: what lies behind the data.
    #[cold]
    fn begin(&mut self, first: fn() -> (*mut u8, usize)) {
        (self.arena, self.arena_bytes) = first();
        self.first = None;
    }
}

// SAFETY: a block is handed out to one caller at a time: it is cut from the arena once, and comes back to its list only
// by `dealloc`. Its size is at least the layout's, its alignment 16. Larger layouts go to `System`, both ways, since
// `class` depends on the layout alone.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: one thread, and nothing below calls back into this allocator.
        let lists = unsafe { &mut *self.lists.get() };
        if let Some(first) = lists.first {
            lists.begin(first);
        }
        let Some(class) = class(&layout) else {
            // SAFETY: the caller's promises are those that `System` asks for.
            return unsafe { System.alloc(layout) };
        };
        let block = lists.free[class];
        if block.is_null() {
            return lists.cut(class);
        }
        // SAFETY: a block in a list begins with the address of the next.
        lists.free[class] = unsafe { (*block).next };
        block.cast()
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(class) = class(&layout) else {
            // SAFETY: the caller's promises are those that `System` asks for.
            return unsafe { System.dealloc(block, layout) };
        };
        // SAFETY: one thread, and nothing below calls back into this allocator.
        let lists = unsafe { &mut *self.lists.get() };
        let block: *mut Block = block.cast();
        // SAFETY: the block is the list's from here on, and has room for an address: no layout is empty.
        unsafe { (*block).next = lists.free[class] };
        lists.free[class] = block;
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that `size` is a layout's.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (class(&layout), class(&new)) {
            // SAFETY: the caller's promises are those that `System` asks for.
            (None, None) => unsafe { System.realloc(block, layout, size) },
            (old, new) if old == new => block,
            _ => {
                // SAFETY: both blocks have at least the smaller size, and are not the same one.
                unsafe {
                    let target = self.alloc(new);
                    if !target.is_null() {
                        ptr::copy_nonoverlapping(block, target, layout.size().min(size));
                        self.dealloc(block, layout);
                    }
                    target
                }
            }
        }
    }
}

/// What the linker leaves between the data and the end of memory. The standard allocator never touches it: it grows
/// memory for all it needs.
#[cfg(target_arch = "wasm32")]
pub(crate) fn behind_data() -> (*mut u8, usize) {
    unsafe extern "C" {
        static mut __heap_base: u8;
    }
    let start = &raw mut __heap_base;
    let padding = start.addr().next_multiple_of(STEP) - start.addr();
    let bytes = (core::arch::wasm32::memory_size(0) << 16).saturating_sub(start.addr() + padding);
    (start.wrapping_add(padding), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> (*mut u8, usize) {
        (null_mut(), 0)
    }

    #[test]
    fn blocks_in_use_never_overlap_and_keep_what_was_written() {
        let allocator = Allocator::new(nothing);
        let mut random = 7u64;
        let mut next = |bound: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % bound
        };
        let mut used: Vec<(*mut u8, Layout, u8)> = Vec::new();
        for step in 0..20_000u32 {
            let mark = step as u8;
            match next(3) {
                0 if !used.is_empty() => {
                    let (block, layout, mark) = used.swap_remove(next(used.len() as u64) as usize);
                    check(block, layout.size(), mark);
                    unsafe { allocator.dealloc(block, layout) };
                }
                1 if !used.is_empty() => {
                    let at = next(used.len() as u64) as usize;
                    let (block, layout, mark) = used[at];
                    let size = 1 + next(1500) as usize;
                    let block = unsafe { allocator.realloc(block, layout, size) };
                    check(block, size.min(layout.size()), mark);
                    unsafe { block.write_bytes(mark, size) };
                    used[at] = (block, Layout::from_size_align(size, layout.align()).unwrap(), mark);
                }
                _ => {
                    let size = 1 + next(1500) as usize;
                    let layout = Layout::from_size_align(size, 1 << next(7)).unwrap();
                    let block = unsafe { allocator.alloc(layout) };
                    assert_eq!(block.addr() % layout.align(), 0);
                    unsafe { block.write_bytes(mark, size) };
                    used.push((block, layout, mark));
                }
            }
        }
        for (block, layout, mark) in used {
            check(block, layout.size(), mark);
            unsafe { allocator.dealloc(block, layout) };
        }
    }

    fn check(block: *mut u8, size: usize, mark: u8) {
        let bytes = unsafe { std::slice::from_raw_parts(block, size) };
        assert!(bytes.iter().all(|byte| *byte == mark));
    }

    #[test]
    fn a_freed_block_is_used_again() {
        let allocator = Allocator::new(nothing);
        let layout = Layout::from_size_align(100, 8).unwrap();
        unsafe {
            let first = allocator.alloc(layout);
            allocator.dealloc(first, layout);
            assert_eq!(allocator.alloc(layout), first);
        }
    }
}
