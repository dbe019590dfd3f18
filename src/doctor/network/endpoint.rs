//! Ends of connections as culprits and in commands: who holds a socket, which interface, which address.

use std::net::{IpAddr, SocketAddr};

use crate::doctor::rule::RuleContext;
use crate::model::diagnosis::Culprit;

/// Whoever holds a socket: the process, or where it may not be seen its user.
pub(super) fn holder(context: &RuleContext<'_>, inode: u64, uid: u32, what: String) -> Option<Culprit> {
    let (pid, name) = match context.now().net.owners.get(&inode) {
        Some(owner) if owner.pid == context.window.observer => return None,
        Some(owner) => (Some(owner.pid), owner.name.clone()),
        None => (None, format!("a process of user {uid}")),
    };
    Some(Culprit { kind: "process".to_owned(), pid, name, what })
}

/// An interface, or another side.
pub(super) fn named(kind: &str, name: &str, what: String) -> Culprit {
    Culprit { kind: kind.to_owned(), pid: None, name: name.to_owned(), what }
}

/// The address of a text that was written by us, for a command; a saved snapshot may hold anything.
pub(super) fn address(peer: &str) -> Option<IpAddr> {
    peer.parse::<SocketAddr>().ok().map(|socket| socket.ip())
}

/// A name of an interface, for a command: the kernel allows nearly anything in it.
pub(super) fn plain(name: &str) -> Option<&str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (!name.is_empty() && !name.starts_with('-') && name.bytes().all(is_plain)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn a_name_that_a_shell_would_take_apart_is_in_no_command() {
        assert_eq!(plain("enp3s0.100"), Some("enp3s0.100"));
        for name in ["", "a;reboot", "$(id)", "-all", "a b"] {
            assert_eq!(plain(name), None, "{name}");
        }
    }
}
