//! Memory: meminfo, vmstat, pressure, and what the allocator, the kernel's caches and memory controllers say.

use std::path::Path;

use crate::model::snapshot::memory::{Arc, Controller, Memory, Segment, Slab};
use crate::model::snapshot::{Counters, Field};
use crate::probe::{PAGE, Roots, counters, field, number, pressure, read_dir, read_text, say};

/// /proc/slabinfo takes the kernel a millisecond or more, so it is read only where its memory is more than one in this
/// many bytes of RAM.
const SLAB_SHARE: u64 = 100;
/// Caches kept, the largest.
const SLABS_MAX: usize = 10;
/// System V segments kept.
const SEGMENTS_MAX: usize = 10;
/// Memory controllers read.
const CONTROLLERS_MAX: usize = 64;

/// Reads it.
pub(crate) fn read(roots: &Roots) -> Memory {
    let meminfo = meminfo_of(roots);
    Memory {
        segments: field(&roots.proc.join("sysvipc/shm"), segments),
        vmstat: field(&roots.proc.join("vmstat"), counters),
        pressure: field(&roots.proc.join("pressure/memory"), pressure),
        overcommit: field(&roots.proc.join("sys/vm/overcommit_memory"), |text| text.trim().parse().ok()),
        huge_pages: field(&roots.sys.join("kernel/mm/transparent_hugepage/enabled"), chosen),
        negative_dentries: field(&roots.proc.join("sys/fs/dentry-state"), |text| {
            text.split_ascii_whitespace().nth(4)?.parse().ok()
        }),
        free_blocks: field(&roots.proc.join("buddyinfo"), free_blocks),
        slabs: slabs(roots, &meminfo),
        controllers: controllers(&roots.sys.join("devices/system/edac/mc")),
        arc: read_text(roots.proc.join("spl/kstat/zfs/arcstats")).ok().and_then(|text| arc(&text)),
        watermark_scale: number(&roots.proc.join("sys/vm/watermark_scale_factor")),
        meminfo,
    }
}

/// /proc/meminfo alone.
pub(crate) fn meminfo_of(roots: &Roots) -> Field<Counters> {
    field(&roots.proc.join("meminfo"), meminfo)
}

/// Sizes in bytes; counts (`HugePages_Total`) as they are.
fn meminfo(text: &str) -> Option<Counters> {
    let pair = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let mut words = rest.split_ascii_whitespace();
        let number: u64 = words.next()?.parse().ok()?;
        let factor = if words.next() == Some("kB") { 1024 } else { 1 };
        Some((name.to_owned(), number.checked_mul(factor)?))
    };
    let found: Counters = text.lines().filter_map(pair).collect();
    found.contains_key("MemTotal").then_some(found)
}

/// `always [madvise] never`.
fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(word, _)| word.to_owned())
}

/// `Node 0, zone   Normal  30574  27856 ...`: one number an order.
fn free_blocks(text: &str) -> Option<Vec<u64>> {
    let mut sum: Vec<u64> = Vec::new();
    for line in text.lines() {
        let Some((_, zone)) = line.split_once("zone ") else { continue };
        let orders = zone.split_ascii_whitespace().skip(1).map(|word| word.parse::<u64>().unwrap_or_default());
        for (at, count) in orders.enumerate() {
            match sum.get_mut(at) {
                Some(all) => *all = all.saturating_add(count),
                None => sum.push(count),
            }
        }
    }
    (!sum.is_empty()).then_some(sum)
}

fn slabs(roots: &Roots, meminfo: &Field<Counters>) -> Field<Vec<Slab>> {
    let path = roots.proc.join("slabinfo");
    let size = |name: &str| meminfo.known().and_then(|info| info.get(name).copied()).unwrap_or_default();
    if size("SUnreclaim") < size("MemTotal") / SLAB_SHARE {
        return Field::unavailable(path.display().to_string(), "not looked at: the caches are small");
    }
    field(&path, slabinfo)
}

/// `NAME ACTIVE OBJECTS SIZE PER_SLAB PAGES_PER_SLAB : tunables ... : slabdata ACTIVE_SLABS SLABS SHARED`.
fn slabinfo(text: &str) -> Option<Vec<Slab>> {
    let slab = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let name = words.next()?.to_owned();
        let pages: u64 = words.nth(4)?.parse().ok()?;
        let (_, data) = line.split_once("slabdata")?;
        let count: u64 = data.split_ascii_whitespace().nth(1)?.parse().ok()?;
        Some(Slab { name, bytes: count.checked_mul(pages)?.checked_mul(PAGE)? })
    };
    if !text.starts_with("slabinfo") {
        return None;
    }
    let mut found: Vec<Slab> = text.lines().filter_map(slab).collect();
    found.sort_by_key(|slab| std::cmp::Reverse(slab.bytes));
    found.truncate(SLABS_MAX);
    Some(found)
}

/// One folder a controller; none at all where the machine has no memory that tells.
fn controllers(folder: &Path) -> Field<Vec<Controller>> {
    let entries = match read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return Field::unavailable(folder.display().to_string(), say(&error)),
    };
    let controller = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().ok().filter(|name| name.starts_with("mc"))?;
        let corrected = number(&entry.path().join("ce_count"))?;
        Some(Controller { name, corrected, uncorrected: number(&entry.path().join("ue_count"))? })
    };
    let mut found: Vec<Controller> = entries.flatten().filter_map(controller).take(CONTROLLERS_MAX).collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    match found.is_empty() {
        true => Field::unavailable(folder.display().to_string(), "no memory controller"),
        false => Field::Known(found),
    }
}

/// `NAME TYPE VALUE` lines after two of a heading.
fn arc(text: &str) -> Option<Arc> {
    let value = |name: &str| {
        let of = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            (words.next()? == name).then(|| words.nth(1)?.parse().ok()).flatten()
        };
        text.lines().find_map(of)
    };
    Some(Arc { size: value("size")?, least: value("c_min").unwrap_or_default() })
}

/// /proc/sysvipc/shm: a line of names, then one a segment.
fn segments(text: &str) -> Option<Vec<Segment>> {
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next()?.split_ascii_whitespace().collect();
    let column = |name: &str| names.iter().position(|one| *one == name);
    let (id, creator, attached) = (column("shmid")?, column("cpid")?, column("nattch")?);
    // Kernels before 2.6.34 do not say what is in memory.
    let bytes = column("rss").or_else(|| column("size"))?;
    let segment = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        Some(Segment {
            id: words.get(id)?.parse().ok()?,
            bytes: words.get(bytes)?.parse().ok()?,
            attached: words.get(attached)?.parse().ok()?,
            creator: words.get(creator)?.parse().ok()?,
        })
    };
    let mut all: Vec<Segment> = lines.filter_map(segment).collect();
    all.sort_by_key(|segment| (std::cmp::Reverse(segment.bytes), segment.id));
    all.truncate(SEGMENTS_MAX);
    Some(all)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{arc, chosen, free_blocks, meminfo, slabinfo};
    use crate::model::snapshot::memory::Arc;

    /// Linux 6.18.
    const BUDDY: &str = "Node 0, zone      DMA      0      0      0      0      0      0      0      0      1      1      3 \n\
        Node 0, zone    DMA32      1      1      4      2      5      4      3      3      4      2    752 \n\
        Node 0, zone   Normal  30574  27856   7903   3034   1629    864   1206   1022    702    633   1136 \n";
    const SLABS: &str = "slabinfo - version: 2.1\n\
        # name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>\n\
        bio-312               12     12    320   12    1 : tunables    0    0    0 : slabdata      1      1      0\n\
        dentry            685958 686000    192   21    1 : tunables    0    0    0 : slabdata  32666  32666      0\n";

    /// OpenZFS 2.2, shortened.
    const ARC: &str = "9 1 0x01 147 39984 3841937120 1093184398437\n\
        name                            type data\n\
        hits                            4    1093184\n\
        c_min                           4    2147483648\n\
        size                            4    53687091200\n\
        l2_size                         4    7\n";

    #[test]
    fn files_are_read_as_the_kernel_writes_them() {
        assert_eq!(arc(ARC), Some(Arc { size: 50 << 30, least: 2 << 30 }));
        assert_eq!(arc("name type data\nc_min 4 1\n"), None);
        let blocks = free_blocks(BUDDY).expect("buddyinfo");
        assert_eq!((blocks.len(), blocks[0], blocks[10]), (11, 30575, 1891));
        let slabs = slabinfo(SLABS).expect("slabinfo");
        assert_eq!((slabs[0].name.as_str(), slabs[0].bytes), ("dentry", 32_666 * 4096));
        assert_eq!(chosen("always [madvise] never\n").as_deref(), Some("madvise"));
        let info = meminfo("MemTotal:       24684084 kB\nHugePages_Total:       3\n").expect("meminfo");
        assert_eq!((info["MemTotal"], info["HugePages_Total"]), (24_684_084 * 1024, 3));
        assert_eq!(meminfo("MemFree: 1 kB\n"), None);
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in any::<String>(), at in 0..300_usize, byte in any::<char>()) {
            let _ = (free_blocks(&text), slabinfo(&text), chosen(&text), meminfo(&text), arc(&text));
            for real in [BUDDY, SLABS] {
                let changed: String =
                    real.chars().enumerate().map(|(here, c)| if here == at { byte } else { c }).collect();
                let _ = (free_blocks(&changed), slabinfo(&changed), meminfo(&changed));
            }
        }
    }
}
