//! How wasmtime is set up: what may run, and what every setting that can change an outcome is pinned to.

use std::path::PathBuf;
use std::time::Duration;

use mortise_core::profile::Profile;
use wasmtime::{
    Config, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Strategy, WasmFeatures,
};

/// Native stack that a thread needs which calls a plugin: the most that a profile may grant to the guest, and as
/// much again for the host functions that run on top of it. It is what Rust gives a thread it spawns.
pub const NATIVE_STACK_BYTES_MIN: usize = 2 << 20;

const _: () = assert!(Profile::STACK_BYTES_CEILING as usize * 2 <= NATIVE_STACK_BYTES_MIN);

/// Core instances (modules) of one component. `wit-component` makes 3, componentize-py some 20.
const CORE_INSTANCES_PER_COMPONENT: u32 = 64;
/// Memories of one component: one language runtime each.
const MEMORIES_PER_COMPONENT: u32 = 4;
/// Tables of one component: `wit-component` adds one of its own to the language's.
const TABLES_PER_COMPONENT: u32 = 16;
/// Bytes at the start of a memory that are cleared by writing zeros when an instance ends, which is cheaper than
/// giving pages back and faulting them in again. A small guest's stack and data fit.
const MEMORY_KEEP_RESIDENT_BYTES: usize = 128 << 10;
/// The same for tables.
const TABLE_KEEP_RESIDENT_BYTES: usize = 4 << 10;
/// Memory slots that are kept mapped for the plugin they last served.
const WARM_SLOTS_MAX: u32 = 64;
/// Address space of a memory: all that 32 bits can address, so that compiled code needs no bounds checks.
const MEMORY_RESERVATION_BYTES: u64 = 4 << 30;
/// Address space behind a memory that traps, for accesses with a constant offset.
const MEMORY_GUARD_BYTES: u64 = 32 << 20;

/// Settings of a [`Runtime`](crate::Runtime). None of them can change what becomes of a command.
#[derive(Clone, Debug)]
pub struct RuntimeOptions {
    /// Folder for compiled components. It is made if missing; it must belong to this process's user and be closed
    /// to others (0700), since what lies in it is run. `None`: components are compiled each time.
    pub cache: Option<PathBuf>,
    /// Largest component that is looked at, in bytes. Default 32 MiB: a JavaScript or Python plugin has 12 to 18.
    pub component_bytes_max: usize,
    /// Longest a compilation may take. Default 30 s, several times what such a plugin takes on a small machine.
    pub compile_time_max: Duration,
    /// Instances that can live at once, for each stack size in use. A tenant has up to two (one for its writes,
    /// one for its reads), and one more while it is restored or migrated. Costs address space (4 GiB each), not
    /// memory. Default 1,024, minimum 4.
    pub pool_instances: u32,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        Self {
            cache: None,
            component_bytes_max: 32 << 20,
            compile_time_max: Duration::from_secs(30),
            pool_instances: 1024,
        }
    }
}

/// WebAssembly as plugins may use it. What is not listed is off: threads, relaxed SIMD, exceptions, GC, 64-bit
/// and multiple memories, and everything of the component model that is asynchronous.
fn features() -> WasmFeatures {
    WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::REFERENCE_TYPES
        | WasmFeatures::MULTI_VALUE
        | WasmFeatures::BULK_MEMORY
        | WasmFeatures::SIMD
        | WasmFeatures::FLOATS
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::TAIL_CALL
        | WasmFeatures::COMPONENT_MODEL
}

/// wasmtime's configuration for guests with `stack_bytes_max` of native stack.
pub(crate) fn config(options: &RuntimeOptions, stack_bytes_max: usize) -> Config {
    let mut config = Config::new();
    // What decides outcomes. First everything off, so that a feature new in a later wasmtime is off too.
    config.wasm_features(WasmFeatures::all(), false);
    config.wasm_features(features(), true);
    config.relaxed_simd_deterministic(true);
    config.cranelift_nan_canonicalization(true);
    config.consume_fuel(true);
    config.epoch_interruption(false);
    config.max_wasm_stack(stack_bytes_max);
    config.shared_memory(false);
    config.concurrency_support(false);
    // What decides cost.
    config.strategy(Strategy::Cranelift);
    config.cranelift_opt_level(OptLevel::Speed);
    // A compilation that runs away takes one core and no more.
    config.parallel_compilation(false);
    // Backtraces hold addresses, and nothing here may depend on them.
    config.wasm_backtrace_max_frames(None);
    config.generate_address_map(false);
    config.native_unwind_info(false);
    config.memory_init_cow(true);
    config.memory_reservation(MEMORY_RESERVATION_BYTES);
    config.memory_guard_size(MEMORY_GUARD_BYTES);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(options)));
    config
}

fn pool(options: &RuntimeOptions) -> PoolingAllocationConfig {
    let instances = options.pool_instances.max(4);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances);
    pool.total_core_instances(instances.saturating_mul(8).max(CORE_INSTANCES_PER_COMPONENT));
    pool.total_memories(instances);
    pool.total_tables(instances.saturating_mul(4).max(TABLES_PER_COMPONENT));
    pool.max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT);
    pool.max_memories_per_component(MEMORIES_PER_COMPONENT);
    pool.max_tables_per_component(TABLES_PER_COMPONENT);
    pool.max_memory_size(Profile::MEMORY_BYTES_CEILING as usize);
    pool.table_elements(Profile::TABLE_ELEMENTS_CEILING as usize);
    pool.linear_memory_keep_resident(MEMORY_KEEP_RESIDENT_BYTES);
    pool.table_keep_resident(TABLE_KEEP_RESIDENT_BYTES);
    pool.max_unused_warm_slots(WARM_SLOTS_MAX.min(instances));
    pool
}
