//! Tracepoints: what the kernel calls them and where their fields lie (tracefs), and events of them. Where tracefs is not
//! mounted, apm has a mount of its own that nobody sees; where it may not, the error says so.

#![expect(clippy::disallowed_methods, reason = "kernel: tracefs")]

use std::collections::HashMap;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::probe::{Roots, cpu};
use crate::profile::record::perf::Form;
use crate::profile::record::rings::Rings;
use crate::sys::perf::{self, Callers, Counter, Event, Inherit, Pace, Ring};
use crate::sys::{process, tracefs};

/// Where tracefs is mounted, the older place last.
const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
/// Bytes of all rings of one kind together, and the smallest that is asked for.
const TOTAL_MAX: usize = 32 << 20;
const ONE_MIN: usize = 64 << 10;
/// Fields of a tracepoint that are kept.
const FIELDS_MAX: usize = 64;

/// Where a field lies in the data of a tracepoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    offset: usize,
    size: usize,
}

impl Field {
    /// Its value, as a number without a sign; an array's is that of its first element of 8 bytes.
    pub(crate) fn value(self, raw: &[u8]) -> Option<u64> {
        let bytes = raw.get(self.offset..)?;
        Some(match self.size {
            1 => (*bytes.first()?).into(),
            2 => u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?).into(),
            4 => u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?).into(),
            _ => u64::from_ne_bytes(bytes.get(..8)?.try_into().ok()?),
        })
    }

    /// The bytes of an array.
    pub(crate) fn bytes(self, raw: &[u8]) -> Option<&[u8]> {
        raw.get(self.offset..self.offset.checked_add(self.size)?)
    }

    /// One of the words of an array.
    pub(crate) fn word(self, at: usize, raw: &[u8]) -> Option<u64> {
        Some(u64::from_ne_bytes(*self.bytes(raw)?.as_chunks::<8>().0.get(at)?))
    }
}

/// A tracepoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) number: u64,
    fields: HashMap<String, Field>,
}

impl Format {
    /// Of the file `format`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let number = text.lines().find_map(|line| line.strip_prefix("ID:"))?.trim().parse().ok()?;
        let fields = text.lines().filter_map(field).take(FIELDS_MAX).collect();
        Some(Self { number, fields })
    }

    /// A field by its name; a kernel that does not have it cannot be listened to in this way.
    pub(crate) fn field(&self, name: &'static str) -> Result<Field, Refused> {
        self.fields.get(name).copied().ok_or(Refused::Field(name))
    }
}

/// `field:unsigned long args[6]; offset:16; size:48; signed:0;`, with tabs between.
fn field(line: &str) -> Option<(String, Field)> {
    let mut parts = line.trim().split(';').map(str::trim);
    let name = parts.next()?.strip_prefix("field:")?.rsplit([' ', '*']).next()?.split('[').next()?;
    let offset = parts.next()?.strip_prefix("offset:")?.parse().ok()?;
    let size = parts.next()?.strip_prefix("size:")?.parse().ok()?;
    Some((name.to_owned(), Field { offset, size }))
}

/// Why tracepoints cannot be used.
#[derive(Debug, Error)]
pub(crate) enum Refused {
    #[error("tracepoints are for root")]
    NotRoot,
    #[error("there is no tracefs here, and this user may not mount it")]
    NotMounted,
    #[error("this kernel has no tracepoint {0}")]
    Missing(String),
    #[error("a tracepoint of this kernel has no field {0}")]
    Field(&'static str),
    #[error("there is no such process")]
    Gone,
    #[error("{events} events of tracepoints are more than may be open at once")]
    Files { events: usize },
    #[error("tracepoints: {what}: {error}")]
    Other { what: &'static str, error: io::Error },
}

/// Finds a tracepoint: `sock/inet_sock_set_state`.
pub(crate) fn find(name: &str) -> Result<Format, Refused> {
    let mounted = PLACES.iter().map(PathBuf::from).find(|place| place.join("events").exists());
    find_in(mounted.or_else(tracefs::own).as_deref(), name)
}

fn find_in(place: Option<&Path>, name: &str) -> Result<Format, Refused> {
    let is_root = process::uid() == 0;
    let text = place.and_then(|place| fs::read_to_string(place.join("events").join(name).join("format")).ok());
    if let Some(text) = text {
        return Format::parse(&text).ok_or_else(|| Refused::Missing(name.to_owned()));
    }
    let is_mounted = place.is_some_and(|place| place.join("events").exists());
    Err(match (is_root, is_mounted) {
        (false, _) => Refused::NotRoot,
        (true, true) => Refused::Missing(name.to_owned()),
        (true, false) => Refused::NotMounted,
    })
}

/// A tracepoint that is listened to.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) number: u64,
    /// Of the kernel's language for that; all records where it is not there.
    pub(crate) filter: Option<String>,
    pub(crate) callers: Callers,
    /// Processes and mappings too.
    pub(crate) track: bool,
    /// Which of the rings of a CPU its records go to.
    pub(crate) ring: usize,
}

/// Whose, and from when on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Whose<'a> {
    /// Of everybody, at once.
    Machine,
    /// Of a process from its next execve on.
    Starting(u32),
    /// Of these threads, once that is enabled.
    Running(&'a [u32]),
}

/// Events of tracepoints.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) events: Vec<OwnedFd>,
    pub(crate) rings: Rings,
    pub(crate) forms: HashMap<u64, Form>,
    /// Place of the tracepoint in what was wanted, by the number of the event.
    pub(crate) which: HashMap<u64, usize>,
    /// Bytes of the smallest ring.
    pub(crate) ring_min: usize,
}

/// Opens them on all CPUs. Each has rings of at most these sizes: what is large does not push out what is small.
pub(crate) fn open(all: &[Wanted], whose: Whose<'_>, children: bool, sizes: &[usize]) -> Result<Opened, Refused> {
    let cpus = cpu::online(&Roots::default()).known().cloned().unwrap_or_else(|| vec![0]);
    let tids: Vec<i32> = match whose {
        Whose::Machine => vec![perf::EVERYBODY],
        Whose::Starting(pid) => vec![pid as i32],
        Whose::Running(tids) => tids.iter().map(|tid| *tid as i32).collect(),
    };
    let other = |what| move |error| Refused::Other { what, error };
    let fits = 1 << (TOTAL_MAX / cpus.len().max(1)).max(ONE_MIN).ilog2();
    let (mut events, mut forms, mut which) = (Vec::new(), HashMap::new(), HashMap::new());
    let (mut rings, mut ring_min) = (Vec::new(), usize::MAX);
    for cpu in &cpus {
        let mut here: Vec<Option<Ring>> = sizes.iter().map(|_| None).collect();
        for tid in &tids {
            for (place, wanted) in all.iter().enumerate() {
                let event = Event {
                    counter: Counter::Tracepoint(wanted.number),
                    pace: Pace::Period(1),
                    callers: wanted.callers,
                    kernel: true,
                    raw: true,
                    track: wanted.track,
                    switches: false,
                    inherit: if children { Inherit::All } else { Inherit::Threads },
                    on_exec: matches!(whose, Whose::Starting(_)),
                };
                let opened = match perf::open(&event, *tid, *cpu) {
                    Ok(opened) => opened,
                    Err(error) => match error.raw_os_error() {
                        // This thread has ended meanwhile, or this CPU went offline.
                        Some(libc::ESRCH | libc::ENODEV) => continue,
                        Some(libc::EMFILE | libc::ENFILE) => {
                            return Err(Refused::Files { events: tids.len() * cpus.len() * all.len() });
                        }
                        Some(libc::EACCES | libc::EPERM) => return Err(Refused::NotRoot),
                        _ => return Err(Refused::Other { what: "open an event", error }),
                    },
                };
                if let Some(filter) = wanted.filter.as_ref().and_then(|filter| CString::new(filter.as_str()).ok()) {
                    perf::filter(&opened, &filter).map_err(other("filter an event"))?;
                }
                let number = perf::number(&opened).map_err(other("ask an event for its number"))?;
                forms.insert(number, Form { callers: wanted.callers, raw: true });
                which.insert(number, place);
                let Some((ring, size)) = here.get_mut(wanted.ring).zip(sizes.get(wanted.ring)) else { continue };
                match ring {
                    Some(ring) => ring.take_in(&opened).map_err(other("lead an event into a ring"))?,
                    None => {
                        let new = Ring::new(&opened, fits.min(*size)).map_err(other("map a ring of perf"))?;
                        ring_min = ring_min.min(new.size());
                        *ring = Some(new);
                    }
                }
                events.push(opened);
            }
        }
        rings.extend(here.into_iter().flatten());
    }
    if events.is_empty() {
        return Err(Refused::Gone);
    }
    if matches!(whose, Whose::Machine) {
        events.iter().try_for_each(perf::enable).map_err(other("enable an event"))?;
    }
    Ok(Opened { events, rings: Rings::new(rings), forms, which, ring_min })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::{Field, Format, find_in};

    const ENTER: &str = "name: sys_enter\nID: 443\nformat:\n\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
        \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\tfield:long id;\toffset:8;\tsize:8;\tsigned:1;\n\
        \tfield:unsigned long args[6];\toffset:16;\tsize:48;\tsigned:0;\n\
        \tfield:const void *skaddr;\toffset:64;\tsize:8;\tsigned:0;\n\nprint fmt: \"NR %ld\", REC->id\n";

    #[test]
    fn fields_are_where_the_kernel_says() {
        let format = Format::parse(ENTER).expect("a format");
        assert_eq!(format.number, 443);
        assert_eq!(format.field("args").expect("a field"), Field { offset: 16, size: 48 });
        assert_eq!(format.field("skaddr").expect("a field"), Field { offset: 64, size: 8 });
        assert!(format.field("ret").expect_err("none").to_string().contains("ret"));
        let raw: Vec<u8> = (0..8_u64).flat_map(|word| word.to_ne_bytes()).collect();
        let value = |name| format.field(name).ok().and_then(|field| field.value(&raw));
        assert_eq!((value("id"), value("common_type"), value("skaddr")), (Some(1), Some(0), None));
        assert_eq!(format.field("args").expect("a field").word(2, &raw), Some(4));
    }

    #[test]
    fn where_there_is_no_tracefs_that_is_said() {
        for place in [None, Some(Path::new("/there/is/nothing"))] {
            let said = find_in(place, "raw_syscalls/sys_enter").expect_err("nothing").to_string();
            assert!(said.contains("no tracefs here") || said.contains("for root"), "{said}");
        }
    }

    proptest! {
        #[test]
        fn no_format_and_no_data_is_a_panic(
            text in "(ID: [0-9]{1,22}\n|\tfield:[a-z \\[\\]0-9]{0,12};\toffset:[0-9]{0,22};\tsize:[0-9]{0,22};\tx;\n|[^\n]{0,20}\n){0,12}",
            raw in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            for field in Format::parse(&text).iter().flat_map(|format| format.fields.values()) {
                field.value(&raw);
                field.bytes(&raw);
                field.word(3, &raw);
            }
        }
    }
}
