//! The physical limit that the benchmarks compare with: so many threads that do nothing but start a process and wait
//! for it. `limit THREADS COUNT PROGRAM [ARG...]`; with BALLAST_MIB that much touched memory is held meanwhile; with
//! FOLDER the processes are started there, in a process group of their own.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let threads: usize = words[0].parse().expect("threads");
    let count: usize = words[1].parse().expect("count");
    let mib: usize = std::env::var("BALLAST_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let ballast = vec![1u8; mib << 20];
    let folder = std::env::var_os("FOLDER");
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < count {
                    let mut command = Command::new(&words[2]);
                    command.args(&words[3..]).stdin(Stdio::null());
                    if let Some(folder) = &folder {
                        command.current_dir(folder).process_group(0);
                    }
                    assert!(command.status().expect("started").success());
                }
            });
        }
    });
    std::hint::black_box(&ballast);
}
