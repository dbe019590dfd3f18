//! Makes a process, by `clone` with the memory of the parent until it executes its program, as `vfork` and `posix_spawn`
//! do: never by `fork`, whose cost grows with the memory of apm (measured 46 to 195 ms a start at 1 GiB).
//!
//! Not by `posix_spawn` itself, for three reasons. It cannot let the child join a control group before its first
//! instruction; a program of ours in between did that, at the price of a second exec. It gives no pidfd, so that asking
//! for one is another call that can fail when the child is already there. And it maps a stack for each start and unmaps
//! it again, which with two threads that start processes cost 3 % of the time of `/bin/true`.
//!
//! The thread that launches waits until the child has executed its program: launch from as many threads as children are
//! to start at once.

#![allow(unsafe_code)]

use std::cell::{Cell, OnceCell};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::OnceLock;

use crate::sys::confine::{Confinement, Step};

/// Bytes of stack for what the child does before its program: a few system calls.
const STACK: usize = 64 << 10;
/// Bytes below the stack that may not be touched; a multiple of the pages of every machine.
const GUARD: usize = 64 << 10;
/// The exit code of a child that could not become its program. Nobody sees it.
const FAILED: c_int = 127;

/// What a child does before it becomes its program. The child shares the memory of its parent: all of it is prepared, and
/// nothing is allocated or locked there.
#[derive(Debug)]
pub(super) struct Launch<'a> {
    pub(super) program: &'a CStr,
    pub(super) argv: Pointers<'a>,
    pub(super) env: Pointers<'a>,
    pub(super) cwd: Option<&'a CStr>,
    /// What it has of its own; else it has what apm has, and signals that apm ignores stay ignored.
    pub(super) own: Option<Own>,
    /// A descriptor that the program has too.
    pub(super) also: Option<RawFd>,
    /// Files of control groups that a process joins by writing to them.
    pub(super) joins: &'a [RawFd],
    /// What confines it.
    pub(super) confinement: Option<&'a Confinement>,
}

/// What a process has that is to be apart from apm: a process group, every signal at its default, and no terminal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    /// What becomes its descriptors 0, 1 and 2, and none of these numbers itself.
    pub(super) streams: [RawFd; 3],
    /// The controlling terminal of apm, which it gives up.
    pub(super) terminal: Option<RawFd>,
}

/// An array as exec takes it: pointers to strings, and a null pointer at its end.
#[derive(Debug)]
pub(super) struct Pointers<'a>(Vec<*const c_char>, std::marker::PhantomData<&'a CStr>);

impl<'a> FromIterator<&'a CStr> for Pointers<'a> {
    fn from_iter<I: IntoIterator<Item = &'a CStr>>(strings: I) -> Self {
        let pointers = strings.into_iter().map(CStr::as_ptr).chain([ptr::null()]);
        Self(pointers.collect(), std::marker::PhantomData)
    }
}

/// What keeps a child from becoming its program.
#[derive(Clone, Copy, Debug)]
enum Failed {
    /// Joining a control group.
    Join(c_int),
    /// Being confined.
    Confine(Step, c_int),
    /// Anything else.
    Other(c_int),
}

/// What the child gets, and leaves for its parent.
struct Shared<'a> {
    launch: &'a Launch<'a>,
    /// Signals that apm ignores.
    ignored: &'static [c_int],
    /// The kernel has reset the signals that apm catches.
    has_no_handlers: Cell<bool>,
    failed: Cell<Option<Failed>>,
}

/// A child.
pub(super) struct Launched {
    pub(super) pid: i32,
    /// Absent where the kernel gave none.
    pub(super) pidfd: Option<OwnedFd>,
    /// Why it has not become its program: it has ended, and is to be waited for.
    pub(super) failed: Option<io::Error>,
}

impl Launch<'_> {
    /// Makes the child.
    pub(super) fn start(&self) -> io::Result<Launched> {
        let shared =
            Shared { launch: self, ignored: ignored(), has_no_handlers: Cell::new(false), failed: Cell::new(None) };
        let (pid, pidfd) = STACKS.with(|stack| {
            let stack = match stack.get() {
                Some(stack) => stack,
                None => {
                    let new = Stack::new()?;
                    stack.get_or_init(|| new)
                }
            };
            // A handler of ours must not run in the child, with our memory: it unblocks them when it has reset them.
            let _blocked = Blocked::all();
            shared.clone(stack)
        })?;
        let failed = shared.failed.get().map(|failed| match failed {
            Failed::Other(number) => io::Error::from_raw_os_error(number),
            Failed::Join(number) => {
                io::Error::other(format!("join its control group: {}", io::Error::from_raw_os_error(number)))
            }
            Failed::Confine(step, number) => {
                io::Error::other(format!("{}: {}", step.as_str(), io::Error::from_raw_os_error(number)))
            }
        });
        Ok(Launched { pid, pidfd, failed })
    }
}

type Made = (i32, Option<OwnedFd>);

impl Shared<'_> {
    fn clone(&self, stack: &Stack) -> io::Result<Made> {
        match self.clone3(stack) {
            // Kernels before 5.5, and filters that do not know it.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM | libc::EINVAL)) => {
                self.clone_by_library(stack)
            }
            made => made,
        }
    }

    fn clone_by_library(&self, stack: &Stack) -> io::Result<Made> {
        self.has_no_handlers.set(false);
        let mut pidfd: c_int = -1;
        let flags = FLAGS | libc::SIGCHLD;
        // SAFETY: the child runs `become_program` on a stack that nobody else uses: it belongs to this thread, which the
        // kernel lets wait (CLONE_VFORK) until the child has executed its program or ended. `self` and `pidfd` outlive the call.
        let pid = unsafe {
            let this = ptr::from_ref(self).cast_mut().cast::<c_void>();
            libc::clone(become_program, stack.top(), flags, this, &raw mut pidfd)
        };
        if pid < 0 { Err(io::Error::last_os_error()) } else { Ok((pid, owned(pidfd))) }
    }

    /// By the system call that resets the signals which apm catches: one by one that takes 60 calls, 2 % of the time of
    /// `/bin/true`. The C library has no function for it.
    #[cfg(target_arch = "x86_64")]
    fn clone3(&self, stack: &Stack) -> io::Result<Made> {
        self.has_no_handlers.set(true);
        let mut pidfd: c_int = -1;
        // SAFETY: plain numbers, for which zero means nothing.
        let mut arguments: libc::clone_args = unsafe { MaybeUninit::zeroed().assume_init() };
        arguments.flags = FLAGS as u64 | CLONE_CLEAR_SIGHAND;
        arguments.pidfd = &raw mut pidfd as u64;
        arguments.exit_signal = libc::SIGCHLD as u64;
        arguments.stack = stack.bottom() as u64;
        arguments.stack_size = STACK as u64;
        let run: extern "C" fn(*mut c_void) -> c_int = become_program;
        let pid: i64;
        // SAFETY: as in `clone_by_library`. The child, which gets zero, is on the new stack, aligned as a call wants it, and never
        // comes back from `become_program`; the parent goes on behind it with its own registers.
        unsafe {
            std::arch::asm!(
                "syscall",
                "test rax, rax",
                "jnz 2f",
                "xor ebp, ebp",
                "mov rdi, {this}",
                "call {run}",
                "ud2",
                "2:",
                this = in(reg) ptr::from_ref(self),
                run = in(reg) run,
                inlateout("rax") libc::SYS_clone3 => pid,
                in("rdi") &raw const arguments,
                in("rsi") size_of_val(&arguments),
                out("rcx") _,
                out("r11") _,
                options(nostack),
            );
        }
        if pid < 0 { Err(io::Error::from_raw_os_error(-pid as i32)) } else { Ok((pid as i32, owned(pidfd))) }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn clone3(&self, _: &Stack) -> io::Result<Made> {
        Err(io::Error::from_raw_os_error(libc::ENOSYS))
    }
}

const FLAGS: c_int = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD;
/// Since Linux 5.5, of clone3 only.
#[cfg(target_arch = "x86_64")]
const CLONE_CLEAR_SIGHAND: u64 = 1 << 32;

fn owned(pidfd: c_int) -> Option<OwnedFd> {
    // SAFETY: the kernel has made the descriptor for us, with close-on-exec.
    (pidfd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(pidfd) })
}

/// Signals that apm ignores: those that it was started to ignore, and SIGPIPE. It never changes that.
fn ignored() -> &'static [c_int] {
    static IGNORED: OnceLock<Vec<c_int>> = OnceLock::new();
    IGNORED.get_or_init(|| (1..=libc::SIGRTMAX()).filter(|number| super::signal::is_ignored(*number)).collect())
}

/// What the child runs. It never returns.
extern "C" fn become_program(shared: *mut c_void) -> c_int {
    // SAFETY: `Shared::clone` passes a pointer to itself and waits. Only system calls are made, by wrappers of the C
    // library that neither lock nor allocate; they leave `errno` to the parent, whose call of clone has not returned yet.
    unsafe {
        let shared = &*shared.cast::<Shared<'_>>();
        shared.failed.set(Some(prepare_and_execute(shared)));
        libc::_exit(FAILED)
    }
}

/// Returns only what keeps it from executing the program.
///
/// # Safety
///
/// Only for a process that is to become the program.
unsafe fn prepare_and_execute(shared: &Shared<'_>) -> Failed {
    let launch = shared.launch;
    let number = || io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL);
    // SAFETY: system calls with numbers and with pointers into `launch`; the arrays end with null pointers.
    unsafe {
        if !shared.has_no_handlers.get() {
            (1..=libc::SIGRTMAX()).filter(|number| !shared.ignored.contains(number)).for_each(|number| reset(number));
        }
        if launch.own.is_some() {
            shared.ignored.iter().for_each(|number| reset(*number));
        }
        if let Some(Own { streams, terminal }) = launch.own {
            // By a session of its own only where it cannot be rid of the terminal otherwise (it has hung up): the kernel
            // makes a scheduling group for each session (sched_autogroup), so that nice levels would mean nothing between
            // tasks, a run would get the CPU time of as many users as it has tasks, and each start cost 4 % more.
            let is_rid = terminal.is_none_or(|terminal| libc::ioctl(terminal, libc::TIOCNOTTY) == 0);
            if (if is_rid { libc::setpgid(0, 0) } else { libc::setsid() }) < 0 {
                return Failed::Other(number());
            }
            for (to, from) in streams.into_iter().enumerate() {
                if libc::dup2(from, to as c_int) < 0 {
                    return Failed::Other(number());
                }
            }
        }
        if launch.also.is_some_and(|also| libc::fcntl(also, libc::F_SETFD, 0) < 0) {
            return Failed::Other(number());
        }
        if launch.cwd.is_some_and(|cwd| libc::chdir(cwd.as_ptr()) < 0) {
            return Failed::Other(number());
        }
        for join in launch.joins {
            // `0` is whoever writes.
            if libc::write(*join, c"0".as_ptr().cast(), 1) != 1 {
                return Failed::Join(number());
            }
        }
        // Last: a confined child may neither join a group nor enter a folder of others.
        if let Some(Err((step, number))) = launch.confinement.map(|confinement| confinement.enter()) {
            return Failed::Confine(step, number);
        }
        let mut none = MaybeUninit::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
        libc::execve(launch.program.as_ptr(), launch.argv.0.as_ptr(), launch.env.0.as_ptr());
    }
    Failed::Other(number())
}

/// Sets a signal to its default. Those of the C library itself are refused; for them exec does it.
///
/// # Safety
///
/// Only for a process that is to become another program, with all signals blocked.
unsafe fn reset(number: c_int) {
    // SAFETY: all zero is a valid sigaction, the default.
    unsafe {
        let default: libc::sigaction = MaybeUninit::zeroed().assume_init();
        libc::sigaction(number, &raw const default, ptr::null_mut());
    }
}

/// All signals of this thread are blocked while this value lives.
struct Blocked(libc::sigset_t);

impl Blocked {
    fn all() -> Self {
        let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: the first call fills `all`, the second reads it and fills `before`; with these arguments neither fails.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            Self(before.assume_init())
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: the set was filled by the kernel.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, ptr::null_mut()) };
    }
}

thread_local! {
    /// Kept from one start to the next.
    static STACKS: OnceCell<Stack> = const { OnceCell::new() };
}

/// A stack with a guard below.
struct Stack(*mut c_void);

impl Stack {
    fn new() -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at no particular place, the upper part of which is made usable.
        unsafe {
            let base = libc::mmap(ptr::null_mut(), GUARD + STACK, libc::PROT_NONE, flags, -1, 0);
            if base == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            let stack = Self(base);
            if libc::mprotect(base.byte_add(GUARD), STACK, libc::PROT_READ | libc::PROT_WRITE) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(stack)
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn bottom(&self) -> *mut c_void {
        // SAFETY: within the mapping.
        unsafe { self.0.byte_add(GUARD) }
    }

    fn top(&self) -> *mut c_void {
        // SAFETY: the end of the mapping.
        unsafe { self.0.byte_add(GUARD + STACK) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the whole mapping, made in `new` and used by nobody: each child on it has ended or become its program.
        unsafe { libc::munmap(self.0, GUARD + STACK) };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsRawFd;

    use super::*;

    /// Kernels before 5.5, filters and other machines than x86_64 have the second one only.
    #[test]
    fn by_either_system_call_a_child_starts_clean() {
        let mut said = Vec::new();
        for is_old in [false, true] {
            let (mut output, theirs) = std::io::pipe().expect("a pipe");
            let null = std::fs::File::open("/dev/null").expect("opened");
            let script = c"grep -E 'Sig(Blk|Ign|Cgt)' /proc/self/status; ls /proc/self/fd; echo $A; exit 7";
            let streams = [null.as_raw_fd(), theirs.as_raw_fd(), null.as_raw_fd()];
            let launch = Launch {
                program: c"/bin/sh",
                argv: [c"sh", c"-c", script].into_iter().collect(),
                env: [c"PATH=/usr/bin:/bin", c"A=1"].into_iter().collect(),
                cwd: None,
                own: Some(Own { streams, terminal: None }),
                also: None,
                joins: &[],
                confinement: None,
            };
            let shared = Shared {
                launch: &launch,
                ignored: ignored(),
                has_no_handlers: Cell::new(false),
                failed: Cell::new(None),
            };
            let stack = Stack::new().expect("a stack");
            let blocked = Blocked::all();
            let made = if is_old { shared.clone_by_library(&stack) } else { shared.clone(&stack) };
            let (pid, pidfd) = made.expect("a child");
            drop((blocked, theirs));
            assert!(shared.failed.get().is_none() && pidfd.is_some());
            let mut text = String::new();
            output.read_to_string(&mut text).expect("its output");
            let mut status = 0;
            // SAFETY: our own child; `status` is valid for writes.
            assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
            assert_eq!(libc::WEXITSTATUS(status), 7);
            said.push(text);
        }
        assert_eq!(said[0], said[1]);
        // 32 and 33 belong to the C library; what was ignored before cannot be reset through it.
        let ignored = said[0].lines().find_map(|line| line.strip_prefix("SigIgn:\t")).expect("a line");
        let ignored = u64::from_str_radix(ignored, 16).expect("a mask");
        assert!(ignored & !(0b11 << 31) == 0 && said[0].ends_with("\n1\n"), "{}", said[0]);
    }
}
