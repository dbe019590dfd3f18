//! The form of the memory that apm and the preloaded library share. Compiled into both: no imports, nothing but numbers.
//!
//! Words (below), a table of files, then the ring. The ring is mapped twice, one behind the other, so that no record is
//! ever cut in two. Positions in it are counted from the start and never wrap.
//!
//! A record begins with its stamp: position, length and state in one word. A stamp is right only at its own position in
//! its own lap, so old bytes never look like a record and nobody has to clear the ring. Producers reserve by moving
//! `TAIL`, stamp the place `CLAIMED`, write, stamp it `DONE`. The consumer follows with `HEAD`. Where a producer died
//! between these steps the consumer goes on behind the record (claimed) or at the next right stamp (not even that).

#![allow(dead_code, reason = "each of the two uses its part")]

/// The first word; the last digit is the version.
pub const MAGIC: u64 = 0x6170_6d2d_7269_6e31;

/// Words of the first page, by byte offset: what apm asks for.
pub const CAPACITY: usize = 8;
pub const FEATURES: usize = 16;
/// Mean of allocated bytes between two samples.
pub const HEAP_MEAN: usize = 24;
/// Mean of moved bytes between two calls with a stack.
pub const CALL_MEAN: usize = 32;
/// CPU time between two ticks.
pub const TICK_NS: usize = 40;
/// A call that takes longer has its stack recorded always.
pub const SLOW_NS: usize = 48;
/// Bytes of a stack that are copied at most.
pub const STACK_MAX: usize = 56;
/// Entries of the table of files.
pub const FILES: usize = 64;
/// What moves, each on a cache line of its own.
pub const TAIL: usize = 128;
pub const HEAD: usize = 192;
/// Records that found no room.
pub const LOST: usize = 256;
/// Sampled allocations that could not be remembered, and so are not reported.
pub const CROWDED: usize = 264;
pub const FILES_USED: usize = 320;

/// Bits of `FEATURES`.
pub const HEAP: u64 = 1;
pub const TICKS: u64 = 2;
pub const CALLS: u64 = 4;

/// Where the table of files begins: at a page also where pages have 64 KiB.
pub const FILE_TABLE: usize = 64 << 10;
/// Of an entry: process and descriptor, then calls, bytes and nanoseconds for each of the four classes.
pub const FILE_SIZE: usize = 128;
/// Reads, writes, syncs, connections.
pub const CLASSES: usize = 4;

/// Everything in the ring begins at a multiple of it.
pub const GRANULE: u64 = 16;
/// The words before a record's payload.
pub const RECORD: usize = 96;
/// Of one record, payload included.
pub const RECORD_MAX: usize = 64 << 10;

/// Words of a record, by byte offset.
pub const STAMP: usize = 0;
pub const PID: usize = 8;
pub const TID: usize = 12;
pub const AT: usize = 16;
pub const KIND: usize = 24;
pub const PAYLOAD: usize = 28;
pub const A: usize = 32;
pub const B: usize = 40;
pub const C: usize = 48;
pub const IP: usize = 56;
pub const SP: usize = 64;
pub const BP: usize = 72;
pub const D: usize = 80;

/// States of a record.
pub const CLAIMED: u64 = 1;
pub const DONE: u64 = 2;

/// Kinds of records and what their words mean.
/// A: parent, B: 1 if a new program began, 0 after a fork; payload: path of the program.
pub const STARTED: u32 = 1;
/// A: offset of the text, B: 1 if it is the last part; payload: of `/proc/self/maps`.
pub const MAPS: u32 = 2;
/// A: pointer, B: size; payload: stack. IP is the address to return to.
pub const ALLOC: u32 = 3;
/// A: pointer.
pub const FREE: u32 = 4;
/// A: ticks that were missed before this one; payload: stack. IP is where it was.
pub const TICK: u32 = 5;
/// A: entry of the table of files, above it the kind of call, in the top bit whether it was sampled by its bytes;
/// B: what the call returned, C: nanoseconds, D: descriptor; payload: stack. IP is the address to return to.
pub const CALL: u32 = 6;
/// A: entry of the table, B: descriptor; payload: what its link says.
pub const FILE: u32 = 7;
/// The program set a handler of its own for the signal of the ticks, which have ended.
pub const SIGNAL_TAKEN: u32 = 8;
/// It is about to end.
pub const ENDING: u32 = 9;
/// A: 1 if the environment names the library, B: 0 before the process becomes the program of the payload, 1 where that failed.
pub const EXEC: u32 = 10;

/// Kinds of calls.
pub const READ_CALL: u64 = 0;
pub const WRITE_CALL: u64 = 1;
pub const RECEIVE_CALL: u64 = 2;
pub const SEND_CALL: u64 = 3;
pub const SYNC_CALL: u64 = 4;
pub const CONNECT_CALL: u64 = 5;
pub const ACCEPT_CALL: u64 = 6;

/// The stamp of a record.
pub const fn stamp(position: u64, length: u64, state: u64) -> u64 {
    (position / GRANULE) << 16 | (length / GRANULE) << 2 | state
}
