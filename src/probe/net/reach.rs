//! Asks nameservers, proxies and hosts, each once, at the same time and with a limit. The only probe that sends something,
//! so only where it is asked for. Nothing secret is sent or kept: of a proxy only its host and port.

use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use crate::model::snapshot::Field;
use crate::model::snapshot::net::{Attempt, Reach};
use crate::probe::net::names::{self, Resolver};
use crate::probe::{Roots, say};

/// How long one step may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long all of it may take, from the start on.
const PATIENCE_ALL: Duration = Duration::from_secs(4);
/// Proxies and hosts that are asked.
const PROXIES_MAX: usize = 6;
/// See `PROXIES_MAX`.
const HOSTS_MAX: usize = 8;
/// Asked for where no host is given; reserved for documentation, answered everywhere.
const NAME: &str = "example.com";
/// Longest answer of a proxy that is read.
const ANSWER_MAX: usize = 4096;

/// What to ask.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    /// Hosts: `HOST`, `HOST:PORT` or a URL.
    pub(crate) hosts: Vec<String>,
    /// Variables of the environment that name a proxy, with their values.
    pub(crate) proxies: Vec<(String, String)>,
}

/// A place to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    host: String,
    port: u16,
    is_tls: bool,
    has_password: bool,
}

impl Target {
    /// Reads `HOST`, `HOST:PORT`, `[::1]:PORT` or a URL; what follows the host is left out.
    fn parse(text: &str, port: u16) -> Option<Self> {
        let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (scheme, rest));
        let place = rest.split(['/', '?', '#']).next()?;
        let (user, place) = place.rsplit_once('@').map_or((None, place), |(user, place)| (Some(user), place));
        let default = match scheme.to_ascii_lowercase().as_str() {
            "http" => 80,
            "https" => 443,
            "socks" | "socks4" | "socks4a" | "socks5" | "socks5h" => 1080,
            "" => port,
            _ => return None,
        };
        let (host, port) = match place.strip_prefix('[') {
            Some(six) => {
                let (host, rest) = six.split_once(']')?;
                host.parse::<Ipv6Addr>().ok()?;
                (host, rest.strip_prefix(':'))
            }
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
        if host.is_empty() || !host.bytes().all(is_name) {
            return None;
        }
        let port = port.filter(|port| !port.is_empty()).map_or(Some(default), |port| port.parse().ok())?;
        let is_tls = !scheme.eq_ignore_ascii_case("http");
        Some(Self { host: host.to_owned(), port, is_tls, has_password: user.is_some() })
    }

    fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Nameserver,
    Proxy,
    Host,
}

/// Questions that are on their way.
#[derive(Debug)]
pub(crate) struct Asked {
    started: Instant,
    names: Vec<(Kind, String)>,
    answers: mpsc::Receiver<(usize, Attempt)>,
}

/// Begins to ask: a thread for each question.
pub(crate) fn start(roots: &Roots, ask: &Ask) -> Asked {
    let (sender, answers) = mpsc::channel();
    let mut asked = Asked { started: Instant::now(), names: Vec::new(), answers };
    let mut begin = |kind: Kind, target: String, question: Box<dyn FnOnce() -> io::Result<String> + Send>| {
        let index = asked.names.len();
        asked.names.push((kind, target.clone()));
        let sender = sender.clone();
        // Where no thread can be had there is no answer either.
        let _ = std::thread::Builder::new().name("apm-reach".to_owned()).spawn(move || {
            let started = Instant::now();
            let attempt = match question() {
                Ok(steps) => Attempt { took_ms: Field::Known(started.elapsed().as_secs_f64() * 1e3), target, steps },
                Err(error) => {
                    Attempt { took_ms: Field::unavailable(target.clone(), why(&error)), target, ..Attempt::default() }
                }
            };
            // Nobody waits any longer: it came too late.
            let _ = sender.send((index, attempt));
        });
    };
    let targets: Vec<Target> = ask.hosts.iter().filter_map(|host| Target::parse(host, 443)).take(HOSTS_MAX).collect();
    let is_name = |target: &&Target| target.host.parse::<IpAddr>().is_err();
    let name = targets.iter().find(is_name).map_or(NAME, |target| &target.host).to_owned();
    let resolver = Arc::new(Resolver::read(&roots.etc));
    for server in resolver.nameservers.iter().copied() {
        let name = name.clone();
        begin(Kind::Nameserver, server.to_string(), Box::new(move || resolve_at(server, &name)));
    }
    let mut proxy = None;
    for (variable, value) in ask.proxies.iter().take(PROXIES_MAX) {
        let target = Target::parse(value.trim(), 80);
        let shown = target.as_ref().map_or_else(|| "(not understood)".to_owned(), Target::address);
        if variable.eq_ignore_ascii_case("https_proxy") {
            proxy = proxy.or_else(|| target.clone());
        }
        let resolver = Arc::clone(&resolver);
        begin(
            Kind::Proxy,
            format!("{variable} {shown}"),
            Box::new(move || match target {
                Some(target) => connect(&resolver, &target).map(|(_, steps)| steps),
                None => Err(io::Error::new(io::ErrorKind::InvalidInput, "is no address of a proxy")),
            }),
        );
    }
    for target in targets {
        let proxy = proxy.clone().filter(|_| target.is_tls);
        // A password is for the one program it was set for.
        if proxy.as_ref().is_none_or(|proxy| !proxy.has_password) {
            let resolver = Arc::clone(&resolver);
            begin(Kind::Host, target.address(), Box::new(move || reach(&resolver, &target, proxy.as_ref())));
        }
    }
    asked
}

impl Asked {
    /// What was answered; waits for the rest until the limit.
    pub(crate) fn finish(self) -> Reach {
        let silent = |target: &String| Attempt {
            target: target.clone(),
            took_ms: Field::unavailable(target.clone(), format!("no answer in {} s", PATIENCE_ALL.as_secs())),
            ..Attempt::default()
        };
        let mut all: Vec<Attempt> = self.names.iter().map(|(_, target)| silent(target)).collect();
        for _ in 0..all.len() {
            let left = PATIENCE_ALL.saturating_sub(self.started.elapsed());
            let Ok((index, attempt)) = self.answers.recv_timeout(left) else { break };
            if let Some(place) = all.get_mut(index) {
                *place = attempt;
            }
        }
        let mut reach = Reach::default();
        for ((kind, _), attempt) in self.names.iter().zip(all) {
            match kind {
                Kind::Nameserver => reach.nameservers.push(attempt),
                Kind::Proxy => reach.proxies.push(attempt),
                Kind::Host => reach.hosts.push(attempt),
            }
        }
        reach
    }
}

/// A time limit has two names.
fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => format!("no answer in {} s", PATIENCE.as_secs()),
        _ => say(error),
    }
}

/// Asks one nameserver for the address of a name.
fn resolve_at(server: SocketAddr, name: &str) -> io::Result<String> {
    let answer = names::ask_for_address(server, name, PATIENCE)?;
    match answer.code {
        0 => Ok(format!("{name} found")),
        // That is an answer, too.
        3 => Ok(format!("{name} does not exist")),
        _ => Err(answer.error()),
    }
}

/// Looks up and connects; tries the addresses in their order, at most two.
fn connect(resolver: &Resolver, target: &Target) -> io::Result<(TcpStream, String)> {
    let started = Instant::now();
    let found = resolver
        .addresses(&target.host, PATIENCE)
        .map_err(|error| io::Error::other(format!("name lookup: {}", why(&error))))?;
    let looked_up = started.elapsed();
    let mut last = io::Error::other("name lookup: no address");
    for address in found.into_iter().take(2) {
        match TcpStream::connect_timeout(&SocketAddr::new(address, target.port), PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                let (all, looked_up) = (started.elapsed().as_millis(), looked_up.as_millis());
                return Ok((stream, format!("looked up after {looked_up} ms, connected after {all} ms")));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Connects, through a proxy if there is one, and waits for the first answer of TLS.
fn reach(resolver: &Resolver, target: &Target, proxy: Option<&Target>) -> io::Result<String> {
    let started = Instant::now();
    let (mut stream, mut steps) = connect(resolver, proxy.unwrap_or(target))?;
    if proxy.is_some() {
        let address = target.address();
        stream.write_all(format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes())?;
        tunnel(&mut stream)?;
        steps = format!("{steps}, proxy ready after {} ms", started.elapsed().as_millis());
    }
    if target.is_tls {
        stream.write_all(&client_hello(&target.host))?;
        let mut header = [0; 5];
        stream.read_exact(&mut header)?;
        let what = match header[0] {
            22 => "TLS answered",
            21 => "TLS refused",
            _ => return Err(io::Error::other("answers, but not with TLS")),
        };
        steps = format!("{steps}, {what} after {} ms", started.elapsed().as_millis());
    }
    Ok(steps)
}

/// The answer of a proxy to CONNECT, byte by byte: what follows it belongs to the host.
pub(crate) fn tunnel(stream: &mut impl io::Read) -> io::Result<()> {
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") && answer.len() < ANSWER_MAX {
        stream.read_exact(&mut byte)?;
        answer.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&answer);
    let code = text.strip_prefix("HTTP/1.").and_then(|rest| rest.split_ascii_whitespace().nth(1)).unwrap_or("nothing");
    if code == "200" { Ok(()) } else { Err(io::Error::other(format!("its proxy answers {}", short(code)))) }
}

fn short(code: &str) -> String {
    code.chars().take(20).collect()
}

/// The first message of a TLS 1.3 or 1.2 client. Its key is a random point: the answer is timed, not used.
fn client_hello(host: &str) -> Vec<u8> {
    let random = || (0..4).flat_map(|at: u32| RandomState::new().hash_one(at).to_ne_bytes());
    let mut body = vec![3, 3];
    body.extend(random());
    body.push(32);
    body.extend(random());
    list(&mut body, &words(&[0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8]));
    body.extend([1, 0]);
    let mut extensions = Vec::new();
    let mut extension = |kind: u16, value: &[u8]| {
        extensions.extend(kind.to_be_bytes());
        list(&mut extensions, value);
    };
    if host.parse::<IpAddr>().is_err() {
        let mut name = vec![0];
        list(&mut name, host.as_bytes());
        extension(0, &listed(&name));
    }
    extension(10, &listed(&words(&[0x001d, 0x0017])));
    extension(11, &[1, 0]);
    extension(13, &listed(&words(&[0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601])));
    extension(16, &listed(b"\x08http/1.1"));
    extension(43, &[4, 3, 4, 3, 3]);
    let mut share = vec![0x00, 0x1d];
    list(&mut share, &random().collect::<Vec<u8>>());
    extension(51, &listed(&share));
    list(&mut body, &extensions);
    let mut message = vec![1, 0];
    list(&mut message, &body);
    let mut record = vec![22, 3, 1];
    list(&mut record, &message);
    record
}

/// Appends a value behind its length in 16 bits.
fn list(to: &mut Vec<u8>, value: &[u8]) {
    to.extend((value.len() as u16).to_be_bytes());
    to.extend(value);
}

fn listed(value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    list(&mut bytes, value);
    bytes
}

fn words(words: &[u16]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Target, client_hello, tunnel};

    #[test]
    fn a_proxy_is_its_host_and_port_and_nothing_secret() {
        let target = |text: &str| Target::parse(text, 80).map(|target| (target.address(), target.has_password));
        assert_eq!(target("http://user:secret@10.0.0.1:3128/"), Some(("10.0.0.1:3128".to_owned(), true)));
        assert_eq!(target("https://proxy.example"), Some(("proxy.example:443".to_owned(), false)));
        assert_eq!(target("socks5h://p"), Some(("p:1080".to_owned(), false)));
        assert_eq!(target("[::1]:8080"), Some(("[::1]:8080".to_owned(), false)));
        assert_eq!(target("proxy"), Some(("proxy:80".to_owned(), false)));
        for wrong in ["", "http://", "ftp://a", "a:b", "a b", "[::1", "a:99999", "$(id)"] {
            assert_eq!(target(wrong), None, "{wrong}");
        }
        assert!(!Target::parse("http://a", 443).expect("a host").is_tls);
    }

    #[test]
    fn a_proxy_says_whether_the_way_is_open() {
        assert!(tunnel(&mut &b"HTTP/1.1 200 Connection established\r\nVia: p\r\n\r\nrest"[..]).is_ok());
        let refused = tunnel(&mut &b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"[..]);
        assert_eq!(refused.expect_err("refused").to_string(), "its proxy answers 407");
        assert!(tunnel(&mut &[b'x'; 5000][..]).is_err());
    }

    #[test]
    fn a_hello_has_lengths_that_fit() {
        let hello = client_hello("example.com");
        let record = u16::from_be_bytes([hello[3], hello[4]]) as usize;
        assert_eq!((hello[0], record), (22, hello.len() - 5));
        let message = u32::from_be_bytes([0, hello[6], hello[7], hello[8]]) as usize;
        assert_eq!((hello[5], message), (1, hello.len() - 9));
        assert!(hello.windows(11).any(|window| window == b"example.com"));
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in any::<String>(), bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Target::parse(&text, 1);
            let _ = tunnel(&mut bytes.as_slice());
        }
    }
}
