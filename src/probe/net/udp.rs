//! UDP sockets, from the files that every kernel has: which wait to be read, which have lost something.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use crate::model::snapshot::Field;
use crate::model::snapshot::net::UdpSocket;
use crate::probe::field;

/// Sockets that are kept.
const KEPT: usize = 200;

/// Reads them.
pub(crate) fn read(net: &Path) -> Field<Vec<UdpSocket>> {
    let mut all = match field(&net.join("udp"), |text| Some(sockets(text))) {
        Field::Known(all) => all,
        unavailable => return unavailable,
    };
    // A kernel without IPv6 has no such file.
    all.extend(field(&net.join("udp6"), |text| Some(sockets(text))).known().cloned().unwrap_or_default());
    all.sort_by_key(|socket| std::cmp::Reverse((socket.drops, socket.queue)));
    all.truncate(KEPT);
    Field::Known(all)
}

/// `sl local_address rem_address st tx_queue:rx_queue tr:when retrnsmt uid timeout inode ref pointer drops`.
fn sockets(text: &str) -> Vec<UdpSocket> {
    text.lines().skip(1).filter_map(socket).filter(|socket| socket.drops > 0 || socket.queue > 0).collect()
}

fn socket(line: &str) -> Option<UdpSocket> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let (_, queue) = words.get(4)?.split_once(':')?;
    Some(UdpSocket {
        address: address(words.get(1)?)?.to_string(),
        queue: u64::from_str_radix(queue, 16).ok()?,
        drops: words.get(12)?.parse().ok()?,
        inode: words.get(9)?.parse().ok()?,
        uid: words.get(7)?.parse().ok()?,
    })
}

/// `0100007F:0035`: words of the address as numbers of this machine, then the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(address.get(8 * at..8 * at + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, place) in bytes.chunks_exact_mut(4).enumerate() {
                place.copy_from_slice(&word(at)?);
            }
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::sockets;

    /// From a machine with a 6.18 kernel.
    const UDP: &str = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops             
 2330: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 5125 2 0000000000000000 0         
 6231: 00000000:14E9 00000000:0000 07 00000000:00034500 00:00000000 00000000   109        0 20321 2 0000000000000000 15680      
";
    const UDP6: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
 6231: 00000000000000000000000001000000:14E9 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000   109        0 20322 2 0000000000000000 7
";

    #[test]
    fn sockets_that_lost_something_are_kept() {
        let found = sockets(UDP);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].address.as_str(), found[0].queue, found[0].drops), ("0.0.0.0:5353", 0x34500, 15_680));
        assert_eq!((found[0].inode, found[0].uid), (20_321, 109));
        let six = sockets(UDP6);
        assert_eq!((six[0].address.as_str(), six[0].drops), ("[::1]:5353", 7));
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in any::<String>()) {
            sockets(&text);
        }

        #[test]
        fn a_damaged_file_is_no_panic(at in 0..UDP6.len(), with in any::<char>()) {
            let mut text = UDP6.to_owned();
            text.replace_range(at..=at, &with.to_string());
            sockets(&text);
        }
    }
}
