//! What profiling costs: the program alone, under apm, under its peers.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::case::Metric::{CpuRatio, Rss, WallOver};
use crate::case::{Case, bound};
use crate::cases::{apm, folder, peer};

/// Two seconds of arithmetic in a few functions.
const LOOP: &str = "
volatile unsigned long sink;
#define SPIN(n) unsigned long x = 1; for (unsigned long i = 0; i < n; i++) { x ^= x << 13; x ^= x >> 7; x ^= x << 17; } sink = x;
__attribute__((noinline)) void alpha(void) { SPIN(5000000) }
__attribute__((noinline)) void beta(void) { SPIN(3000000) }
__attribute__((noinline)) void gamma(void) { SPIN(2000000) }
int main(void) { for (int i = 0; i < 100; i++) { alpha(); beta(); gamma(); } return 0; }
";

/// Nothing but the allocator.
const MALLOC: &str = "
#include <stdlib.h>
int main(void) { for (int i = 0; i < 20000000; i++) { char *p = malloc(100); *(volatile char *)p = 1; free(p); } return 0; }
";

fn compiled(folder: &Path, source: &str) -> PathBuf {
    let (file, program) = (folder.join("program.c"), folder.join("program"));
    std::fs::write(&file, source).expect("written");
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-g", "-fomit-frame-pointer", "-fno-builtin", "-o"]).arg(&program).arg(&file);
    assert!(gcc.status().is_ok_and(|status| status.success()), "gcc");
    program
}

/// A source of many unlike functions: the compiler is at many places in turn.
fn large_source() -> String {
    let mut text = String::from("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <math.h>\n");
    for n in 0..250 {
        let _ = write!(
            text,
            "struct s{n} {{ int a[{}]; double d; char *t; struct s{n} *next; }};\n\
             static int f{n}(struct s{n} *s, int x) {{ int r = 0; for (int i = 0; i < {}; i++) {{ switch ((x + i) % {}) {{ \
             case 0: r += s->a[i % {}]; break; case 1: r ^= (int)(s->d * x); break; case 2: if (s->next) r -= s->next->a[0]; break; \
             default: r = r * 31 + strlen(s->t ? s->t : \"{n}\"); }} }} return r > {n} ? r : f{}_(x); }}\n\
             int f{}_(int x) {{ double y = x; while (y > 1.5) {{ y = sqrt(y) + {n} % 3; if (y > 100) break; }} return (int)y + (x & {n}); }}\n\
             int g{n}(int x) {{ struct s{n} *s = calloc(1, sizeof *s); if (!s) return 0; s->d = x / 3.0; int r = f{n}(s, x); free(s); return r; }}\n",
            n % 13 + 4,
            n % 17 + 5,
            n % 5 + 4,
            n % 13 + 4,
            n,
            n
        );
    }
    // Each is declared before it is used.
    let declared: String = (0..250).map(|n| format!("int f{n}_(int x);\n")).collect();
    declared + &text
}

/// CPU time of a program of two seconds, sampled 999 times a second with stacks by unwinding.
pub fn cpu() -> Case {
    let folder = folder("profile-cpu");
    let program = compiled(&folder, LOOP).display().to_string();
    let program = program.as_str();
    let contenders = [
        peer(&folder, "the program", &[program]),
        Some(apm(&folder, &["profile", "cpu", "-q", "-o", "out", "--", program])),
        peer(
            &folder,
            "perf record",
            &["perf", "record", "-q", "-F", "999", "--call-graph", "dwarf,16384", "-o", "perf.data", program],
        ),
        peer(&folder, "samply record", &["samply", "record", "--save-only", "-r", "999", "-o", "samply.json", program]),
    ];
    Case {
        title: "`apm profile cpu` of a program of two seconds, 999 Hz, with every file written".to_owned(),
        rounds: 7,
        contenders: contenders.into_iter().flatten().collect(),
        bounds: vec![bound("apm", CpuRatio, 1.08), bound("apm", Rss, 64.0)],
    }
}

/// A compiler of 30 MB at work on many functions: thousands of addresses to be named after it has ended.
pub fn compiler() -> Case {
    let folder = folder("profile-compiler");
    std::fs::write(folder.join("large.c"), large_source()).expect("written");
    let gcc = ["gcc", "-O2", "-w", "-c", "-o", "large.o", "large.c"];
    let words: Vec<&str> = ["profile", "cpu", "-q", "-o", "out", "--"].into_iter().chain(gcc).collect();
    let record = "perf record -q -F 999 --call-graph dwarf,16384 -o perf.data gcc -O2 -w -c -o large.o large.c";
    let contenders =
        [peer(&folder, "gcc", &gcc), Some(apm(&folder, &words)), peer(&folder, "perf record", &["sh", "-c", record])];
    Case {
        title: "`apm profile cpu` of gcc -O2, 999 Hz, with names and every file written".to_owned(),
        rounds: 5,
        contenders: contenders.into_iter().flatten().collect(),
        bounds: vec![bound("apm", WallOver, 0.5)],
    }
}

/// Sampling of the heap where there is nothing else.
pub fn malloc() -> Case {
    let folder = folder("profile-malloc");
    let program = compiled(&folder, MALLOC).display().to_string();
    let program = program.as_str();
    let contenders = [
        peer(&folder, "the program", &[program]),
        Some(apm(&folder, &["profile", "mem", "-q", "-o", "out", "--", program])),
        peer(&folder, "heaptrack", &["heaptrack", "-o", "heaptrack.out", program]),
        peer(&folder, "massif", &["valgrind", "-q", "--tool=massif", "--massif-out-file=massif.out", program]),
    ];
    Case {
        title: "`apm profile mem` of 20 million times malloc and free".to_owned(),
        rounds: 3,
        contenders: contenders.into_iter().flatten().collect(),
        bounds: vec![bound("apm", CpuRatio, 1.7)],
    }
}

/// The same of a compiler.
pub fn heap() -> Case {
    let folder = folder("profile-heap");
    std::fs::write(folder.join("large.c"), large_source()).expect("written");
    let gcc = ["gcc", "-O1", "-w", "-c", "-o", "large.o", "large.c"];
    let words: Vec<&str> = ["profile", "mem", "-q", "-o", "out", "--"].into_iter().chain(gcc).collect();
    let contenders = [peer(&folder, "gcc", &gcc), Some(apm(&folder, &words))];
    Case {
        title: "`apm profile mem` of gcc -O1".to_owned(),
        rounds: 5,
        contenders: contenders.into_iter().flatten().collect(),
        bounds: Vec::new(),
    }
}
