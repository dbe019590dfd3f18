//! What `apm profile` counts beside CPU time, against programs that do known things; and profiles of others, shown and
//! compared.

use std::path::Path;

use serde_json::Value;

use crate::sandbox::{Ran, Sandbox, has_program, python_with};

/// Two hundred times 1 MiB that live at once; 25,000 times 1,000 bytes that are never freed; 5 GB that come and go.
const HEAP: &str = r#"
#include <stdlib.h>
#include <string.h>
__attribute__((noinline)) void *peak(void) { char *p = malloc(1 << 20); memset(p, 1, 1 << 20); return p; }
__attribute__((noinline)) void leak(void) { for (int i = 0; i < 25000; i++) *(volatile char *)malloc(1000) = 1; }
__attribute__((noinline)) void churn(void) { for (int i = 0; i < 100000; i++) { char *p = malloc(50000); *(volatile char *)p = 1; free(p); } }
int main(void) {
    void *all[200];
    for (int i = 0; i < 200; i++) all[i] = peak();
    leak();
    for (int i = 0; i < 200; i++) free(all[i]);
    churn();
    return 3;
}
"#;

/// 3 MB in small writes, 8 MB in larger ones to another file, which is read again.
const FILES: &str = r#"
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
static char buffer[8192];
__attribute__((noinline)) void small(int fd) { for (int i = 0; i < 3000; i++) if (write(fd, buffer, 1000) != 1000) abort(); }
__attribute__((noinline)) void large(int fd) { for (int i = 0; i < 1000; i++) if (write(fd, buffer, 8000) != 8000) abort(); }
__attribute__((noinline)) void again(int fd) { lseek(fd, 0, SEEK_SET); while (read(fd, buffer, 4096) > 0) {} }
__attribute__((noinline)) int sync_it(int fd) { return fsync(fd) + 0 * fd; }
int main(void) {
    int a = open("a.dat", O_CREAT | O_TRUNC | O_RDWR, 0600), b = open("b.dat", O_CREAT | O_TRUNC | O_RDWR, 0600);
    small(a);
    large(b);
    again(b);
    return sync_it(b);
}
"#;

fn compiled(sandbox: &Sandbox, name: &str, source: &str, more: &[&str]) -> bool {
    if !has_program("gcc") {
        return false;
    }
    let file = format!("{name}.c");
    sandbox.file(&file, source);
    let words = ["-O2", "-fno-builtin", "-fno-optimize-sibling-calls", "-w", "-o", name, file.as_str()];
    let ran = Ran::of(sandbox.program("gcc", words.iter().chain(more)));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    true
}

struct Profile(Value);

impl Profile {
    fn read(sandbox: &Sandbox) -> Self {
        Self(serde_json::from_str(&sandbox.read("out/profile.json")).expect("a profile"))
    }

    /// Sum of a kind over all stacks that a function is in.
    fn of(&self, function: &str, kind: &str) -> f64 {
        let number = |value: &Value| value.as_u64().expect("a number") as usize;
        let kinds = self.0["kinds"].as_array().expect("kinds");
        let kind = kinds.iter().position(|one| one["name"] == kind).expect("the kind");
        let is_in = |row: &Value| {
            let mut next = Some(number(&row["node"]));
            while let Some(at) = next {
                let node = &self.0["nodes"][at];
                if self.0["frames"][number(&node["frame"])]["name"] == function {
                    return true;
                }
                next = node["caller"].as_u64().map(|caller| caller as usize);
            }
            false
        };
        let rows = self.0["rows"].as_array().expect("rows").iter().filter(|row| is_in(row));
        rows.map(|row| row["values"][kind].as_u64().expect("a value") as f64).sum()
    }

    fn list(&self, name: &str) -> Vec<(String, Vec<u64>)> {
        let lists = self.0["tables"]["lists"].as_array().expect("lists");
        let list = lists.iter().find(|list| list["name"] == name).expect("the list");
        serde_json::from_value(list["rows"].clone()).expect("rows")
    }

    fn quality(&self) -> String {
        self.0["quality"].to_string()
    }
}

fn near(found: f64, truth: f64, room: f64) {
    assert!((found - truth).abs() <= truth * room, "{found}, truly {truth}");
}

#[test]
fn memory_is_told_by_peak_end_and_sum() {
    let sandbox = Sandbox::new("profilemem");
    if !compiled(&sandbox, "heap", HEAP, &[]) {
        return;
    }
    let ran = sandbox.apm("profile mem -o out -- ./heap".split(' '));
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    let profile = Profile::read(&sandbox);
    // About five standard errors: 173, 48, 9,300 samples. A busy machine loses records, and says so.
    let count = |name: &str| profile.0["quality"][name].as_u64().expect("a number") as f64;
    let lost = count("lost") / (count("samples") + count("lost"));
    near(profile.of("peak", "peak_space"), 200.0 * 1_048_576.0, 0.15 + lost);
    near(profile.of("leak", "inuse_space"), 25e6, 0.75 + lost);
    near(profile.of("churn", "alloc_space"), 5e9, 0.06 + lost);
    near(profile.of("churn", "alloc_objects"), 1e5, 0.06 + lost);
    assert!(profile.quality().contains("standard errors"), "{}", profile.quality());
    for file in ["peak_space.svg", "inuse_space.svg", "profile.pb.gz", "report.html"] {
        assert!(sandbox.work().join("out").join(file).is_file(), "{file}");
    }
}

#[test]
fn a_static_program_is_sampled_by_its_faults_and_says_so() {
    let sandbox = Sandbox::new("profilefaults");
    if !compiled(&sandbox, "heap", HEAP, &["-static"]) {
        return;
    }
    let ran = sandbox.apm("profile mem -o out -- ./heap".split(' '));
    if ran.stderr.contains("grants no way to sample") {
        return crate::sandbox::skip("the kernel grants no way to sample");
    }
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    let profile = Profile::read(&sandbox);
    near(profile.of("peak", "touched_space"), 200.0 * 1_048_576.0, 0.25);
    assert!(profile.quality().contains("linked statically"), "{}", profile.quality());
}

/// An allocator of its own beside that of the C library: 64 MiB from the one, 20 MiB from the other.
const OWN: &str = r#"
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
static char *at, *end;
void *mi_malloc(size_t n) {
    if (at + n > end) { at = mmap(0, 128 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); end = at + (128 << 20); }
    void *p = at; at += n; return p;
}
__attribute__((noinline)) void own_keep(void) { for (int i = 0; i < 64; i++) memset(mi_malloc(1 << 20), 1, 1 << 20); }
__attribute__((noinline)) void c_keep(void) { for (int i = 0; i < 20; i++) memset(malloc(1 << 20), 1, 1 << 20); }
int main(void) { own_keep(); c_keep(); return 0; }
"#;

#[test]
fn an_allocator_of_the_programs_own_is_said_and_its_pages_are_seen() {
    let sandbox = Sandbox::new("profileown");
    if !compiled(&sandbox, "own", OWN, &[]) {
        return;
    }
    let ran = sandbox.apm("profile mem -o out -- ./own".split(' '));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let profile = Profile::read(&sandbox);
    assert!(profile.quality().contains("allocator of its own (`mi_malloc`)"), "{}", profile.quality());
    near(profile.of("c_keep", "peak_space"), 20.0 * 1_048_576.0, 0.45);
    if profile.0["kinds"][0]["name"] != "touched_space" {
        return crate::sandbox::skip("the kernel grants no way to sample");
    }
    near(profile.of("own_keep", "touched_space"), 64.0 * 1_048_576.0, 0.25);
}

#[test]
fn memory_of_a_run_stands_apart_by_task() {
    let sandbox = Sandbox::new("profilememtasks");
    if !compiled(&sandbox, "heap", HEAP, &[]) {
        return;
    }
    let apm = env!("CARGO_BIN_EXE_apm");
    let words =
        ["profile", "mem", "-o", "out", "--", apm, "run", "each", "-j", "2", "--", "sh", "-c", "./heap {}; true"];
    let ran = sandbox.apm(words.into_iter().chain([":::", "1", "2"]));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let folded = sandbox.read("out/peak_space.folded");
    for task in ["1: 1;", "2: 2;"] {
        assert!(folded.lines().any(|line| line.starts_with(task) && line.contains(";peak")), "{task} {folded}");
    }
    assert!(Profile::read(&sandbox).quality().contains("apm itself loads no library"));
}

#[test]
fn bytes_of_files_are_exact_by_function_and_by_file() {
    let sandbox = Sandbox::new("profileio");
    if !compiled(&sandbox, "files", FILES, &[]) {
        return;
    }
    let ran = sandbox.apm("profile io -o out -- ./files".split(' '));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let profile = Profile::read(&sandbox);
    near(profile.of("small", "written"), 3e6, 0.02);
    near(profile.of("large", "written"), 8e6, 0.02);
    near(profile.of("again", "read"), 8e6, 0.02);
    assert_eq!(profile.of("sync_it", "synced"), 1.0);
    let files = profile.list("files");
    let file = |name: &str| files.iter().find(|(path, _)| path.ends_with(name)).map(|(_, row)| row.clone());
    let row = file("b.dat").expect("the file");
    assert_eq!((row[0], row[1], row[4]), (8_000_000, 8_000_000, 1));
    assert_eq!(file("a.dat").expect("the file")[1], 3_000_000);
}

/// 4 MB through stdio, whose calls are within the C library.
const STDIO: &str = r#"
#include <stdio.h>
static char b[1000];
__attribute__((noinline)) void by_stdio(FILE *f) { for (int i = 0; i < 4000; i++) fwrite(b, 1, 1000, f); fflush(f); }
int main(void) { FILE *f = fopen("s.out", "w"); by_stdio(f); fclose(f); return 0; }
"#;

#[test]
fn what_the_library_does_not_see_is_said_and_traced() {
    let sandbox = Sandbox::new("profilestdio");
    if !compiled(&sandbox, "stdio", STDIO, &[]) {
        return;
    }
    sandbox.apm("profile io -q -o out -- ./stdio".split(' ')).good();
    let profile = Profile::read(&sandbox);
    let processes = profile.list("processes");
    if processes.iter().any(|(_, row)| row[3] > 3_900_000) {
        assert!(profile.quality().contains("are in no stack and no file"), "{}", profile.quality());
    }
    let ran = sandbox.apm("profile io --trace -q -o out -- ./stdio".split(' '));
    if ran.code != Some(0) && ran.stderr.contains("--trace") {
        return crate::sandbox::skip("tracepoints are for root");
    }
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    near(Profile::read(&sandbox).of("by_stdio", "written"), 4e6, 0.02);
}

/// 24 MiB, and in a child with an empty environment 12 MiB; both live long enough to be looked at.
const CLOSER: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
__attribute__((noinline)) void *keeps(size_t n) { void *p = malloc(n); memset(p, 1, n); usleep(400000); return p; }
int main(int argc, char **argv) {
    clearenv();
    if (argc > 1) return keeps(12 << 20) == 0;
    void *p = keeps(24 << 20);
    if (!fork()) { char *e[] = {0}, *a[] = {argv[0], "child", 0}; execve("/proc/self/exe", a, e); _exit(1); }
    wait(0);
    return p == 0;
}
"#;

/// Regression: a profile of memory did not say that a child had run without the library, or was empty without a reason.
#[test]
fn memory_of_programs_without_the_library_is_said() {
    let sandbox = Sandbox::new("profileoutside");
    if !compiled(&sandbox, "closer", CLOSER, &[]) || !compiled(&sandbox, "static", CLOSER, &["-static"]) {
        return;
    }
    sandbox.apm("profile mem -q -o out -- ./closer".split(' ')).good();
    let profile = Profile::read(&sandbox);
    near(profile.of("keeps", "alloc_space"), 24.0 * 1_048_576.0, 0.2);
    let said = profile.quality();
    let sentence = said.split('"').find(|part| part.contains("ran without the preloaded library")).expect("a sentence");
    assert!(
        ["closer[", "exe["].iter().any(|name| sentence.starts_with(name)) && sentence.contains("without `LD_PRELOAD`"),
        "{sentence}"
    );
    let mebibytes = sentence.split_once("up to ").and_then(|(_, rest)| rest.split_once(" MiB")).expect("its memory").0;
    assert!((12.0..30.0).contains(&mebibytes.parse::<f64>().expect("a number")), "{sentence}");

    // Nothing at all is seen: the headline has the reason.
    for (words, reason) in
        [("env -i ./closer", "without `LD_PRELOAD`"), ("sh -c ./static;true", "is linked statically")]
    {
        let words = ["profile", "mem", "-o", "out", "--"].into_iter().chain(words.splitn(3, ' '));
        let ran = sandbox.apm(words);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        let headline = ran.stderr.split("\n\n").next().unwrap_or_default().replace('\n', " ");
        assert!(headline.contains(reason) || !headline.contains("nothing was measured"), "{}", ran.stderr);
        assert!(Profile::read(&sandbox).quality().contains(reason), "{}", ran.stderr);
    }
}

/// Regression: memory that a program maps itself was missing without a word, and 4 MiB looked like all that it has.
#[test]
fn memory_that_a_program_maps_itself_is_said() {
    let sandbox = Sandbox::new("profilemapped");
    let source = r#"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
int main(int argc, char **argv) {
    size_t mapped = argc > 1 ? 96 << 20 : 4096;
    void *p = malloc(4 << 20), *q = mmap(0, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(p, 1, 4 << 20);
    memset(q, 1, mapped);
    usleep(400000);
    return p == q;
}
"#;
    if !compiled(&sandbox, "mapper", source, &[]) {
        return;
    }
    for (words, is_said) in [("./mapper much", true), ("./mapper", false)] {
        sandbox.apm(format!("profile mem -q -o out -- {words}").split(' ')).good();
        let quality = Profile::read(&sandbox).quality();
        assert_eq!(quality.contains("4 MiB by malloc: memory that a program maps itself"), is_said, "{quality}");
    }
}

/// Regression: a script whose interpreter is missing was called a file that does not exist.
#[test]
fn a_script_that_cannot_start_is_told_why() {
    let sandbox = Sandbox::new("profilescript");
    for (text, why) in [("#!/nowhere/interpreter\n", "its interpreter"), ("true\n", "starts with `#!`")] {
        sandbox.file("script", text);
        let path = sandbox.work().join("script");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("its mode");
        let said = sandbox.apm("profile cpu -q -o out -- ./script".split(' ')).fails(2);
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn a_profile_is_read_from_standard_input() {
    let sandbox = Sandbox::new("profilestdin");
    let shown = sandbox.apm_with("profile show -".split(' '), b"main;work 3\n").good();
    assert!(shown.contains("most in work: 100.0%"), "{shown}");
}

/// Programs that end before they can be looked at are told by those that executed them.
#[test]
fn short_programs_without_the_library_are_said_too() {
    let sandbox = Sandbox::new("profileshort");
    let source = "#include <stdlib.h>\nint main(void) { return malloc(1000) == 0; }";
    if !compiled(&sandbox, "short", source, &["-static"]) {
        return;
    }
    let script = "for i in 1 2 3 4 5 6 7 8; do ./short; done; env -i true; no-such-program; ./no-such-program; true";
    let ran = sandbox.apm(["profile", "mem", "-q", "-o", "out", "--", "sh", "-c", script]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let quality = Profile::read(&sandbox).quality();
    assert!(quality.contains("short (8 processes) ran without the preloaded library: it is linked"), "{quality}");
    assert!(quality.contains("true[") && quality.contains("without `LD_PRELOAD`"), "{quality}");
    assert!(!quality.contains("no-such-program"), "{quality}");
}

/// Regression: the kernel adds the bytes of a reaped child to its parent, and the shell had them all.
#[test]
fn bytes_of_a_child_are_not_its_parents() {
    let sandbox = Sandbox::new("profilereaped");
    let source = "
#include <fcntl.h>
#include <unistd.h>
static char b[1 << 20];
int main(void) { int f = open(\"out.bin\", O_CREAT | O_WRONLY | O_TRUNC, 0600); usleep(60000); for (int i = 0; i < 64; i++) write(f, b, sizeof b); return 0; }
";
    if !compiled(&sandbox, "wr", source, &[]) {
        return;
    }
    sandbox.apm(["profile", "io", "-q", "-o", "out", "--", "sh", "-c", "./wr; true"]).good();
    let processes = Profile::read(&sandbox).list("processes");
    let written = |name: &str| {
        let rows = processes.iter().filter(|(process, _)| process.starts_with(&format!("{name}[")));
        rows.map(|(_, row)| row[3]).sum::<u64>()
    };
    assert_eq!((written("wr"), written("sh")), (64 << 20, 0), "{processes:?}");
    // What apm does to start a program is not the program's.
    sandbox.apm("profile io -q -o out -- sleep 0.05".split(' ')).good();
    let processes = Profile::read(&sandbox).list("processes");
    assert_eq!((processes[0].1[3], processes.len()), (0, 1), "{processes:?}");
}

#[test]
fn files_of_another_kind_do_not_stay_in_the_folder() {
    let sandbox = Sandbox::new("profilestale");
    if !compiled(&sandbox, "heap", HEAP, &[]) || !compiled(&sandbox, "files", FILES, &[]) {
        return;
    }
    sandbox.apm("profile mem -q -o out -- ./heap".split(' '));
    sandbox.file("out/mine.svg", "<svg/>");
    assert!(sandbox.has("out/peak_space.svg") && sandbox.has("out/peak_space.folded"));
    sandbox.apm("profile io -q -o out -- ./files".split(' ')).good();
    assert!(!sandbox.has("out/peak_space.svg") && !sandbox.has("out/peak_space.folded"));
    assert!(sandbox.has("out/written.svg") && sandbox.has("out/mine.svg"));
}

#[test]
fn bytes_of_connections_are_told_by_peer_and_by_function() {
    if !has_program("python3") {
        return;
    }
    let sandbox = Sandbox::new("profilenet");
    let script = "
import socket, threading, time
def serve(l):
    c, _ = l.accept()
    n = 0
    while n < 5_000_000: n += len(c.recv(65536))
    c.sendall(b'y' * 300_000)
    time.sleep(0.5)
    c.close()
l = socket.socket(); l.bind(('127.0.0.1', 0)); l.listen()
t = threading.Thread(target=serve, args=(l,)); t.start()
s = socket.create_connection(l.getsockname())
for i in range(500): s.sendall(b'x' * 10_000)
n = 0
while n < 300_000: n += len(s.recv(4096))
t.join()
";
    sandbox.file("net.py", script);
    let ran = sandbox.apm("profile net -o out -- python3 net.py".split(' '));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let profile = Profile::read(&sandbox);
    let connections = profile.list("connections");
    // Both ends are the program's own. The end of a stream counts as one byte more.
    let has = |received: u64| connections.iter().any(|(_, row)| row[0].abs_diff(received) <= 1);
    assert!(has(300_000) && has(5_000_000), "{connections:?}");
    let all = |kind: &str| {
        let kinds = profile.0["kinds"].as_array().expect("kinds");
        let kind = kinds.iter().position(|one| one["name"] == kind).expect("the kind");
        let rows = profile.0["rows"].as_array().expect("rows");
        rows.iter().map(|row| row["values"][kind].as_u64().expect("a value") as f64).sum::<f64>()
    };
    near(all("sent"), 5_300_000.0, 0.02);
    near(all("received"), 5_300_000.0, 0.02);
}

#[test]
fn all_kinds_are_in_one_profile() {
    let sandbox = Sandbox::new("profileall");
    if !compiled(&sandbox, "heap", HEAP, &[]) {
        return;
    }
    let ran = sandbox.apm("profile all -o out -- ./heap".split(' '));
    if ran.stderr.contains("grants no way to sample") {
        return crate::sandbox::skip("the kernel grants no way to sample");
    }
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    let profile = Profile::read(&sandbox);
    let kinds: Vec<&str> =
        profile.0["kinds"].as_array().expect("kinds").iter().filter_map(|it| it["name"].as_str()).collect();
    assert!(["cpu", "peak_space", "written"].iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
    assert!(profile.of("main", "cpu") > 0.0 && profile.of("main", "alloc_space") > 0.0);
}

const BEFORE: &str = "main;parse;alloc 300\nmain;render 700\n";
const AFTER: &str = "main;parse;alloc 900\nmain;render 700\nmain;new;thing 100\n";

#[test]
fn profiles_of_others_are_shown_in_every_form_and_compared() {
    let sandbox = Sandbox::new("profileshow");
    sandbox.file("before.folded", BEFORE);
    sandbox.file("after.folded", AFTER);
    let show = |words: &str| sandbox.apm(format!("profile show {words}").split(' ')).good();
    let text = show("before.folded");
    assert!(text.contains("render") && text.contains("70"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let svg = show("before.folded --format svg");
    assert!(roxmltree::Document::parse(&svg).is_ok() && svg.contains("render"));
    show("before.folded --format pprof -o before.pb.gz");
    let folded = show("before.pb.gz --format folded");
    assert_eq!(folded, BEFORE, "there and back");
    show("before.folded --format json -o before.json");
    assert_eq!(show("before.json --format folded"), BEFORE);
    for form in ["icicle", "html", "speedscope"] {
        assert!(!show(&format!("before.folded --format {form}")).is_empty(), "{form}");
    }
    let diff =
        |words: &str| sandbox.apm(format!("profile diff before.folded after.folded {words}").split_whitespace()).good();
    assert!(diff("").contains("alloc") && diff("").contains("thing"), "{}", diff(""));
    let json: Value = serde_json::from_str(&diff("--format json")).expect("JSON");
    assert!(json["functions"].as_array().is_some_and(|all| all.iter().any(|one| one["function"] == "alloc")), "{json}");
    assert!(roxmltree::Document::parse(&diff("--format svg")).is_ok());
    let refused = |words: &str| sandbox.apm(words.split(' ')).fails(2);
    assert!(refused("profile show none.pb.gz").contains("`none.pb.gz`"));
    assert!(refused("profile show before.folded --kind cpus").contains("the profile has no `cpus`"));
    assert!(refused("profile show before.folded --set run.retries=1").contains("no effect"));
    sandbox.file("garbage", [0xff, 0xfe, 0, 1, 2]);
    assert!(refused("profile show garbage").contains("no known format"), "{}", refused("profile show garbage"));
}

#[test]
fn json_passes_its_schema_by_a_validator_of_others() {
    if !python_with("jsonschema") {
        return;
    }
    let sandbox = Sandbox::new("profileschema");
    sandbox.file("before.folded", BEFORE);
    sandbox.apm("profile show before.folded --format json -o shown.json".split(' ')).good();
    sandbox.apm("profile io -q -o out -- cat before.folded".split(' ')).good();
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report/profile/profile.schema.json");
    let script = "import json, sys, jsonschema\nschema = json.load(open(sys.argv[1]))\njsonschema.Draft202012Validator.check_schema(schema)\nfor path in sys.argv[2:]:\n    one = json.load(open(path))\n    jsonschema.validate(one, schema)\n    one['rows'] = 'none'\n    try: jsonschema.validate(one, schema)\n    except jsonschema.ValidationError: continue\n    sys.exit('accepts anything')\n";
    let schema = schema.display().to_string();
    let mut command = sandbox.program("python3", ["-c", script, &schema, "shown.json", "out/profile.json"]);
    // Modules of the user's own python.
    command.env("HOME", std::env::var_os("HOME").unwrap_or_default());
    Ran::of(command).good();
}

#[test]
fn go_tool_pprof_reads_what_apm_writes() {
    if !has_program("go") {
        return;
    }
    let sandbox = Sandbox::new("profilego");
    sandbox.file("before.folded", BEFORE);
    sandbox.apm("profile show before.folded --format pprof -o before.pb.gz".split(' ')).good();
    let mut command = sandbox.program("go", ["tool", "pprof", "-top", "before.pb.gz"]);
    command.env("HOME", sandbox.work());
    let top = Ran::of(command).good();
    assert!(top.contains("render") && top.contains("70.00%") && top.contains("alloc"), "{top}");
    // A recording has the lines of the source.
    if !compiled(&sandbox, "heap", HEAP, &["-g"]) {
        return;
    }
    let ran = sandbox.apm("profile mem -q -o out -- ./heap".split(' '));
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    let words = ["tool", "pprof", "-top", "-lines", "-sample_index=peak_space", "out/profile.pb.gz"];
    let mut command = sandbox.program("go", words);
    command.env("HOME", sandbox.work());
    let lines = Ran::of(command).good();
    let line = 1 + HEAP.lines().position(|line| line.contains("*peak(void)")).expect("its line");
    assert!(lines.contains(&format!("heap.c:{line}")), "{lines}");
}

#[test]
fn inferno_reads_what_apm_writes_and_reads_the_same_in_the_output_of_perf() {
    use inferno::collapse::Collapse as _;

    let sandbox = Sandbox::new("profileinferno");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/profile/perf-script.txt");
    // Paths with blanks are too much for them.
    let script = std::fs::read_to_string(path).expect("the output of perf").replace("fix me", "fix-me");
    sandbox.file("script.txt", &script);
    // The first kind is what the event counts, as theirs.
    let ours = sandbox.apm("profile show script.txt --format folded".split(' ')).good();
    let mut theirs = Vec::new();
    let mut folder = inferno::collapse::perf::Folder::default();
    folder.collapse(script.as_bytes(), &mut theirs).expect("collapsed");
    let theirs = String::from_utf8(theirs).expect("text");
    // They put the name of the program first, and mark nothing that is inlined here.
    let sum = |text: &str| text.lines().filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum::<u64>();
    let leaves = |text: &str| {
        let mut counts = std::collections::BTreeMap::new();
        for (stack, count) in text.lines().filter_map(|line| line.rsplit_once(' ')) {
            let leaf = stack.rsplit(';').next().unwrap_or_default().to_owned();
            *counts.entry(leaf).or_insert(0) += count.parse::<u64>().unwrap_or_default();
        }
        counts
    };
    assert!(sum(&ours) > 0);
    assert_eq!((sum(&ours), leaves(&ours)), (sum(&theirs), leaves(&theirs)));

    let mut svg = Vec::new();
    let mut options = inferno::flamegraph::Options::default();
    inferno::flamegraph::from_reader(&mut options, ours.as_bytes(), &mut svg).expect("a flame graph");
    let svg = String::from_utf8(svg).expect("text");
    let leaf = leaves(&ours).into_iter().max_by_key(|(_, count)| *count).map(|(leaf, _)| leaf).expect("a leaf");
    assert!(svg.contains(&leaf), "{leaf}");
}
