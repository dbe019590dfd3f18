//! Where names of functions come from: debugging data beside the program, packed, split off; and where there are none.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::sandbox::{Ran, Sandbox, has_program, skip};

/// The innermost of three functions is inlined into the next, that into the outermost.
const INLINED: &str = "
static inline __attribute__((always_inline)) double hot_inlined(long n) { double s = 0; for (long i = 1; i < n; i++) s += 1.0 / i; return s; }
static inline __attribute__((always_inline)) double middle_inlined(long n) { return hot_inlined(n) + 1; }
__attribute__((noinline)) double outer(long n) { return middle_inlined(n); }
int main(void) { volatile double s = 0; for (int i = 0; i < 8; i++) s += outer(20000000); return s < 1; }
";

/// One function is exported; two static ones take two thirds and one third of the time.
const EXPORTED: &str = "
__attribute__((visibility(\"default\"), noinline)) int exported(int x) { return x * 3 + 1; }
__attribute__((noinline)) static double hot(long n) { volatile double s = 0; for (long i = 1; i < n; i++) s += 1.0 / i; return s; }
__attribute__((noinline)) static double other(long n) { volatile double s = 0; for (long i = 1; i < n; i++) s += 2.0 / i; return s; }
int main(int c, char **v) { double s = 0; for (int i = 0; i < 6; i++) { s += hot(20000000); s += other(10000000); } return exported((int)s) == 7; }
";

fn tool(sandbox: &Sandbox, words: &str) {
    let (program, arguments) = words.split_once(' ').expect("arguments");
    Ran::of(sandbox.program(program, arguments.split(' '))).good();
}

/// Compiles the program with these flags; where that cannot be, the test is skipped.
fn compiled(sandbox: &Sandbox, source: &str, flags: &str) -> bool {
    if !has_program("gcc") || !has_program("objcopy") {
        return false;
    }
    sandbox.file("program.c", source);
    tool(sandbox, &format!("gcc -O1 -w {flags} -o program program.c"));
    true
}

/// Samples of the innermost function by its name, and what is said of the data; nothing where nothing can be sampled.
fn profiled(sandbox: &Sandbox) -> Option<(BTreeMap<String, u64>, String)> {
    let ran = sandbox.apm("profile cpu -o out -- ./program".split(' '));
    if ran.code == Some(3) && ran.stderr.contains("grants no way to sample") {
        skip("the kernel grants no way to sample");
        return None;
    }
    let profile: Value = serde_json::from_str(&sandbox.read("out/profile.json")).expect("a profile");
    let number = |value: &Value| value.as_u64().expect("a number") as usize;
    let mut samples = BTreeMap::new();
    for row in profile["rows"].as_array().expect("rows") {
        let frame = &profile["frames"][number(&profile["nodes"][number(&row["node"])]["frame"])];
        let name = frame["name"].as_str().expect("a name").to_owned();
        *samples.entry(name).or_default() += row["values"][1].as_u64().expect("a number");
    }
    Some((samples, profile["quality"].to_string()))
}

fn has_inlined(sandbox: &Sandbox) {
    let Some((samples, quality)) = profiled(sandbox) else { return };
    assert!(samples.get("hot_inlined").is_some_and(|samples| *samples > 20), "{samples:?} {quality}");
}

#[test]
fn debugging_data_in_the_folder_beside_the_program_is_found() {
    let sandbox = Sandbox::new("namesbeside");
    if !compiled(&sandbox, INLINED, "-g") {
        return;
    }
    sandbox.file(".debug/none", "");
    tool(&sandbox, "objcopy --only-keep-debug program .debug/program.debug");
    tool(&sandbox, "objcopy --strip-all --add-gnu-debuglink=.debug/program.debug program");
    has_inlined(&sandbox);
}

#[test]
fn packed_debugging_data_has_inlined_functions() {
    for packing in ["zlib", "zstd"] {
        let sandbox = Sandbox::new("namespacked");
        if !compiled(&sandbox, INLINED, "-g") {
            return;
        }
        let words = [&format!("--compress-debug-sections={packing}"), "program"];
        if Ran::of(sandbox.program("objcopy", words)).code != Some(0) {
            skip("this objcopy has no zstd");
            return;
        }
        has_inlined(&sandbox);
        // The same in a file of its own.
        tool(&sandbox, "objcopy --only-keep-debug program program.debug");
        tool(&sandbox, "objcopy --strip-all --add-gnu-debuglink=program.debug program");
        has_inlined(&sandbox);
    }
}

#[test]
fn split_debugging_data_is_found_or_said_to_be_missing() {
    let sandbox = Sandbox::new("namessplit");
    if !compiled(&sandbox, INLINED, "-g -gsplit-dwarf") {
        return;
    }
    has_inlined(&sandbox);
    remove_split(&sandbox);
    let Some((samples, quality)) = profiled(&sandbox) else { return };
    assert!(!samples.contains_key("hot_inlined") && quality.contains("`.dwo` files"), "{samples:?} {quality}");
}

/// The `dwp` of binutils 2.40 crashes on DWARF 5.
#[test]
fn a_package_of_split_debugging_data_beside_the_program_is_found() {
    let sandbox = Sandbox::new("namespackage");
    if !compiled(&sandbox, INLINED, "-g -gdwarf-4 -gsplit-dwarf") || !has_program("dwp") {
        return;
    }
    tool(&sandbox, "dwp -e program -o program.dwp");
    remove_split(&sandbox);
    has_inlined(&sandbox);
}

fn remove_split(sandbox: &Sandbox) {
    for file in std::fs::read_dir(sandbox.work()).expect("the folder").flatten() {
        if file.path().extension().is_some_and(|ending| ending == "dwo") {
            std::fs::remove_file(file.path()).expect("removed");
        }
    }
}

#[test]
fn static_functions_of_a_stripped_program_are_told_apart() {
    let sandbox = Sandbox::new("namesstripped");
    if !compiled(&sandbox, EXPORTED, "-rdynamic -s") {
        return;
    }
    let Some((samples, quality)) = profiled(&sandbox) else { return };
    let mut functions: Vec<u64> =
        samples.iter().filter(|(name, _)| name.starts_with("fn_")).map(|(_, count)| *count).collect();
    functions.sort_unstable();
    let [.., other, hot] = functions[..] else { panic!("{samples:?}") };
    assert!(other > 10 && (1.2..3.5).contains(&(hot as f64 / other as f64)), "{samples:?}");
    assert!(!samples.contains_key("exported"), "{samples:?}");
    assert!(quality.contains("is not stripped"), "{quality}");
}
