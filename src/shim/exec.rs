//! Says which program a process is about to become: one that does not load this library (static, setuid, an environment
//! that does not name it) cannot say so itself, and may end before apm looks at it. Functions with a variable number of
//! arguments (`execl`) and those that start a process at once (`posix_spawn`) do not come by here.

use core::ffi::{c_char, c_int};
use core::mem::transmute;

use crate::arch::{self, number};
use crate::layout as l;
use crate::{resolve, ring, start};

/// Bytes of a path, with its folder, that are told.
const PATH_MAX: usize = 1024;
/// Variables of an environment that are looked at.
const VARIABLES_MAX: usize = 4096;

type Words = *const *const c_char;

/// Whether an environment asks the loader for this library.
unsafe fn names_library(variables: Words) -> bool {
    const NAME: &[u8] = b"LD_PRELOAD=";
    const LIBRARY: &[u8] = b"/apm-preload-";
    if variables.is_null() {
        return false;
    }
    for at in 0..VARIABLES_MAX {
        let text = unsafe { variables.add(at).read() }.cast::<u8>();
        if text.is_null() {
            return false;
        }
        let has = |at: usize, word: &[u8]| {
            // In order: nothing behind the end of the text is read.
            word.iter().enumerate().all(|(index, byte)| unsafe { text.add(at + index).read() } == *byte)
        };
        if has(0, NAME) {
            let mut at = NAME.len();
            while at < PATH_MAX && unsafe { text.add(at).read() } != 0 {
                if has(at, LIBRARY) {
                    return true;
                }
                at += 1;
            }
            return false;
        }
    }
    false
}

/// Says that this process is about to become this program.
unsafe fn tell(path: *const c_char, variables: Words) {
    if !start::ready() || path.is_null() {
        return;
    }
    let Some(record) = ring::reserve(l::EXEC, PATH_MAX) else { return };
    record.put(l::A, unsafe { names_library(variables) }.into());
    record.put(l::B, 0);
    let (to, room) = record.payload();
    let path = path.cast::<u8>();
    let mut length = 0;
    let (mut count, mut has_folder) = (0, false);
    unsafe {
        while length < PATH_MAX && path.add(length).read() != 0 {
            has_folder |= path.add(length).read() == b'/';
            length += 1;
        }
        if has_folder && path.read() != b'/' {
            // With the zero behind it, in whose place the slash goes.
            let folder = arch::syscall(number::GETCWD, [to as usize, room, 0, 0, 0, 0]);
            if folder > 0 && (folder as usize) < room {
                count = folder as usize;
                to.add(count - 1).write(b'/');
            }
        }
        let length = length.min(room - count);
        core::ptr::copy_nonoverlapping(path, to.add(count), length);
        record.done(count + length);
    }
}

/// It has not become that program.
fn failed() {
    if let Some(record) = ring::reserve(l::EXEC, 0) {
        record.put(l::A, 0);
        record.put(l::B, 1);
        record.done(0);
    }
}

/// Calls the function behind ours, which returns only where it fails.
unsafe fn hand_over(index: usize, path: *const c_char, variables: Words, call: impl FnOnce(*mut ()) -> c_int) -> c_int {
    start::ready();
    let Some(real) = resolve::real(index) else { return -1 };
    unsafe { tell(path, variables) };
    let result = call(real);
    failed();
    result
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn execve(path: *const c_char, arguments: Words, variables: Words) -> c_int {
    type Real = unsafe extern "C" fn(*const c_char, Words, Words) -> c_int;
    let call = |real| unsafe { transmute::<*mut (), Real>(real)(path, arguments, variables) };
    unsafe { hand_over(resolve::EXECVE, path, variables, call) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn execvpe(file: *const c_char, arguments: Words, variables: Words) -> c_int {
    type Real = unsafe extern "C" fn(*const c_char, Words, Words) -> c_int;
    let call = |real| unsafe { transmute::<*mut (), Real>(real)(file, arguments, variables) };
    unsafe { hand_over(resolve::EXECVPE, file, variables, call) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn execv(path: *const c_char, arguments: Words) -> c_int {
    type Real = unsafe extern "C" fn(*const c_char, Words) -> c_int;
    let call = |real| unsafe { transmute::<*mut (), Real>(real)(path, arguments) };
    unsafe { hand_over(resolve::EXECV, path, start::variables(), call) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn execvp(file: *const c_char, arguments: Words) -> c_int {
    type Real = unsafe extern "C" fn(*const c_char, Words) -> c_int;
    let call = |real| unsafe { transmute::<*mut (), Real>(real)(file, arguments) };
    unsafe { hand_over(resolve::EXECVP, file, start::variables(), call) }
}
