//! Files and programs that are made to cost their reader all time or all memory, or to end it.

use std::io::Read;
use std::process::Stdio;

use object::{Object, ObjectSegment};

use crate::sandbox::{Ended, Ran, Sandbox, has_program, skip};

/// A program with a hot function in a library, `liba.so`, which has debugging data.
fn library(sandbox: &Sandbox) -> bool {
    if !has_program("gcc") || !has_program("objcopy") {
        skip("no gcc or no objcopy");
        return false;
    }
    sandbox.file(
        "lib.c",
        "volatile unsigned long sink;\n__attribute__((noinline)) void hot_in_library(unsigned long n)\n\
         { for (unsigned long i = 0; i < n; i++) sink += i; }\n",
    );
    sandbox.file(
        "main.c",
        "void hot_in_library(unsigned long);\nint main(void) { for (int i = 0; i < 200; i++) hot_in_library(1000000); return 0; }\n",
    );
    let script = "gcc -g -O1 -shared -fPIC -o whole.so lib.c && cp whole.so liba.so && \
                  gcc -g -O1 -o main main.c -L. -la -Wl,-rpath,'$ORIGIN'";
    assert_eq!(Ran::of(sandbox.program("sh", ["-c", script])).code, Some(0));
    true
}

/// Profiles the program; nothing where the kernel grants no way to sample.
fn profiled(sandbox: &Sandbox) -> Option<Ran> {
    let ran = sandbox.apm(["profile", "cpu", "-o", "out", "--", "./main"]);
    if ran.code == Some(3) && ran.stderr.contains("grants no way to sample") {
        skip("the kernel grants no way to sample");
        return None;
    }
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    Some(ran)
}

fn lines_of(sandbox: &Sandbox) -> (bool, String) {
    let profile: serde_json::Value = serde_json::from_str(&sandbox.read("out/profile.json")).expect("a profile");
    let frames = profile["frames"].as_array().expect("frames");
    let frame = frames.iter().find(|frame| frame["name"] == "hot_in_library").expect("the function has its name");
    (frame["line"].is_u64(), profile["quality"]["notes"].to_string())
}

/// Regression: apm waited for the writer of the FIFO for ever, deaf to signals.
#[test]
fn a_debug_link_to_a_fifo_is_not_waited_for() {
    let sandbox = Sandbox::new("fifo-link");
    if !library(&sandbox) {
        return;
    }
    let script = "objcopy --only-keep-debug whole.so lib0.debug && objcopy --strip-debug --add-gnu-debuglink=lib0.debug whole.so liba.so";
    assert_eq!(Ran::of(sandbox.program("sh", ["-c", script])).code, Some(0));
    if profiled(&sandbox).is_none() {
        return;
    }
    assert!(lines_of(&sandbox).0, "a regular file is read");
    assert_eq!(Ran::of(sandbox.program("sh", ["-c", "rm lib0.debug && mkfifo lib0.debug"])).code, Some(0));
    profiled(&sandbox);
    let (has_line, notes) = lines_of(&sandbox);
    assert!(!has_line && notes.contains("lib0.debug` is no regular file and was not opened"), "{notes}");
}

/// Regression: a library that was cut short after it was first read ended apm by SIGBUS.
#[test]
fn a_library_that_is_cut_short_or_replaced_costs_its_names_only() {
    let sandbox = Sandbox::new("cut-short");
    if !library(&sandbox) {
        return;
    }
    for then in
        ["truncate -s 100 liba.so", "rm liba.so; mkfifo liba.so", "ln -sf /dev/zero liba.so", "truncate -s 40G liba.so"]
    {
        let script = format!("cp whole.so liba.so; ./main; {then}");
        let ran = sandbox.apm(["profile", "cpu", "-o", "out", "--", "sh", "-c", &script]);
        if ran.code == Some(3) && ran.stderr.contains("grants no way to sample") {
            return skip("the kernel grants no way to sample");
        }
        assert_eq!(ran.code, Some(0), "{then}: {}", ran.stderr);
        let _ = std::fs::remove_file(sandbox.work().join("liba.so"));
    }
}

/// Another user changes what is read of their process while it is read: nothing of it is waited for, and nothing comes in that
/// they could not read.
#[test]
fn files_of_a_process_that_change_while_it_is_profiled_do_no_harm() {
    let sandbox = Sandbox::new("changing-files");
    if !library(&sandbox) {
        return;
    }
    let script = "objcopy --only-keep-debug whole.so keep && objcopy --strip-debug --add-gnu-debuglink=keep whole.so liba.so && mv keep kept";
    assert_eq!(Ran::of(sandbox.program("sh", ["-c", script])).code, Some(0));
    sandbox.file("secret", "0 7fffffffffffffff secret_of_root\n");
    let swap = "while :; do for it in 'cp kept' 'mkfifo' 'ln -s /dev/zero' 'truncate -s 100G'; do rm -f keep $map; $it keep; $it $map; done; \
                ln -s $PWD/secret $map; done";
    let mut main = Ended(sandbox.program("sh", ["-c", "while :; do ./main; done"]).spawn().expect("sh"));
    let map = format!("/tmp/perf-{}.map", main.0.id());
    let mut command = sandbox.program("sh", ["-c", swap]);
    let swapper = Ended(command.env("map", &map).stderr(Stdio::null()).spawn().expect("sh"));
    for _ in 0..2 {
        let pid = main.0.id().to_string();
        let words =
            ["60", env!("CARGO_BIN_EXE_apm"), "profile", "cpu", "--pid", &pid, "--duration", "200ms", "-o", "out"];
        let ran = Ran::of(sandbox.program("timeout", words));
        assert!(matches!(ran.code, Some(0 | 3)), "{:?} {}", ran.code, ran.stderr);
        assert!(!ran.stderr.contains("secret_of_root"));
    }
    drop(swapper);
    let _ = main.0.kill();
    let _ = std::fs::remove_file(map);
}

/// Regression: the size that a compressed section claims was allocated, and apm aborted.
#[test]
fn a_section_that_claims_to_be_huge_costs_its_lines_only() {
    let sandbox = Sandbox::new("huge-section");
    if !library(&sandbox) {
        return;
    }
    let script = "objcopy --compress-debug-sections=zlib whole.so liba.so";
    assert_eq!(Ran::of(sandbox.program("sh", ["-c", script])).code, Some(0));
    let path = sandbox.work().join("liba.so");
    let mut elf = std::fs::read(&path).expect("the library");
    let word = |elf: &[u8], at: usize| u64::from_le_bytes(elf[at..at + 8].try_into().expect("eight bytes")) as usize;
    let (table, count) = (word(&elf, 40), usize::from(u16::from_le_bytes([elf[60], elf[61]])));
    let mut patched = 0;
    for header in (0..count).map(|index| table + 64 * index) {
        // SHF_COMPRESSED; ch_size is the second word of the section.
        if word(&elf, header + 8) & 0x800 != 0 {
            let at = word(&elf, header + 24) + 8;
            elf[at..at + 8].copy_from_slice(&(1_u64 << 36).to_le_bytes());
            patched += 1;
        }
    }
    if patched == 0 {
        skip("objcopy has compressed nothing");
        return;
    }
    std::fs::write(&path, elf).expect("written");
    if profiled(&sandbox).is_none() {
        return;
    }
    let (has_line, notes) = lines_of(&sandbox);
    assert!(!has_line && notes.contains("debugging data could not be read"), "{notes}");
}

/// Regression: at the next look into the ring SIGBUS ended apm, and its files stayed. Counters that were overwritten were
/// shown as they were.
#[test]
fn a_ring_that_is_cut_short_or_lies_is_damage() {
    let sandbox = Sandbox::new("ring");
    if !has_program("gcc") {
        return skip("no gcc");
    }
    // A child without the library does it, so that what is profiled may live or die of it as it likes.
    sandbox.file(
        "ring.c",
        r#"
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
int main(int argc, char **argv) {
    for (int i = 0; i < 1000; i++) { void *volatile p = malloc(100000); free(p); }
    int fd = open(getenv("APM_RING"), O_RDWR);
    if (fd < 0) return 8;
    if (argc > 1) { usleep(300000); ftruncate(fd, 0); usleep(300000); return 0; }
    unsigned long *words = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    for (int at = 32; at < 48; at++) words[at] = 303851409622657147UL;
    return 0;
}
"#,
    );
    let built = Ran::of(sandbox.program("gcc", ["-O1", "-w", "-o", "ring", "ring.c"]));
    assert_eq!(built.code, Some(0), "{}", built.stderr);
    for how in [&["./ring"][..], &["./ring", "cut"]] {
        let words = ["profile", "mem", "-o", "out", "--"].iter().chain(how);
        let ran = sandbox.apm(words);
        if ran.stderr.contains("no folder for the preload library") {
            return skip("nothing can be preloaded here");
        }
        let text = sandbox.read("out/profile.json");
        assert!(text.contains("unknown, the ring was damaged"), "{how:?}: {}", ran.stderr);
        assert!(!text.contains("303851409622657147"), "{how:?}");
    }
}

/// Regression: each slot up to the largest number had a row, in gigabytes; the number behind the largest was zero.
#[test]
fn a_slot_has_a_row_only_if_it_was_used() {
    let sandbox = Sandbox::new("slots");
    sandbox.file("p.yaml", "version: 1\ntasks:\n- {id: a, run: 'true'}\n");
    sandbox.apm(["run", "p.yaml"]).good();
    let runs = std::fs::read_dir(sandbox.state().join("runs")).expect("runs").flatten();
    let journal = runs.map(|run| run.path().join("journal.ndjson")).find(|path| path.exists()).expect("a journal");
    let text = std::fs::read_to_string(&journal).expect("text");
    assert!(text.contains("\"slot\":0"));
    for slot in ["1000000", "4294967295"] {
        std::fs::write(&journal, text.replace("\"slot\":0", &format!("\"slot\":{slot}"))).expect("written");
        let trace = sandbox.apm(["run", "show", "last", "--format", "trace"]).good();
        assert!(trace.len() < 10_000 && trace.contains(&format!("\"tid\":{slot}")), "{}", trace.len());
        assert!(sandbox.apm(["run", "show", "last", "--format", "html"]).good().len() < 200_000);
    }
}

/// Regression: each stack had a list of values of its own, each function its name three times, and a result was whole in
/// memory before it was written: a million stacks took half a GiB.
#[test]
fn many_stacks_take_little_memory() {
    let sandbox = Sandbox::new("many-stacks");
    let stacks: String = (0..100_000).map(|at| format!("main;run;caller_{at};callee_of_{at} 1\n")).collect();
    sandbox.file("p.folded", stacks);
    for format in ["json", "folded", "pprof", "speedscope"] {
        let mut command = sandbox.command(["profile", "show", "p.folded", "--format", format]);
        let mut child = Ended(command.stdout(Stdio::piped()).spawn().expect("apm"));
        // It has read everything when it begins to write, and does not end: nobody reads on.
        let mut byte = [0];
        child.0.stdout.as_mut().expect("its output").read_exact(&mut byte).expect("a byte");
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.0.id())).expect("it still runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        let peak: u64 = peak.expect("the peak").parse().expect("a number");
        // apm itself is a third of it; this was 83,000 to 130,000.
        assert!(peak < 65_000, "{format}: {peak} kB");
    }
}

/// Regression: a line of a gigabyte was read whole, three times, before anything was said.
#[test]
fn a_plan_and_a_profile_without_line_breaks_are_refused_early() {
    let sandbox = Sandbox::new("long-line");
    // It never ends: what is not refused while it is read does not come back.
    let endless = |words: &str| {
        let script = format!("tr '\\0' a < /dev/zero | {} {words}", env!("CARGO_BIN_EXE_apm"));
        Ran::of(sandbox.program("sh", ["-c", &script]))
    };
    let said = endless("run --dry-run -").fails(2);
    assert!(said.contains("a line of it has more than 64 MiB"), "{said}");
    let said = endless("profile show /dev/stdin").fails(2);
    assert!(said.contains("a line of it has more than 16 MiB"), "{said}");
}

/// Regression: every command that reads the configuration waited for a writer.
#[test]
fn a_configuration_is_a_regular_file() {
    let sandbox = Sandbox::new("fifo-config");
    assert_eq!(Ran::of(sandbox.program("mkfifo", ["apm.yaml"])).code, Some(0));
    for words in [&["config", "show"][..], &["run", "each", "true", ":::", "1"]] {
        let ran = sandbox.apm(words);
        assert!(ran.code != Some(0) && ran.stderr.contains("is no regular file"), "{words:?}: {}", ran.stderr);
    }
}

/// Regression: each of thousands of variables had a line of its own.
#[test]
fn a_few_unknown_variables_are_named_and_the_others_counted() {
    let sandbox = Sandbox::new("variables");
    let mut command = sandbox.command(["run", "each", "true", ":::", "1"]);
    command.envs((0..2000).map(|number| (format!("APM_NOBODY_{number}"), "1")));
    let ran = Ran::of(command);
    assert_eq!(ran.stderr.matches("is not known").count(), 5, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("1995 more environment variables that begin with APM_ are not known"),
        "{}",
        ran.stderr
    );
}

/// Regression: they were lost with exit code 0.
#[test]
fn what_cannot_be_written_is_an_error() {
    let sandbox = Sandbox::new("lost-output");
    let apm = env!("CARGO_BIN_EXE_apm");
    for words in ["--version", "--help", "config keys"] {
        for to in [">/dev/full", ">&-"] {
            let mut command = sandbox.program("sh", ["-c", &format!("{apm} {words} {to}")]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            let ran = Ran::of(command);
            let said = if to == ">&-" { "standard output is closed" } else { "No space left" };
            assert!(ran.code == Some(3) && ran.stderr.contains(said), "{words} {to}: {:?} {}", ran.code, ran.stderr);
        }
        assert_eq!(Ran::of(sandbox.program("sh", ["-c", &format!("{apm} {words} >/dev/null")])).code, Some(0));
    }
}

/// Regression: a thread that could not be started was a bug in apm, and an allocation that failed ended it.
#[test]
fn too_little_memory_is_said() {
    let sandbox = Sandbox::new("little-memory");
    let apm = env!("CARGO_BIN_EXE_apm");
    let bytes = std::fs::read(apm).expect("apm");
    let elf = object::File::parse(&*bytes).expect("ELF");
    let loaded = elf.segments().map(|segment| segment.size()).sum::<u64>() >> 10;
    for words in ["profile cpu -o out -- true", "run each true ::: 1"] {
        let mut said = 0;
        for more in (0..24).map(|step| step * 512) {
            let script = format!("ulimit -v {}; exec {apm} {words}", loaded + more);
            let ran = Ran::of(sandbox.program("sh", ["-c", &script]));
            // Without a code and a word it was not even loaded.
            let is_loaded = ran.code.is_some() || !ran.stderr.is_empty();
            assert!(!is_loaded || matches!(ran.code, Some(0 | 3)), "{more}: {:?} {}", ran.code, ran.stderr);
            said += u32::from(ran.code == Some(3) && ran.stderr.contains("of address space are too little"));
        }
        assert!(said > 0, "{words}: no limit was in between");
        let script = format!("ulimit -v {}; exec {apm} {words}", loaded + 100_000);
        Ran::of(sandbox.program("sh", ["-c", &script])).good();
    }
}
