//! Links and the queueing disciplines at their root, as rtnetlink tells of them to anybody. What a discipline drops is in
//! no file: `tx_dropped` stays zero.

use std::collections::HashMap;
use std::io;

use crate::model::snapshot::net::Qdisc;
use crate::sys::netlink::{Family, attributes, dump, u32_at, u64_at};

/// Links and disciplines looked at.
const LINKS_MAX: usize = 1_000;

const RTM_GETLINK: u16 = 18;
const RTM_GETQDISC: u16 = 38;
/// Attributes of a link.
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_EXT_MASK: u16 = 29;
/// Leave out the counters, which are the most of an answer.
const SKIP_STATS: u32 = 1 << 3;
/// Attributes of a discipline.
const TCA_KIND: u16 = 1;
const TCA_STATS2: u16 = 7;
const TCA_STATS_BASIC: u16 = 1;
const TCA_STATS_QUEUE: u16 = 3;
const TCA_STATS_PKT64: u16 = 8;
/// Parents: at the root of what goes out, of what comes in.
const ROOT: u32 = 0xffff_ffff;
const INGRESS: u32 = 0xffff_fff1;

/// A link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mtu: u32,
}

/// Reads both.
pub(crate) fn read() -> io::Result<(Vec<Link>, Vec<Qdisc>)> {
    let mut links = Vec::new();
    // `ifinfomsg`, then what to leave out.
    let mut question = vec![0_u8; 16];
    question.extend(8_u16.to_ne_bytes());
    question.extend(IFLA_EXT_MASK.to_ne_bytes());
    question.extend(SKIP_STATS.to_ne_bytes());
    dump(Family::Route, RTM_GETLINK, &question, |_, body| {
        links.extend(link(body));
        links.len() < LINKS_MAX
    })?;
    let names: HashMap<u32, &str> = links.iter().map(|link| (link.index, link.name.as_str())).collect();
    let mut qdiscs = Vec::new();
    // `tcmsg`, all zero: of every link.
    dump(Family::Route, RTM_GETQDISC, &[0; 20], |_, body| {
        qdiscs.extend(qdisc(body, &names));
        qdiscs.len() < LINKS_MAX
    })?;
    Ok((links, qdiscs))
}

/// `ifinfomsg` with attributes.
fn link(body: &[u8]) -> Option<Link> {
    let index = u32_at(body, 4)?;
    let (mut name, mut mtu) = (None, None);
    for (kind, value) in attributes(body.get(16..)?) {
        match kind {
            IFLA_IFNAME => name = Some(text(value)),
            IFLA_MTU => mtu = u32_at(value, 0),
            _ => {}
        }
    }
    Some(Link { index, name: name?, mtu: mtu? })
}

/// `tcmsg` with attributes. One that is not at a root is counted by its parents and left out.
fn qdisc(body: &[u8], names: &HashMap<u32, &str>) -> Option<Qdisc> {
    let interface = names.get(&u32_at(body, 4)?)?;
    let is_ingress = match u32_at(body, 12)? {
        ROOT => false,
        INGRESS => true,
        _ => return None,
    };
    let mut found = Qdisc { interface: (*interface).to_owned(), is_ingress, ..Qdisc::default() };
    for (kind, value) in attributes(body.get(20..)?) {
        match kind {
            TCA_KIND => found.kind = text(value),
            TCA_STATS2 => statistics(value, &mut found),
            _ => {}
        }
    }
    Some(found)
}

fn statistics(bytes: &[u8], qdisc: &mut Qdisc) {
    let mut packets = None;
    for (kind, value) in attributes(bytes) {
        match kind {
            // Bytes, then packets in 32 bits.
            TCA_STATS_BASIC if packets.is_none() => packets = u32_at(value, 8).map(u64::from),
            TCA_STATS_PKT64 => packets = u64_at(value, 0),
            // Packets waiting, bytes waiting, dropped, tried again, over a limit.
            TCA_STATS_QUEUE => {
                qdisc.backlog = u32_at(value, 4).map_or(0, u64::from);
                qdisc.drops = u32_at(value, 8).map_or(0, u64::from);
            }
            _ => {}
        }
    }
    qdisc.packets = packets.unwrap_or_default();
}

/// A text that ends with a zero.
fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::{Link, link, qdisc};

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// `tc -s qdisc` of a tbf on the link 7: 200 packets sent, 5,699 dropped, 5,000 bytes waiting.
    fn tbf(parent: u32) -> Vec<u8> {
        let mut body = vec![0; 4];
        for word in [7_u32, 0x8001_0000, parent, 2] {
            body.extend(word.to_ne_bytes());
        }
        let mut basic = 290_000_u64.to_ne_bytes().to_vec();
        basic.extend(200_u32.to_ne_bytes());
        basic.extend([0; 4]);
        let queue: Vec<u8> = [5_u32, 5_000, 5_699, 0, 12_000].into_iter().flat_map(u32::to_ne_bytes).collect();
        body.extend(attribute(1, b"tbf\0"));
        body.extend(attribute(7, &[attribute(1, &basic), attribute(3, &queue)].concat()));
        body
    }

    #[test]
    fn what_a_discipline_dropped_is_counted_once() {
        let names = HashMap::from([(7, "veth0")]);
        let found = qdisc(&tbf(0xffff_ffff), &names).expect("a root");
        assert_eq!((found.interface.as_str(), found.kind.as_str(), found.is_ingress), ("veth0", "tbf", false));
        assert_eq!((found.packets, found.drops, found.backlog), (200, 5_699, 5_000));
        assert!(qdisc(&tbf(0xffff_fff1), &names).expect("of what comes in").is_ingress);
        // Below the root, of a link that went meanwhile.
        assert_eq!(qdisc(&tbf(0x8001_0001), &names), None);
        assert_eq!(qdisc(&tbf(0xffff_ffff), &HashMap::new()), None);
    }

    #[test]
    fn a_link_has_a_name_and_a_size() {
        let mut body = vec![0; 4];
        body.extend(4_u32.to_ne_bytes());
        body.extend([0; 8]);
        body.extend(attribute(3, b"eth0\0"));
        body.extend(attribute(4, &1400_u32.to_ne_bytes()));
        assert_eq!(link(&body), Some(Link { index: 4, name: "eth0".to_owned(), mtu: 1400 }));
        assert_eq!(link(&body[..20]), None);
    }

    proptest! {
        #[test]
        fn no_answer_is_a_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (link(&body), qdisc(&body, &HashMap::from([(0, "lo")])));
        }

        #[test]
        fn a_damaged_answer_is_no_panic(at in 0..84_usize, byte in any::<u8>(), end in 0..=84_usize) {
            let mut body = tbf(0xffff_ffff);
            body.resize(84, 0);
            body[at] = byte;
            let _ = (link(&body[..end]), qdisc(&body[..end], &HashMap::from([(7, "veth0")])));
        }
    }
}
