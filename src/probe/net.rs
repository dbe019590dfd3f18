//! The network: counters of the protocols, sockets, interfaces.

use crate::model::snapshot::net::{Interface, Net, Traffic};
use crate::model::snapshot::{Counters, Field};
use crate::probe::{Roots, field};

/// Reads it.
pub(crate) fn read(roots: &Roots) -> Net {
    let net = roots.proc.join("net");
    let counters = match (field(&net.join("snmp"), tables), field(&net.join("netstat"), tables)) {
        (Field::Known(mut all), Field::Known(more)) => {
            all.extend(more);
            Field::Known(all)
        }
        (known @ Field::Known(_), _) => known,
        (_, other) => other,
    };
    Net { counters, sockets: field(&net.join("sockstat"), sockets), interfaces: field(&net.join("dev"), interfaces) }
}

/// Pairs of lines: `Tcp: NAMES` and `Tcp: VALUES`. Negative values are none.
fn tables(text: &str) -> Option<Counters> {
    let mut found = Counters::new();
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines.chunks_exact(2) {
        let (Some((group, names)), Some((same, values))) = (pair[0].split_once(':'), pair[1].split_once(':')) else {
            continue;
        };
        if group != same {
            continue;
        }
        for (name, value) in names.split_ascii_whitespace().zip(values.split_ascii_whitespace()) {
            if let Ok(value) = value.parse() {
                found.insert(format!("{group}.{name}"), value);
            }
        }
    }
    (!found.is_empty()).then_some(found)
}

/// `TCP: inuse 5 orphan 0`.
fn sockets(text: &str) -> Option<Counters> {
    let mut found = Counters::new();
    for line in text.lines() {
        let Some((group, rest)) = line.split_once(':') else { continue };
        let words: Vec<&str> = rest.split_ascii_whitespace().collect();
        for pair in words.chunks_exact(2) {
            if let Ok(value) = pair[1].parse() {
                found.insert(format!("{group}.{}", pair[0]), value);
            }
        }
    }
    (!found.is_empty()).then_some(found)
}

fn interfaces(text: &str) -> Option<Vec<Interface>> {
    let interface = |line: &str| {
        // Names may contain a colon (aliases): the numbers follow the last one.
        let (name, rest) = line.rsplit_once(':')?;
        let numbers: Vec<u64> = rest.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
        let traffic = |at: usize| {
            Some(Traffic {
                bytes: *numbers.get(at)?,
                packets: *numbers.get(at + 1)?,
                errors: *numbers.get(at + 2)?,
                drops: *numbers.get(at + 3)?,
            })
        };
        Some(Interface { name: name.trim().to_owned(), rx: traffic(0)?, tx: traffic(8)? })
    };
    Some(text.lines().filter_map(interface).collect())
}
