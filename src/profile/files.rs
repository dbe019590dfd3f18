//! What calls move: the kinds of values that a stack has of them, and the table of the files that they moved bytes of. The
//! same whether a call is seen by a tracepoint (`calls`) or by the preloaded library (`preload_session`).

use crate::model::profile::{Kind, List, Unit};

/// Files and descriptors in the table, those with the most bytes first.
const ROWS_MAX: usize = 200;
/// Kinds of values of calls, in this order.
pub(crate) const CALLS: [(&str, Unit); 6] = [
    ("read", Unit::Bytes),
    ("written", Unit::Bytes),
    ("received", Unit::Bytes),
    ("sent", Unit::Bytes),
    ("synced", Unit::Count),
    ("waited", Unit::Nanoseconds),
];
/// Columns of the table of files, in this order.
pub(crate) const COLUMNS: [(&str, Unit); 6] = [
    ("read", Unit::Bytes),
    ("written", Unit::Bytes),
    ("calls", Unit::Count),
    ("waited", Unit::Nanoseconds),
    ("syncs", Unit::Count),
    ("sync time", Unit::Nanoseconds),
];

/// The table of files, those with the most bytes and time of syncs first.
pub(crate) fn table(mut rows: Vec<(String, Vec<u64>)>) -> List {
    let columns = COLUMNS.iter().map(|(name, unit)| Kind { name: (*name).to_owned(), unit: *unit }).collect();
    let weight = |row: &[u64]| {
        [0, 1, 5].iter().filter_map(|at| row.get(*at)).fold(0, |sum: u64, more| sum.saturating_add(*more))
    };
    rows.sort_by_key(|(_, row)| std::cmp::Reverse(weight(row)));
    rows.truncate(ROWS_MAX);
    List { name: "files".to_owned(), of: "file".to_owned(), columns, rows }
}
