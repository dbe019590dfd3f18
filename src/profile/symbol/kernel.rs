//! Names of the kernel's functions from /proc/kallsyms, read once and only for the addresses that are asked for: the
//! list has 200,000 lines.

#![expect(clippy::disallowed_methods, reason = "kernel: /proc/kallsyms")]

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};

/// Longest distance of an address from the start of its function: beyond it the list has a hole.
const FUNCTION_MAX: u64 = 1 << 20;
/// Bytes that are read at once.
const BUFFER: usize = 256 << 10;

/// Names of addresses, which are in order. Nothing where the kernel hides its addresses.
pub(crate) fn names(addresses: &[u64]) -> Option<HashMap<u64, String>> {
    read(BufReader::with_capacity(BUFFER, File::open("/proc/kallsyms").ok()?), addresses)
}

pub(crate) fn read(mut text: impl BufRead, addresses: &[u64]) -> Option<HashMap<u64, String>> {
    // For each address the nearest function that no lower address lies between; the list is in no order.
    let mut best: Vec<(u64, String)> = vec![Default::default(); addresses.len()];
    let mut line = Vec::new();
    let mut is_hidden = true;
    while text.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
        if let Some((start, name)) = entry(&line) {
            is_hidden &= start == 0;
            let above = addresses.partition_point(|address| *address < start);
            if let Some(best) = best.get_mut(above).filter(|best| best.0 < start) {
                *best = (start, String::from_utf8_lossy(name).into_owned());
            }
        }
        line.clear();
    }
    if is_hidden {
        return None;
    }
    let mut names = HashMap::new();
    let mut nearest = (0, String::new());
    for (address, found) in addresses.iter().zip(best) {
        if found.0 > nearest.0 {
            nearest = found;
        }
        if !nearest.1.is_empty() && address - nearest.0 < FUNCTION_MAX {
            names.insert(*address, nearest.1.clone());
        }
    }
    Some(names)
}

/// `ffffffff81000000 T _stext\t[module]`: only code.
fn entry(line: &[u8]) -> Option<(u64, &[u8])> {
    let mut words = line.trim_ascii_end().split(|byte| byte.is_ascii_whitespace());
    let address = u64::from_str_radix(std::str::from_utf8(words.next()?).ok()?, 16).ok()?;
    let is_code = matches!(words.next()?, [b't' | b'T' | b'w' | b'W']);
    words.next().filter(|name| is_code && !name.is_empty()).map(|name| (address, name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::read;

    #[test]
    fn an_address_belongs_to_the_function_before_it() {
        let text = b"ff00 T a\nff80 t b\nff90 D data\nffc0 t c\t[mod]\nfe00 t low\n";
        let names = read(&text[..], &[0xff7f, 0xff80, 0xff9f, 0xffff, 0x90_0000]).expect("not hidden");
        let name = |address| names.get(&address).map(String::as_str);
        assert_eq!([name(0xff7f), name(0xff80), name(0xff9f)], [Some("a"), Some("b"), Some("b")]);
        assert_eq!([name(0xffff), name(0x90_0000)], [Some("c"), None]);
    }

    #[test]
    fn a_list_of_zeros_is_hidden() {
        assert_eq!(read(&b"0000 T a\n0000 T b\n"[..], &[5]), None);
    }

    proptest! {
        #[test]
        fn arbitrary_lists_are_read(text in prop::collection::vec(any::<u8>(), 0..300), mut at in prop::collection::vec(any::<u64>(), 0..5)) {
            at.sort_unstable();
            at.dedup();
            let _ = read(&text[..], &at);
        }
    }
}
