//! Whether a tool failed because it could not reach the network.

/// Texts by which tools say that they could not reach the network.
const OFFLINE: [&str; 16] = [
    "could not resolve host",
    "temporary failure in name resolution",
    "name or service not known",
    "network is unreachable",
    "failed to fetch advisory database",
    "couldn't fetch advisory database",
    "enotfound",
    "eai_again",
    "econnrefused",
    "no such host",
    "connection refused",
    "failed to establish a new connection",
    "could not connect to",
    "dial tcp",
    // Maven and Gradle, told to stay off the network.
    "in offline mode and the artifact",
    "available for offline mode",
];

/// Whether a line, in lower case, says that the network could not be reached.
pub(crate) fn offline(line: &str) -> bool {
    // `ModuleNotFoundError` holds an `enotfound`.
    let starts = |at: usize| !line[..at].ends_with(char::is_alphanumeric);
    OFFLINE.iter().any(|text| line.match_indices(text).any(|(at, _)| starts(at)))
}
