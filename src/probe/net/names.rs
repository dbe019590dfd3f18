//! Addresses of a host: its number, /etc/hosts, then the nameservers of resolv.conf, as RFC 1035 says. Not by the C library:
//! linked statically it would load the machine's modules for names (NSS) into this process.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::sys::beneath;

/// As the C library: what follows is not used.
const NAMESERVERS_MAX: usize = 3;
/// Longest list of hosts or nameservers that is read.
const FILE_MAX: u64 = 1 << 20;
/// Types of records.
pub(crate) const A: u16 = 1;
pub(crate) const AAAA: u16 = 28;

/// What resolv.conf and hosts say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resolver {
    pub(crate) nameservers: Vec<SocketAddr>,
    /// Domains in which a name without dots is looked for.
    search: Vec<String>,
    hosts: String,
}

impl Resolver {
    /// Reads them below a folder `etc`; without nameservers this machine is asked, as the C library does.
    pub(crate) fn read(etc: &Path) -> Self {
        let text = |name| beneath::read_text(&etc.join(name), FILE_MAX).unwrap_or_default();
        Self::parse(&text("resolv.conf"), text("hosts"))
    }

    pub(crate) fn parse(text: &str, hosts: String) -> Self {
        let mut found = Self { hosts, ..Self::default() };
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") if found.nameservers.len() < NAMESERVERS_MAX => {
                    let address = words.next().and_then(|word| word.parse().ok());
                    found.nameservers.extend(address.map(|address| SocketAddr::new(address, 53)));
                }
                // The last one counts.
                Some("search" | "domain") => found.search = words.map(str::to_owned).collect(),
                _ => {}
            }
        }
        if found.nameservers.is_empty() {
            found.nameservers.push(SocketAddr::from(([127, 0, 0, 1], 53)));
        }
        found
    }

    /// All addresses of a host, those of version 4 first; each question is given so long.
    pub(crate) fn addresses(&self, host: &str, patience: Duration) -> io::Result<Vec<IpAddr>> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let listed: BTreeSet<IpAddr> = in_hosts(&self.hosts, host).collect();
        if !listed.is_empty() {
            return Ok(listed.into_iter().collect());
        }
        let searched = self.search.iter().filter(|_| !host.contains('.')).map(|domain| format!("{host}.{domain}"));
        let mut last = io::Error::other("no address");
        for name in searched.chain([host.to_owned()]) {
            for server in &self.nameservers {
                let mut found = Vec::new();
                for kind in [A, AAAA] {
                    match ask(*server, &name, kind, patience) {
                        Ok(answer) if answer.code == 0 => found.extend(answer.addresses),
                        Ok(answer) => last = answer.error(),
                        Err(error) => last = error,
                    }
                }
                if !found.is_empty() {
                    return Ok(found);
                }
            }
        }
        Err(last)
    }
}

pub(crate) fn in_hosts<'a>(text: &'a str, host: &'a str) -> impl Iterator<Item = IpAddr> + 'a {
    text.lines().filter_map(move |line| {
        let line = line.split('#').next()?;
        let mut words = line.split_ascii_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|name| name.eq_ignore_ascii_case(host)).then_some(address)
    })
}

/// What a nameserver answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// 0: found.
    pub(crate) code: u8,
    addresses: Vec<IpAddr>,
}

impl Answer {
    /// For people, where the code is not 0.
    pub(crate) fn error(&self) -> io::Error {
        match self.code {
            2 => io::Error::other("answers SERVFAIL"),
            3 => io::Error::other("does not exist"),
            5 => io::Error::other("answers REFUSED"),
            code => io::Error::other(format!("answers with error {code}")),
        }
    }
}

/// Asks one nameserver for the addresses of version 4 of a name.
pub(crate) fn ask_for_address(server: SocketAddr, name: &str, patience: Duration) -> io::Result<Answer> {
    ask(server, name, A, patience)
}

fn ask(server: SocketAddr, name: &str, kind: u16, patience: Duration) -> io::Result<Answer> {
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(patience))?;
    let id = RandomState::new().hash_one(name) as u16;
    socket.send(&question(id, name, kind))?;
    let mut bytes = [0; 1500];
    let deadline = Instant::now() + patience;
    loop {
        let count = socket.recv(&mut bytes)?;
        if let Some(answer) = answer(&bytes[..count], id, kind) {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

/// A query for records of a type (class IN), recursion wanted.
fn question(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(63)];
        bytes.push(label.len() as u8);
        bytes.extend(label);
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    bytes
}

/// The answer to our question; nothing where it is not one.
pub(crate) fn answer(bytes: &[u8], id: u16, kind: u16) -> Option<Answer> {
    let is_ours = bytes.get(..2)? == id.to_be_bytes() && bytes.get(2)? & 0x80 != 0;
    let code = is_ours.then_some(*bytes.get(3)? & 0x0f)?;
    let mut addresses = Vec::new();
    // What is cut off or makes no sense ends the list.
    let _ = read_records(bytes, kind, &mut addresses);
    Some(Answer { code, addresses })
}

fn read_records(bytes: &[u8], kind: u16, addresses: &mut Vec<IpAddr>) -> Option<()> {
    let number = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let (questions, answers) = (number(4)?, number(6)?);
    let mut at = 12;
    for _ in 0..questions {
        at = after_name(bytes, at)? + 4;
    }
    for _ in 0..answers {
        at = after_name(bytes, at)?;
        let length = number(at + 8)? as usize;
        let data = bytes.get(at + 10..at + 10 + length)?;
        match (number(at)?, length) {
            (A, 4) if kind == A => addresses.push(IpAddr::from(<[u8; 4]>::try_from(data).ok()?)),
            (AAAA, 16) if kind == AAAA => addresses.push(IpAddr::from(<[u8; 16]>::try_from(data).ok()?)),
            // Other names of it (CNAME): their records follow.
            _ => {}
        }
        at += 10 + length;
    }
    Some(())
}

/// Where a name ends: at an empty label, or after a pointer to the rest of it.
fn after_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};
    use std::path::Path;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{A, AAAA, Answer, Resolver, answer, question};

    #[test]
    fn nameservers_are_those_the_c_library_would_ask() {
        let text = "# nameserver 9.9.9.9\nsearch a\nnameserver 10.0.0.2\nnameserver ::1\noptions ndots:5\nsearch b c\n";
        let expected: Vec<SocketAddr> = vec!["10.0.0.2:53".parse().expect("one"), "[::1]:53".parse().expect("two")];
        let resolver = Resolver::parse(text, String::new());
        assert_eq!((resolver.nameservers, resolver.search), (expected, vec!["b".to_owned(), "c".to_owned()]));
        assert_eq!(Resolver::parse("", String::new()).nameservers.len(), 1);
        assert_eq!(Resolver::parse(&"nameserver 1.1.1.1\n".repeat(9), String::new()).nameservers.len(), 3);
    }

    #[test]
    fn a_question_is_as_rfc_1035_says() {
        let expected = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01";
        assert_eq!(question(0x1234, "example.com", A), expected);
        let refused = answer(&[0x12, 0x34, 0x81, 0x83], 0x1234, A).expect("an answer");
        assert_eq!((refused.code, refused.error().to_string().as_str()), (3, "does not exist"));
        // The question itself, and the answer to another.
        assert_eq!((answer(expected, 0x1234, A), answer(&[0, 0, 0x81, 0], 0x1234, A)), (None, None));
    }

    #[test]
    fn addresses_are_read_behind_other_names() {
        // www.example.com is an alias of a.example.com, which has two addresses; names by pointers.
        let mut bytes = b"\x12\x34\x81\x80\x00\x01\x00\x03\x00\x00\x00\x00".to_vec();
        bytes.extend(b"\x03www\x07example\x03com\x00\x00\x01\x00\x01");
        bytes.extend(b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x04\x01a\xc0\x10");
        bytes.extend(b"\x01a\xc0\x10\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x00\x00\x01");
        bytes.extend(b"\xc0\x2d\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x00\x00\x02");
        let addresses: Vec<IpAddr> = vec!["10.0.0.1".parse().expect("one"), "10.0.0.2".parse().expect("two")];
        assert_eq!(answer(&bytes, 0x1234, A), Some(Answer { code: 0, addresses: addresses.clone() }));
        assert_eq!(answer(&bytes, 0x1234, AAAA), Some(Answer { code: 0, addresses: vec![] }));
        let cut = answer(&bytes[..bytes.len() - 1], 0x1234, A).expect("an answer");
        assert_eq!(cut.addresses, addresses[..1]);
    }

    #[test]
    fn numbers_and_the_hosts_file_need_no_nameserver() {
        let etc = tempfile::tempdir().expect("a folder");
        std::fs::write(etc.path().join("hosts"), "127.0.0.1 localhost # here\n::1 localhost\n10.1.1.1 Db db.lan\n")
            .expect("written");
        let find = |host: &str| {
            let found =
                Resolver { nameservers: vec![], ..Resolver::read(etc.path()) }.addresses(host, Duration::from_secs(1));
            found.map(|all| all.iter().map(IpAddr::to_string).collect::<Vec<_>>()).map_err(|error| error.to_string())
        };
        assert_eq!(find("localhost"), Ok(vec!["127.0.0.1".to_owned(), "::1".to_owned()]));
        assert_eq!(find("db"), Ok(vec!["10.1.1.1".to_owned()]));
        assert_eq!(find("::2"), Ok(vec!["::2".to_owned()]));
        assert_eq!(find("here"), Err("no address".to_owned()));
        assert_eq!(Resolver::read(Path::new("/nowhere")).nameservers.len(), 1);
    }

    proptest! {
        #[test]
        fn no_text_and_no_answer_is_a_panic(text in any::<String>(), mut bytes in proptest::collection::vec(any::<u8>(), 4..80)) {
            let _ = (Resolver::parse(&text, text.clone()), question(0, &text, A));
            bytes[..4].copy_from_slice(&[0, 0, 0x81, 0]);
            prop_assert!(answer(&bytes, 0, AAAA).is_some());
        }
    }
}
