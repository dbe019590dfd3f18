//! Profiles for the tests of the formats: by hand, and any.

use proptest::prelude::*;

use crate::model::profile::{
    Builder, Frame, Kind, List, Module, Nameless, Origin, Profile, Quality, Tables, Thread, Timeline, Unit,
};

/// Samples of stacks, written `outer;inner`, in one module and one thread.
pub(super) fn of(stacks: &[(&str, u64)]) -> Profile {
    let mut builder = Builder::new(vec![Kind { name: "samples".to_owned(), unit: Unit::Count }]);
    builder.profile.title = "made by hand".to_owned();
    builder.profile.modules.push(Module { path: "/bin/program".to_owned(), build_id: String::new() });
    for (stack, value) in stacks {
        let node = stack.split(';').fold(None, |caller, name| {
            let origin = if name.starts_with("py::") { Origin::Jit } else { Origin::Native };
            let frame = builder.frame(Frame { name, module: Some(0), origin, ..Frame::default() });
            Some(builder.node(caller, frame))
        });
        builder.add(node.expect("a frame"), None, 0, *value);
    }
    let mut profile = builder.build();
    profile.quality.samples = profile.total(0);
    profile
}

/// A profile that has something of everything.
pub(super) fn rich() -> Profile {
    let kinds = [("cpu", Unit::Nanoseconds), ("alloc_space", Unit::Bytes)];
    let kinds = kinds.map(|(name, unit)| Kind { name: name.to_owned(), unit });
    let mut builder = Builder::new(kinds.to_vec());
    let profile = &mut builder.profile;
    profile.title = "server --port 80 <&>".to_owned();
    profile.at = "2026-11-28T08:00:00Z".to_owned();
    profile.duration_ns = 2_500_000_000;
    for (path, build_id) in [("/opt/server", "c0ffee"), ("[kernel]", ""), ("/usr/lib/libz.so.1", "")] {
        profile.modules.push(Module { path: path.to_owned(), build_id: build_id.to_owned() });
    }
    let thread = |tid, name: &str, task: Option<&str>| Thread {
        pid: 10,
        tid,
        process: "server".to_owned(),
        name: name.to_owned(),
        task: task.map(str::to_owned),
    };
    profile.threads = vec![thread(10, "server", None), thread(11, "worker 1", Some("test: web"))];
    profile.tables = Tables {
        timelines: vec![Timeline {
            name: "rss".to_owned(),
            unit: Unit::Bytes,
            points: (0..50).map(|at| (at * 50_000_000, (at * at) as f64 * 40_000.0)).collect(),
        }],
        lists: vec![List {
            name: "files".to_owned(),
            of: "path".to_owned(),
            columns: vec![Kind { name: "read".to_owned(), unit: Unit::Bytes }],
            rows: vec![("/var/log/<all>.log".to_owned(), vec![1_572_864]), ("/etc/passwd".to_owned(), vec![512])],
        }],
    };
    profile.quality = Quality {
        sampler: "cpu-clock, user and kernel".to_owned(),
        refused: vec!["not by cycles: this machine has no counters".to_owned()],
        rate_asked: 999,
        rate_got: 987.2,
        heap_mean_bytes: 512 << 10,
        samples: 2000,
        lost: 20,
        truncated: 41,
        unknown: 12,
        is_foreign: false,
        nameless: vec![Nameless {
            module: "/usr/lib/libz.so.1".to_owned(),
            samples: 12,
            hint: Some("zlib1g-dbgsym".to_owned()),
        }],
        notes: vec!["the rate was lowered".to_owned()],
    };
    let frame = |name: &'static str, module: u32, line: Option<u32>, address: u64| Frame {
        name,
        module: Some(module),
        file: line.map(|_| "src/main.rs"),
        line,
        address: Some(address),
        is_inlined: false,
        origin: if module == 1 { Origin::Kernel } else { Origin::Native },
    };
    let main = builder.frame(frame("main", 0, Some(10), 0x1000));
    let parse = builder.frame(frame("<Request as Parse>::parse", 0, Some(20), 0x1100));
    let inlined = builder.frame(Frame { is_inlined: true, ..frame("memchr<&str, 'a'>", 0, Some(30), 0x1100) });
    let read = builder.frame(frame("vfs_read", 1, None, 0xffff_ffff_8100_0000));
    let inflate = builder.frame(frame("[libz.so.1]", 2, None, 0x77));
    let script = builder.frame(Frame { name: "JS:~run", origin: Origin::Jit, ..Frame::default() });
    let root = builder.node(None, main);
    let parse = builder.node(Some(root), parse);
    let inlined = builder.node(Some(parse), inlined);
    let read = builder.node(Some(parse), read);
    let inflate = builder.node(Some(root), inflate);
    let script = builder.node(Some(root), script);
    for (node, thread, ns, bytes) in [
        (inlined, 0, 1_200_000_000, 0),
        (read, 0, 400_000_000, 0),
        (inflate, 1, 300_000_000, 4096),
        (script, 1, 100_000_000, 0),
        (parse, 1, 0, 1_000_000),
    ] {
        builder.add(node, Some(thread), 0, ns);
        builder.add(node, Some(thread), 1, bytes);
    }
    builder.build()
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("main".to_owned()),
        Just("f g".to_owned()),
        Just("<T as U>::f".to_owned()),
        Just("/lib/libc.so.6".to_owned()),
        Just("[kernel]".to_owned()),
        proptest::collection::vec(any::<char>(), 0..12).prop_map(|chars| chars.into_iter().collect()),
    ]
}

/// A name, a module, a file, line and address, and whose code it is.
type AnyFrame = ((String, Option<u32>, Option<String>), (Option<u32>, Option<u64>, bool), Origin);

fn any_frame(modules: u32) -> impl Strategy<Value = AnyFrame> {
    let origins = [Origin::Native, Origin::Kernel, Origin::Jit, Origin::Label, Origin::Unknown];
    let place = (any_text(), proptest::option::of(0..modules), proptest::option::of(any_text()));
    let code = (proptest::option::of(1..9_u32), proptest::option::of(any::<u64>()), any::<bool>());
    (place, code, proptest::sample::select(origins.to_vec()))
}

/// Any profile without a flaw.
pub(super) fn any_profile() -> impl Strategy<Value = Profile> {
    let frames = proptest::collection::vec(any_frame(3), 1..8);
    let nodes = proptest::collection::vec((any::<u32>(), any::<u32>()), 1..20);
    let rows = proptest::collection::vec((any::<u32>(), any::<bool>(), 0..1_u64 << 40, any::<u32>()), 0..20);
    let words = proptest::collection::vec(any_text(), 8);
    (frames, nodes, rows, words).prop_map(|(frames, nodes, rows, words)| {
        let kinds = vec![
            Kind { name: "cpu".to_owned(), unit: Unit::Nanoseconds },
            Kind { name: "alloc_space".to_owned(), unit: Unit::Bytes },
        ];
        let mut builder = Builder::new(kinds);
        builder.profile.modules =
            (0..3).map(|at| Module { path: words[at].clone(), build_id: String::new() }).collect();
        let frames: Vec<u32> = frames
            .iter()
            .map(|((name, module, file), (line, address, is_inlined), origin)| {
                let (module, line, address) = (*module, *line, *address);
                let (is_inlined, origin) = (*is_inlined, *origin);
                builder.frame(Frame { name, module, file: file.as_deref(), line, address, is_inlined, origin })
            })
            .collect();
        let mut all = Vec::new();
        for (at, (caller, frame)) in nodes.iter().enumerate() {
            // A root every now and then.
            let caller = caller.checked_rem(at as u32 + 1).and_then(|caller| all.get(caller as usize).copied());
            let node = builder.node(caller, frames[*frame as usize % frames.len()]);
            all.push(node);
        }
        for (node, is_threaded, first, second) in &rows {
            let node = all[*node as usize % all.len()];
            let thread = is_threaded.then_some(0);
            builder.add(node, thread, 0, *first);
            builder.add(node, thread, 1, u64::from(*second));
        }
        let thread = Thread { pid: 1, tid: 2, process: words[3].clone(), name: words[4].clone(), task: None };
        builder.profile.threads = vec![thread];
        builder.profile.title = words[5].clone();
        builder.build()
    })
}
