//! Mounts: mountinfo, and the room on each. A server that does not answer holds up who asks for as long as it likes, so
//! such mounts are asked in threads of their own that are left behind.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::model::snapshot::Field;
use crate::model::snapshot::disk::{Mount, Space};
use crate::probe::{Roots, field, say};
use crate::sys::file_system;

/// Mounts kept; hosts of many containers have thousands, nearly all of them overlays of one disk.
const MOUNTS_MAX: usize = 1_000;
/// Mounts that may hang which are asked.
const SLOW_MAX: usize = 64;
/// Threads that wait for an answer at the same time.
const WAITING_MAX: usize = 8;
/// How long a snapshot waits for the answer to a new question. The second one looks whether it has come meanwhile.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long an answer may take before the mount is said to hang.
const HANGS: Duration = Duration::from_secs(1);

/// The kernel's own, without room for files.
const OF_THE_KERNEL: &[&str] = &[
    "autofs",
    "binder",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "cpuset",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "fuse.lxcfs",
    "hugetlbfs",
    "mqueue",
    "nfsd",
    "nsfs",
    "proc",
    "pstore",
    "ramfs",
    "resctrl",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "sysfs",
    "tracefs",
];

/// Those that wait for a server or for a process.
const OF_SERVERS: &[&str] =
    &["9p", "afs", "beegfs", "ceph", "cifs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "ocfs2", "smb3", "smbfs"];

/// Whether a file system of this kind waits for a server or for a process. virtiofs and vboxsf wait for the host.
pub(super) fn may_hang(kind: &str) -> bool {
    kind.starts_with("nfs") || kind.starts_with("fuse") || OF_SERVERS.contains(&kind) || kind == "virtiofs"
}

/// Properly or the same.
pub(super) fn is_below(path: &Path, folder: &Path) -> bool {
    path.starts_with(folder)
}

/// All mounts that can hold files, with their room.
pub(super) fn read(roots: &Roots) -> Field<Vec<Mount>> {
    let mut mounts = field(&roots.proc.join("self/mountinfo"), parse);
    if let Field::Known(mounts) = &mut mounts {
        for mount in mounts.iter_mut() {
            mount.block = block(roots, &mount.device);
        }
        measure(roots, mounts);
    }
    mounts
}

/// The name of a device by its number. Major 0 is no device.
fn block(roots: &Roots, device: &str) -> Option<String> {
    if device.starts_with("0:") {
        return None;
    }
    let link = std::fs::read_link(roots.sys.join("dev/block").join(device)).ok()?;
    Some(link.file_name()?.to_string_lossy().replace('!', "/"))
}

/// Hidden ones are left out: of two mounts at one point the later one is seen.
fn parse(text: &str) -> Option<Vec<Mount>> {
    let all: Vec<Mount> = text.lines().filter_map(line).collect();
    if all.is_empty() {
        return None;
    }
    let mut seen = HashSet::new();
    let mut mounts: Vec<Mount> = all.into_iter().rev().filter(|mount| seen.insert(mount.point.clone())).collect();
    mounts.reverse();
    mounts.retain(|mount| !OF_THE_KERNEL.contains(&mount.kind.as_str()));
    mounts.truncate(MOUNTS_MAX);
    Some(mounts)
}

/// `36 35 98:0 /root /point rw,noatime master:1 - ext3 /dev/root rw,errors=continue`; the tags before the hyphen may be
/// any number.
fn line(line: &str) -> Option<Mount> {
    let words: Vec<&str> = line.split(' ').collect();
    let hyphen = words.iter().skip(6).position(|word| *word == "-")?.checked_add(6)?;
    let options = |at: usize| words.get(at).map(|word| word.split(',').map(unescape).collect::<Vec<_>>());
    let device = words.get(2)?;
    let (major, minor) = device.split_once(':')?;
    (major.parse::<u32>().is_ok() && minor.parse::<u32>().is_ok()).then_some(())?;
    Some(Mount {
        device: (*device).to_owned(),
        root: unescape(words.get(3)?),
        point: unescape(words.get(4)?),
        options: options(5)?,
        kind: unescape(words.get(hyphen.checked_add(1)?)?),
        source: unescape(words.get(hyphen.checked_add(2)?)?),
        super_options: options(hyphen.checked_add(3)?).unwrap_or_default(),
        ..Mount::default()
    })
}

/// Blank, tab, newline, backslash and `#` are written as a backslash and three octal digits.
fn unescape(word: &str) -> String {
    let bytes = word.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let code = (*byte == b'\\').then(|| bytes.get(at + 1..at + 4)).flatten().and_then(octal);
        plain.push(code.unwrap_or(*byte));
        at += if code.is_some() { 4 } else { 1 };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

fn octal(digits: &[u8]) -> Option<u8> {
    let value = digits
        .iter()
        .try_fold(0u32, |value, digit| (b'0'..=b'7').contains(digit).then(|| value * 8 + u32::from(digit - b'0')));
    u8::try_from(value?).ok()
}

/// Mount points that /etc/fstab does not want read-only.
pub(super) fn writable_by_fstab(roots: &Roots) -> Field<Vec<String>> {
    field(&roots.etc.join("fstab"), |text| Some(text.lines().filter_map(writable).collect()))
}

fn writable(line: &str) -> Option<String> {
    let mut words = line.split_ascii_whitespace();
    if words.next()?.starts_with('#') {
        return None;
    }
    let (point, kind, options) = (unescape(words.next()?), words.next()?, words.next().unwrap_or("defaults"));
    let is_wanted = point.starts_with('/')
        && !["iso9660", "udf", "squashfs", "erofs", "cramfs", "swap"].contains(&kind)
        && !options.split(',').any(|option| option == "ro");
    is_wanted.then_some(point)
}

/// One statvfs for each file system. Mounts below one that may hang are reached through it, so they may hang too.
fn measure(roots: &Roots, mounts: &mut Vec<Mount>) {
    let servers: Vec<String> =
        mounts.iter().filter(|mount| may_hang(&mount.kind)).map(|mount| mount.point.clone()).collect();
    let waits = |mount: &Mount| servers.iter().any(|server| is_below(Path::new(&mount.point), Path::new(server)));
    let mut known: HashMap<String, Field<Space>> = HashMap::new();
    let mut slow = Vec::new();
    for mount in mounts.iter_mut() {
        if waits(mount) {
            slow.push(mount.point.clone());
        } else if let Some(space) = known.get(&mount.device) {
            mount.space = space.clone();
        } else {
            mount.space = roots.call(&format!("statvfs {}", mount.point), || space(&mount.point));
            if mount.space.known().is_some() {
                known.insert(mount.device.clone(), mount.space.clone());
            }
        }
    }
    if !slow.is_empty() && roots.is_here {
        let answers = ask(&slow);
        for mount in mounts.iter_mut() {
            if let Some(answer) = answers.get(&mount.point) {
                (mount.space, mount.answer_ms, mount.is_hanging) = answer.clone();
            }
        }
    }
    // What is not there is hidden below another mount.
    mounts.retain(|mount| !matches!(&mount.space, Field::Unavailable(why) if why.why == "not there"));
}

fn space(point: &str) -> std::io::Result<Space> {
    if point.contains(char::REPLACEMENT_CHARACTER) {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "the name of the mount point is not UTF-8"));
    }
    file_system::space(Path::new(point))
}

/// What came of asking: the room, the time in ms, whether it still hangs.
type Answer = (Field<Space>, Option<u64>, bool);

/// A question that was not answered yet.
struct Waiting {
    point: String,
    since: Instant,
    answer: Receiver<(std::io::Result<Space>, Duration)>,
}

/// Threads that wait outlive a snapshot, so that who looks every second does not leave one behind each time.
static WAITING: Mutex<Vec<Waiting>> = Mutex::new(Vec::new());

/// Asks mounts that may hang.
fn ask(points: &[String]) -> HashMap<String, Answer> {
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut answers = HashMap::new();
    // Those of before were given their time by the caller.
    collect(&mut waiting, points, HANGS, &mut answers);
    let mut open: Vec<&String> = points.iter().filter(|point| !answers.contains_key(*point)).take(SLOW_MAX).collect();
    while !open.is_empty() && waiting.len() < WAITING_MAX {
        let now: Vec<&String> = open.drain(..open.len().min(WAITING_MAX - waiting.len())).collect();
        for point in &now {
            match start((*point).clone()) {
                Ok(question) => waiting.push(question),
                Err(error) => {
                    answers.insert((*point).clone(), (Field::unavailable("thread", say(&error)), None, false));
                }
            }
        }
        collect(&mut waiting, points, PATIENCE, &mut answers);
    }
    for point in points {
        let unasked =
            || (Field::unavailable(format!("statvfs {point}"), "not asked: too many do not answer"), None, false);
        answers.entry(point.clone()).or_insert_with(unasked);
    }
    answers
}

fn start(point: String) -> std::io::Result<Waiting> {
    let (send, answer) = sync_channel(1);
    let since = Instant::now();
    let asked = point.clone();
    let question = move || {
        let space = space(&asked);
        // Nobody listens any more where the mount is gone.
        let _ = send.send((space, since.elapsed()));
    };
    std::thread::Builder::new().name("statvfs".to_owned()).stack_size(64 << 10).spawn(question)?;
    Ok(Waiting { point, since, answer })
}

/// Takes the answers that have come; waits until each question is so old. Those to mounts that are gone are forgotten.
fn collect(waiting: &mut Vec<Waiting>, points: &[String], patience: Duration, answers: &mut HashMap<String, Answer>) {
    waiting.retain(|question| {
        let left = patience.saturating_sub(question.since.elapsed());
        let name = || format!("statvfs {}", question.point);
        let (answer, stays) = match question.answer.recv_timeout(left) {
            Ok((space, time)) => {
                let space = space.map_or_else(|error| Field::unavailable(name(), say(&error)), Field::Known);
                ((space, Some(milliseconds(time)), false), false)
            }
            Err(RecvTimeoutError::Timeout) => {
                let age = question.since.elapsed();
                let why = format!("no answer in {:.1} s", age.as_secs_f64());
                ((Field::unavailable(name(), why), Some(milliseconds(age)), true), points.contains(&question.point))
            }
            Err(RecvTimeoutError::Disconnected) => {
                ((Field::unavailable(name(), "the thread that asked is gone"), None, false), false)
            }
        };
        answers.insert(question.point.clone(), answer);
        stays
    });
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{line, parse, unescape, writable};

    /// Lines of several machines: a Debian host, a Docker container, btrfs, a frozen name, stacked mounts.
    const MOUNTINFO: &str = r"22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard,errors=remount-ro
25 24 0:23 / /dev/shm rw,relatime - tmpfs tmpfs rw,size=24684084k
30 25 0:27 / /dev/shm rw,relatime - tmpfs tmpfs rw,size=24684084k
41 27 8:17 / /mnt/my\040disk ro,relatime shared:1 master:2 propagate_from:3 - ext4 /dev/sdb1 ro,emergency_ro
59 27 0:44 /@home /home rw,relatime shared:29 - btrfs /dev/nvme0n1p3 rw,ssd,subvolid=257,subvol=/@home
70 27 254:0 /var/lib/docker/containers/4f/hosts /etc/hosts ro,relatime - ext4 /dev/vda rw,discard
71 27 0:50 / /mnt/a\134b\011c\043d rw - fuse.sshfs user@host:/x rw,user_id=1000
";

    #[test]
    fn mounts_are_read_as_the_kernel_writes_them() {
        let mounts = parse(MOUNTINFO).expect("mounts");
        let points: Vec<(&str, &str)> =
            mounts.iter().map(|mount| (mount.point.as_str(), mount.device.as_str())).collect();
        let expected = [
            ("/", "254:0"),
            ("/dev/shm", "0:27"),
            ("/mnt/my disk", "8:17"),
            ("/home", "0:44"),
            ("/etc/hosts", "254:0"),
            ("/mnt/a\\b\tc#d", "0:50"),
        ];
        assert_eq!(points, expected);
        assert_eq!(mounts[2].super_options, ["ro", "emergency_ro"]);
        assert_eq!((mounts[3].root.as_str(), mounts[3].kind.as_str()), ("/@home", "btrfs"));
        assert_eq!((mounts[4].options[0].as_str(), mounts[4].super_options[0].as_str()), ("ro", "rw"));
        assert_eq!(mounts[5].source, "user@host:/x");
        assert_eq!(parse(""), None);
    }

    #[test]
    fn what_is_no_escape_stays() {
        assert_eq!(unescape(r"a\04"), r"a\04");
        assert_eq!(unescape(r"a\999\"), r"a\999\");
        assert_eq!(unescape(r"\777x"), r"\777x");
        assert_eq!(unescape(r"\303\244"), "\u{e4}");
    }

    #[test]
    fn fstab_says_what_should_be_writable() {
        for (text, expected) in [
            ("/dev/sdb1 /data ext4 defaults 0 2", Some("/data")),
            ("UUID=1 /mnt/a\\040b xfs", Some("/mnt/a b")),
            ("# /dev/sdb1 /data ext4 defaults 0 2", None),
            ("/dev/sr0 /media/cd iso9660 noauto 0 0", None),
            ("/dev/sdb2 /usr ext4 noatime,ro 0 2", None),
            ("/dev/sdb3 none swap sw 0 0", None),
            ("", None),
        ] {
            assert_eq!(writable(text).as_deref(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in any::<String>()) {
            let _ = (parse(&text), line(&text), unescape(&text), writable(&text));
        }

        #[test]
        fn a_damaged_file_is_no_panic(at in 0usize..MOUNTINFO.len(), byte in any::<u8>()) {
            let mut bytes = MOUNTINFO.as_bytes().to_vec();
            bytes[at] = byte;
            let _ = parse(&String::from_utf8_lossy(&bytes));
        }
    }
}
