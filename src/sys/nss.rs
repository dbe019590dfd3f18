//! In place of what the C library asks its databases of users and hosts for (NSS). Linked statically, it would load the
//! machine's modules for them into this process: modules of another libc, which crash it. These functions are linked
//! instead of the C library's: the home directory, which `directories` and the standard library ask for where HOME is not
//! set, comes from /etc/passwd and nothing else; names of hosts are not found at all (`probe::net::names` does that).

#![allow(unsafe_code)]

use std::ffi::{c_char, c_int};
use std::path::Path;

use crate::sys::beneath;

/// Largest /etc/passwd that is read.
const FILE_MAX: u64 = 16 << 20;

/// The home directory of a user in the text of /etc/passwd.
fn home(text: &[u8], uid: u32) -> Option<&[u8]> {
    text.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let number = fields.nth(2)?;
        let home = fields.nth(2)?;
        (std::str::from_utf8(number).ok()?.parse() == Ok(uid)).then_some(home)
    })
}

/// As POSIX has it, of an entry only the home directory: the other texts are empty.
///
/// # Safety
///
/// `entry` and `result` are valid for writes, `buffer` for `size` bytes: what every caller of `getpwuid_r` promises.
#[unsafe(no_mangle)]
unsafe extern "C" fn getpwuid_r(
    uid: libc::uid_t,
    entry: *mut libc::passwd,
    buffer: *mut c_char,
    size: libc::size_t,
    result: *mut *mut libc::passwd,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { *result = std::ptr::null_mut() };
    let text = beneath::read(Path::new("/etc/passwd"), FILE_MAX).unwrap_or_default();
    let Some(home) = home(&text, uid).filter(|home| !home.contains(&0)) else { return 0 };
    if home.len() + 1 > size {
        return libc::ERANGE;
    }
    // SAFETY: the buffer has room for the path and a zero byte, as judged above, and is the caller's; `entry` is valid for
    // writes, and a `passwd` of zeroes is a value.
    unsafe {
        std::ptr::copy_nonoverlapping(home.as_ptr().cast(), buffer, home.len());
        let end = buffer.add(home.len());
        *end = 0;
        *entry = std::mem::zeroed();
        (*entry).pw_uid = uid;
        (*entry).pw_dir = buffer;
        ((*entry).pw_name, (*entry).pw_passwd, (*entry).pw_gecos, (*entry).pw_shell) = (end, end, end, end);
        *result = entry;
    }
    0
}

/// Finds nothing. No code of apm asks; the standard library has code that would, which brings the whole of NSS with it.
///
/// # Safety
///
/// Touches none of what it is given.
#[unsafe(no_mangle)]
unsafe extern "C" fn getaddrinfo(
    _node: *const c_char,
    _service: *const c_char,
    _hints: *const libc::addrinfo,
    _result: *mut *mut libc::addrinfo,
) -> c_int {
    libc::EAI_FAIL
}

/// There is nothing to free.
///
/// # Safety
///
/// Touches none of what it is given.
#[unsafe(no_mangle)]
unsafe extern "C" fn freeaddrinfo(_list: *mut libc::addrinfo) {}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::{getpwuid_r, home};

    #[test]
    fn a_home_is_found_by_the_number_of_its_user() {
        let text = b"root:x:0:0:root:/root:/bin/sh\n\nbad\nu:x:1000:1000:A,B,,:/home/u:/bin/sh\nv:x:10:10";
        assert_eq!(home(text, 0), Some(&b"/root"[..]));
        assert_eq!(home(text, 1000), Some(&b"/home/u"[..]));
        assert_eq!((home(text, 10), home(text, 7)), (None, None));
    }

    #[test]
    fn callers_get_what_posix_promises() {
        let mut buffer = [1; 64];
        // SAFETY: zeroes are a value of it.
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut result = std::ptr::null_mut();
        let mut ask = |uid, size| {
            // SAFETY: all of it outlives the call, and `size` is at most that of the buffer.
            let code = unsafe { getpwuid_r(uid, &mut entry, buffer.as_mut_ptr(), size, &mut result) };
            (code, result.is_null())
        };
        assert_eq!(ask(0, 2), (libc::ERANGE, true));
        assert_eq!(ask(4_294_967_000, 64), (0, true), "no such user is no error");
        assert_eq!(ask(0, 64), (0, false));
        // SAFETY: it was set by the call above, which ended well, and points into the buffer.
        let home = unsafe { CStr::from_ptr(entry.pw_dir) };
        assert!(home.to_bytes().starts_with(b"/"));
    }
}
