//! What makes runtimes write names of the code that they make (`perf_map` reads them): switches in the environment of a
//! profiled command. They change what is profiled a little, so they are set on request only.

use std::ffi::{OsStr, OsString};

/// Switches, and the variables that take them. What is set already stays, before them.
///
/// - CPython 3.12 and later; any value but 0 turns it on. Earlier ones do not know it, and nothing happens.
/// - Node 8 and later. The second gives each interpreted function a frame of its own.
/// - Java 17 and later; earlier ones ignore what they do not know, from 9 on, which read this variable at all. The names
///   are written at the end: of a JVM that is killed there are none. Frame pointers, for there is no other way to callers.
const SWITCHES: [(&str, &str); 3] = [
    ("PYTHONPERFSUPPORT", "1"),
    ("NODE_OPTIONS", "--perf-basic-prof --interpreted-frames-native-stack"),
    (
        "JDK_JAVA_OPTIONS",
        "-XX:+IgnoreUnrecognizedVMOptions -XX:+PreserveFramePointer -XX:+UnlockDiagnosticVMOptions -XX:+DumpPerfMapAtExit",
    ),
];

/// The variables to set, with what they have now.
pub(crate) fn environment<'a>(now: impl Fn(&str) -> Option<&'a OsStr>) -> Vec<(&'static str, OsString)> {
    let with = |(name, switch): (&'static str, &str)| {
        let is_switch = name == "PYTHONPERFSUPPORT";
        let mut value = now(name).filter(|_| !is_switch).map(OsStr::to_owned).unwrap_or_default();
        if !value.is_empty() {
            value.push(" ");
        }
        value.push(switch);
        (name, value)
    };
    SWITCHES.into_iter().map(with).collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::environment;

    #[test]
    fn what_is_set_stays() {
        let found = environment(|name| match name {
            "NODE_OPTIONS" => Some(OsStr::new("--max-old-space-size=100")),
            "PYTHONPERFSUPPORT" => Some(OsStr::new("0")),
            _ => None,
        });
        let text: Vec<String> =
            found.iter().map(|(name, value)| format!("{name}={}", value.to_string_lossy())).collect();
        assert_eq!(text[0], "PYTHONPERFSUPPORT=1");
        assert_eq!(
            text[1],
            "NODE_OPTIONS=--max-old-space-size=100 --perf-basic-prof --interpreted-frames-native-stack"
        );
        assert!(text[2].starts_with("JDK_JAVA_OPTIONS=-XX:+Ignore"), "{}", text[2]);
    }
}
