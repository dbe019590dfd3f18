//! Confinement of the next child by Landlock, seccomp and the loss of all capabilities. What is to be allowed is prepared
//! before the child exists; the child itself only makes system calls (`Confinement::enter`), between `clone` and `exec`.
//! It has credentials of its own by then, so nothing of this touches a thread of apm.
//!
//! Knows no paths and no policy: `executor::sandbox` decides what is allowed.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// The last capability that a bounding set is searched for; the kernel has 41 so far.
const CAPABILITY_MAX: libc::c_int = 63;

/// The first descriptor that is none of the standard streams.
const FIRST_INHERITED: libc::c_uint = 3;

/// What may be done beneath a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Names in folders may be listed.
    List,
    /// Files may be read and executed, folders listed.
    Read,
    /// Everything but making device files.
    Write,
    /// A device may be read, written and asked.
    Device,
}

/// What is allowed of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// Internet protocols and unix sockets.
    Allowed,
    /// Pairs of sockets that are connected already, and unix sockets that nobody outside can be reached by.
    Off,
}

/// What confines a child. Made by the parent, entered by the child.
#[derive(Debug, Default)]
pub(crate) struct Confinement {
    pub(crate) ruleset: Option<Ruleset>,
    pub(crate) filter: Vec<libc::sock_filter>,
}

/// The step that failed in the child, as it is reported to the parent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Capabilities,
    NoNewPrivileges,
    Landlock,
    Seccomp,
}

impl Step {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Capabilities => "drop its capabilities",
            Self::NoNewPrivileges => "set no_new_privs",
            Self::Landlock => "restrict it by Landlock",
            Self::Seccomp => "filter its system calls",
        }
    }
}

impl Confinement {
    /// Confines the calling process for good.
    ///
    /// # Safety
    ///
    /// Only for a process that is to become another program. Makes system calls only, so it may share the memory of its
    /// parent.
    pub(super) unsafe fn enter(&self) -> Result<(), (Step, libc::c_int)> {
        let number = |step| (step, io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL));
        // SAFETY: system calls with numbers and with pointers to values that outlive them.
        unsafe {
            // What apm itself was given by whoever started it. ENOSYS before Linux 5.9, EINVAL before 5.11: neither has
            // Landlock, and a filter may refuse it.
            libc::syscall(libc::SYS_close_range, FIRST_INHERITED, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
            // Without CAP_SETPCAP the bounding set stays as it is, which matters to nobody: with no_new_privs no exec
            // gives a capability. Numbers that the kernel does not know are refused.
            for capability in 0..=CAPABILITY_MAX {
                if libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 {
                    break;
                }
            }
            // EINVAL before Linux 4.3, which has no ambient set.
            libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
            let header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
            let none = [CapabilitySets::default(); 2];
            if libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) != 0 {
                return Err(number(Step::Capabilities));
            }
            if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
                return Err(number(Step::NoNewPrivileges));
            }
            if let Some(Ruleset { fd, .. }) = &self.ruleset
                && libc::syscall(libc::SYS_landlock_restrict_self, fd.as_raw_fd(), 0) != 0
            {
                return Err(number(Step::Landlock));
            }
            if !self.filter.is_empty() {
                let program = libc::sock_fprog {
                    len: self.filter.len() as libc::c_ushort,
                    filter: self.filter.as_ptr().cast_mut(),
                };
                if libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) != 0 {
                    return Err(number(Step::Seccomp));
                }
            }
        }
        Ok(())
    }
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilitySets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Version of Landlock's ABI here.
pub(crate) fn landlock_abi() -> io::Result<u32> {
    const VERSION: u32 = 1;
    // SAFETY: with this flag the kernel takes no structure and returns a number.
    let abi =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0_usize, VERSION) };
    if abi > 0 { Ok(abi as u32) } else { Err(io::Error::last_os_error()) }
}

/// Whether system calls can be filtered here.
pub(crate) fn seccomp() -> io::Result<()> {
    let action = libc::SECCOMP_RET_ERRNO;
    // SAFETY: reads one number behind the pointer.
    match unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Rights of linux/landlock.h, by the ABI that brought them.
mod right {
    pub(super) const EXECUTE: u64 = 1;
    pub(super) const WRITE_FILE: u64 = 1 << 1;
    pub(super) const READ_FILE: u64 = 1 << 2;
    pub(super) const READ_DIR: u64 = 1 << 3;
    /// All of ABI 1: bits 0 to 12.
    pub(super) const FIRST: u64 = (1 << 13) - 1;
    pub(super) const MAKE_CHAR: u64 = 1 << 6;
    pub(super) const MAKE_BLOCK: u64 = 1 << 11;
    /// ABI 2.
    pub(super) const REFER: u64 = 1 << 13;
    /// ABI 3.
    pub(super) const TRUNCATE: u64 = 1 << 14;
    /// ABI 5.
    pub(super) const IOCTL_DEV: u64 = 1 << 15;
    /// What a file has that is no folder.
    pub(super) const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;
    /// TCP, of ABI 4.
    pub(super) const BIND_AND_CONNECT: u64 = 0b11;
    /// Abstract unix sockets and signals, of ABI 6.
    pub(super) const SCOPES: u64 = 0b11;
}

/// Rules of Landlock: what is not allowed is refused.
#[derive(Debug)]
pub(crate) struct Ruleset {
    fd: OwnedFd,
    handled: u64,
}

#[repr(C)]
struct RulesetAttributes {
    handled_fs: u64,
    handled_net: u64,
    scoped: u64,
}

#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: RawFd,
}

impl Ruleset {
    /// One that allows nothing yet, as far as this ABI can refuse it.
    pub(crate) fn new(abi: u32, network: Network) -> io::Result<Self> {
        let since = |version: u32, rights: u64| if abi >= version { rights } else { 0 };
        let handled = right::FIRST | since(2, right::REFER) | since(3, right::TRUNCATE) | since(5, right::IOCTL_DEV);
        let handled_net = if network == Network::Off { since(4, right::BIND_AND_CONNECT) } else { 0 };
        let scoped = since(6, right::SCOPES);
        let attributes = RulesetAttributes { handled_fs: handled, handled_net, scoped };
        // SAFETY: pointer and size describe the structure. Kernels that know less of it want zeros there.
        let fd = unsafe {
            let size = size_of_val(&attributes);
            libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attributes, size, 0)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor, close-on-exec, that nobody else owns.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd as RawFd) }, handled })
    }

    /// Allows this beneath a path.
    pub(crate) fn allow(&self, path: &Path, access: Access) -> io::Result<()> {
        let what = name(path)?;
        let is_folder = rustix::fs::fstat(&what)?.st_mode & libc::S_IFMT == libc::S_IFDIR;
        self.add(&what, is_folder, access)
    }

    /// Allows reading what is known to be a folder or none: of hundreds of names nobody has to be asked again.
    pub(crate) fn allow_reading(&self, path: &Path, is_folder: bool) -> io::Result<()> {
        self.add(&name(path)?, is_folder, Access::Read)
    }

    fn add(&self, what: &OwnedFd, is_folder: bool, access: Access) -> io::Result<()> {
        let rights = match access {
            Access::List => right::READ_DIR,
            Access::Read => right::EXECUTE | right::READ_FILE | right::READ_DIR,
            Access::Write => !(right::MAKE_CHAR | right::MAKE_BLOCK | right::IOCTL_DEV),
            Access::Device => right::READ_FILE | right::WRITE_FILE | right::TRUNCATE | right::IOCTL_DEV,
        };
        let allowed = rights & self.handled & if is_folder { u64::MAX } else { right::OF_FILES };
        if allowed == 0 {
            return Ok(());
        }
        const BENEATH: libc::c_int = 1;
        let rule = PathBeneath { allowed, parent: what.as_raw_fd() };
        // SAFETY: the rule outlives the call, and its descriptor is open.
        let done =
            unsafe { libc::syscall(libc::SYS_landlock_add_rule, self.fd.as_raw_fd(), BENEATH, &raw const rule, 0) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// Names what is at a path, a link itself, without opening it.
#[expect(clippy::disallowed_methods, reason = "kernel: O_PATH names a file for its rules, and opens nothing")]
fn name(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?)
}

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Flags of clone, unshare and setns that make or enter a namespace.
const NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32
    // CLONE_NEWTIME, of unshare only.
    | 0x80;

/// System calls that no program needs that builds, tests or edits, and that lead around the other rules, or into parts of
/// the kernel whose faults made most of its exploits.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const DENIED: &[libc::c_long] = &[
    // It works on files and sockets past this filter.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // The kernel itself.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    // Keys belong to the user, not to the process.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // What files are where, and files without a path.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
];

/// The filter of system calls, as a program of classic BPF. Of a system call that it always allows the kernel knows that
/// without running it (Linux 5.11); only those whose arguments are looked at cost something.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) fn filter(network: Network) -> Vec<libc::sock_filter> {
    let mut code = Code::default();
    code.load(OFFSET_ARCHITECTURE);
    // 32-bit system calls have other numbers. A program that makes them sees a kernel without.
    code.unless_equal(ARCHITECTURE, libc::ENOSYS);
    code.load(OFFSET_NUMBER);
    #[cfg(target_arch = "x86_64")]
    code.if_at_least(X32, libc::ENOSYS);
    for number in DENIED {
        code.if_equal(*number as u32, libc::EPERM);
    }
    // Its flags lie in memory, where a filter cannot look: the C library takes `clone` instead.
    code.if_equal(libc::SYS_clone3 as u32, libc::ENOSYS);
    code.call(libc::SYS_clone, |code| code.if_any_bit(0, NAMESPACES & !0x80, libc::EPERM));
    code.call(libc::SYS_unshare, |code| code.if_any_bit(0, NAMESPACES, libc::EPERM));
    code.call(libc::SYS_ioctl, |code| {
        code.argument(1);
        // They put characters into the input of a terminal.
        code.if_equal(libc::TIOCSTI as u32, libc::EPERM);
        code.if_equal(TIOCLINUX, libc::EPERM);
    });
    match network {
        Network::Off => {
            code.call(libc::SYS_socket, |code| {
                code.argument(0);
                code.unless_equal(libc::AF_UNIX as u32, libc::EACCES);
                code.is_no_datagram();
            });
            // A datagram is sent to any path without a connection.
            code.call(libc::SYS_socketpair, Code::is_no_datagram);
            // The path lies in memory. Refused, no unix socket of others is reached: the control socket of Docker is root.
            code.if_equal(libc::SYS_connect as u32, libc::EACCES);
        }
        Network::Allowed => code.call(libc::SYS_socket, |code| {
            code.argument(0);
            code.unless_one_of(&[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK], libc::EACCES);
            // Of netlink that is routing, which lists interfaces.
            code.if_equal_then(libc::AF_NETLINK as u32, |code| {
                code.argument(2);
                code.unless_equal(0, libc::EACCES);
                code.argument(0);
            });
            // Of the others neither raw sockets nor multipath TCP, which Landlock does not know as TCP.
            for family in [libc::AF_INET, libc::AF_INET6] {
                code.if_equal_then(family as u32, |code| {
                    code.argument(2);
                    code.unless_one_of(&[0, libc::IPPROTO_TCP, libc::IPPROTO_UDP], libc::EACCES);
                    code.argument(1);
                    code.unless_one_of_masked(TYPE_MASK, &[libc::SOCK_STREAM, libc::SOCK_DGRAM], libc::EACCES);
                    code.argument(0);
                });
            }
        }),
    }
    code.end()
}

/// Elsewhere the numbers of system calls are not known.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn filter(_: Network) -> Vec<libc::sock_filter> {
    Vec::new()
}

/// The system calls of x32 have this bit.
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;
const TIOCLINUX: u32 = 0x541c;
/// The bits of a socket's type that are no flags.
const TYPE_MASK: u32 = 0xf;
/// In `struct seccomp_data`.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;
const OFFSET_ARGUMENTS: u32 = 16;

/// A program of classic BPF that is being written.
#[derive(Default)]
struct Code(Vec<libc::sock_filter>);

impl Code {
    fn push(&mut self, code: u32, k: u32, (jt, jf): (u8, u8)) {
        self.0.push(libc::sock_filter { code: code as u16, jt, jf, k });
    }

    fn load(&mut self, offset: u32) {
        self.push(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, (0, 0));
    }

    /// Loads the low half of an argument: numbers and flags of these calls are `int`, and the kernel looks at no more.
    fn argument(&mut self, at: u32) {
        let low = if cfg!(target_endian = "little") { 0 } else { 4 };
        self.load(OFFSET_ARGUMENTS + 8 * at + low);
    }

    fn refuse(&mut self, error: libc::c_int) {
        self.push(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | error as u32, (0, 0));
    }

    fn jump(&mut self, test: u32, k: u32, ways: (u8, u8)) {
        self.push(libc::BPF_JMP | test | libc::BPF_K, k, ways);
    }

    fn if_equal(&mut self, value: u32, error: libc::c_int) {
        self.jump(libc::BPF_JEQ, value, (0, 1));
        self.refuse(error);
    }

    fn unless_equal(&mut self, value: u32, error: libc::c_int) {
        self.jump(libc::BPF_JEQ, value, (1, 0));
        self.refuse(error);
    }

    #[cfg(target_arch = "x86_64")]
    fn if_at_least(&mut self, value: u32, error: libc::c_int) {
        self.jump(libc::BPF_JGE, value, (0, 1));
        self.refuse(error);
    }

    fn if_any_bit(&mut self, argument: u32, bits: u32, error: libc::c_int) {
        self.argument(argument);
        self.jump(libc::BPF_JSET, bits, (0, 1));
        self.refuse(error);
    }

    fn unless_one_of(&mut self, values: &[libc::c_int], error: libc::c_int) {
        for (at, value) in values.iter().enumerate() {
            self.jump(libc::BPF_JEQ, *value as u32, ((values.len() - at) as u8, 0));
        }
        self.refuse(error);
    }

    fn unless_one_of_masked(&mut self, mask: u32, values: &[libc::c_int], error: libc::c_int) {
        self.push(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, mask, (0, 0));
        self.unless_one_of(values, error);
    }

    fn is_no_datagram(&mut self) {
        self.argument(1);
        self.unless_one_of_masked(TYPE_MASK, &[libc::SOCK_STREAM, libc::SOCK_SEQPACKET], libc::EACCES);
    }

    /// Where this is loaded, also that.
    fn if_equal_then(&mut self, value: u32, then: impl FnOnce(&mut Self)) {
        self.jump(libc::BPF_JEQ, value, (0, 0));
        let start = self.0.len();
        then(self);
        let skipped = (self.0.len() - start) as u8;
        self.0[start - 1].jf = skipped;
    }

    /// What is done at one system call, whose number is loaded; it is allowed where nothing in there refuses it.
    fn call(&mut self, number: libc::c_long, look: impl FnOnce(&mut Self)) {
        self.if_equal_then(number as u32, |code| {
            look(code);
            code.allow();
        });
    }

    fn allow(&mut self) {
        self.push(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, (0, 0));
    }

    fn end(mut self) -> Vec<libc::sock_filter> {
        self.allow();
        self.0
    }
}
