//! The functions that ours stand before: the next definition of the same name behind this library.
//!
//! Read from the tables of the loaded objects, not asked of `dlsym`: that one is in a library of its own before glibc
//! 2.34, allocates, and would be called from inside `malloc`.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU8, Ordering};

use crate::heap;

macro_rules! names {
    ($($index:ident $name:literal)*) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        #[repr(usize)]
        enum Index { $($index),* }
        $(pub const $index: usize = Index::$index as usize;)*
        const NAMES: &[&CStr] = &[$($name),*];
    };
}

names! {
    MALLOC c"malloc" FREE c"free" CALLOC c"calloc" REALLOC c"realloc" REALLOCARRAY c"reallocarray"
    MEMALIGN c"memalign" POSIX_MEMALIGN c"posix_memalign" ALIGNED_ALLOC c"aligned_alloc" VALLOC c"valloc"
    PVALLOC c"pvalloc"
    CLOCK_GETTIME c"clock_gettime" FORK c"fork" EXIT c"_exit" EXIT_C c"_Exit"
    PTHREAD_CREATE c"pthread_create" PTHREAD_EXIT c"pthread_exit" SIGACTION c"sigaction" SIGNAL c"signal"
    READ c"read" READ_CHK c"__read_chk" WRITE c"write" PREAD c"pread" PREAD64 c"pread64" PREAD_CHK c"__pread_chk"
    PREAD64_CHK c"__pread64_chk" PWRITE c"pwrite" PWRITE64 c"pwrite64" READV c"readv" WRITEV c"writev"
    PREADV c"preadv" PREADV64 c"preadv64" PWRITEV c"pwritev" PWRITEV64 c"pwritev64"
    SEND c"send" RECV c"recv" RECV_CHK c"__recv_chk" SENDTO c"sendto" RECVFROM c"recvfrom"
    RECVFROM_CHK c"__recvfrom_chk" SENDMSG c"sendmsg" RECVMSG c"recvmsg" SENDFILE c"sendfile"
    SENDFILE64 c"sendfile64" FSYNC c"fsync" FDATASYNC c"fdatasync" CONNECT c"connect" ACCEPT c"accept"
    ACCEPT4 c"accept4" EXECVE c"execve" EXECVPE c"execvpe" EXECV c"execv" EXECVP c"execvp" CLOSE c"close" DUP2 c"dup2" DUP3 c"dup3" FCLOSE c"fclose" FILENO c"fileno"
}

const COUNT: usize = NAMES.len();

/// By index. `free` may be the first call of all, and its fast path jumps without asking.
pub static REAL: [AtomicPtr<()>; COUNT] = {
    let mut real = [const { AtomicPtr::new(null_mut()) }; COUNT];
    real[FREE] = AtomicPtr::new(heap::free_slow as *const () as *mut ());
    real
};

static IS_DONE: AtomicU8 = AtomicU8::new(0);

/// The function behind ours.
pub fn real(index: usize) -> Option<*mut ()> {
    let found = REAL.get(index)?.load(Ordering::Relaxed);
    if found.is_null() { None } else { Some(found) }
}

/// Finds them all. Twice does no harm: the answer is the same.
pub fn all() {
    if IS_DONE.load(Ordering::Acquire) != 0 {
        return;
    }
    unsafe extern "C" {
        // Weak (see `arch`): its address may be null, and the compiler must not know better.
        fn dl_iterate_phdr(
            each: unsafe extern "C" fn(*const Info, usize, *mut c_void) -> c_int,
            data: *mut c_void,
        ) -> c_int;
    }
    let address = core::hint::black_box(dl_iterate_phdr as *const ());
    let mut found = [null_mut::<()>(); COUNT];
    let mut search = Search { found: &mut found, is_behind_us: false };
    if !address.is_null() {
        unsafe { dl_iterate_phdr(each, (&raw mut search).cast()) };
    }
    for (slot, found) in REAL.iter().zip(found) {
        if !found.is_null() {
            slot.store(found, Ordering::Relaxed);
        }
    }
    IS_DONE.store(1, Ordering::Release);
}

struct Search<'a> {
    found: &'a mut [*mut (); COUNT],
    is_behind_us: bool,
}

/// `struct dl_phdr_info`.
#[repr(C)]
struct Info {
    base: usize,
    name: *const c_char,
    headers: *const Header,
    count: u16,
}

/// `Elf64_Phdr`.
#[repr(C)]
struct Header {
    kind: u32,
    flags: u32,
    offset: u64,
    address: usize,
    physical: u64,
    file_size: u64,
    memory_size: usize,
    align: u64,
}

/// `Elf64_Sym`.
#[repr(C)]
struct Symbol {
    name: u32,
    info: u8,
    other: u8,
    section: u16,
    value: usize,
    size: u64,
}

unsafe extern "C" fn each(info: *const Info, _: usize, search: *mut c_void) -> c_int {
    const LOAD: u32 = 1;
    const DYNAMIC: u32 = 2;
    unsafe {
        let (info, search) = (&*info, &mut *search.cast::<Search<'_>>());
        let headers = core::slice::from_raw_parts(info.headers, info.count.into());
        let here = (&raw const IS_DONE) as usize;
        let is_here = headers
            .iter()
            .any(|h| h.kind == LOAD && here.wrapping_sub(info.base.wrapping_add(h.address)) < h.memory_size);
        if is_here {
            search.is_behind_us = true;
        } else if search.is_behind_us
            && let Some(dynamic) = headers.iter().find(|h| h.kind == DYNAMIC)
            && let Some(table) = Table::read(info.base, info.base.wrapping_add(dynamic.address) as *const [usize; 2])
        {
            for (found, name) in search.found.iter_mut().zip(NAMES) {
                if found.is_null() {
                    *found = table.find(name).unwrap_or(null_mut());
                }
            }
        }
    }
    0
}

/// The dynamic symbols of one object.
struct Table {
    base: usize,
    symbols: *const Symbol,
    strings: *const c_char,
    versions: *const u16,
    gnu: *const u32,
    sysv: *const u32,
}

impl Table {
    unsafe fn read(base: usize, mut entry: *const [usize; 2]) -> Option<Self> {
        let mut table = Self {
            base,
            symbols: null_mut(),
            strings: null_mut(),
            versions: null_mut(),
            gnu: null_mut(),
            sysv: null_mut(),
        };
        loop {
            let [tag, value] = unsafe { entry.read() };
            // glibc has made addresses of them, musl leaves them relative; the vdso is never mentioned here.
            let at = if value < base { value.wrapping_add(base) } else { value };
            match tag {
                0 => break,
                4 => table.sysv = at as *const u32,
                5 => table.strings = at as *const c_char,
                6 => table.symbols = at as *const Symbol,
                0x6fff_fef5 => table.gnu = at as *const u32,
                0x6fff_fff0 => table.versions = at as *const u16,
                _ => {}
            }
            entry = unsafe { entry.add(1) };
        }
        let is_usable = !table.symbols.is_null() && !table.strings.is_null();
        (is_usable && !(table.gnu.is_null() && table.sysv.is_null())).then_some(table)
    }

    unsafe fn find(&self, name: &CStr) -> Option<*mut ()> {
        unsafe { if self.gnu.is_null() { self.find_sysv(name) } else { self.find_gnu(name) } }
    }

    unsafe fn find_gnu(&self, name: &CStr) -> Option<*mut ()> {
        let hash =
            name.to_bytes().iter().fold(5381_u32, |hash, byte| hash.wrapping_mul(33).wrapping_add(u32::from(*byte)));
        unsafe {
            let head = |index: usize| *self.gnu.add(index);
            let (buckets, first, words, shift) = (head(0), head(1), head(2) as usize, head(3));
            let filter = self.gnu.add(4).cast::<u64>();
            let chains = self.gnu.add(4 + 2 * words + buckets as usize);
            if buckets == 0 || words == 0 {
                return None;
            }
            let word = *filter.add((hash as usize / 64) & (words - 1));
            if word >> (hash % 64) & word >> ((hash >> (shift & 31)) % 64) & 1 == 0 {
                return None;
            }
            let mut index = head(4 + 2 * words + (hash % buckets) as usize);
            if index < first {
                return None;
            }
            loop {
                let chain = *chains.add((index - first) as usize);
                if chain | 1 == hash | 1
                    && let Some(found) = self.symbol(index as usize, name)
                {
                    return Some(found);
                }
                if chain & 1 == 1 {
                    return None;
                }
                index += 1;
            }
        }
    }

    unsafe fn find_sysv(&self, name: &CStr) -> Option<*mut ()> {
        let hash = name.to_bytes().iter().fold(0_u32, |hash, byte| {
            let hash = (hash << 4).wrapping_add(u32::from(*byte));
            (hash ^ (hash & 0xf000_0000) >> 24) & 0x0fff_ffff
        });
        unsafe {
            let (buckets, chains) = (*self.sysv, self.sysv.add(2 + *self.sysv as usize));
            if buckets == 0 {
                return None;
            }
            let mut index = *self.sysv.add(2 + (hash % buckets) as usize);
            while index != 0 {
                if let Some(found) = self.symbol(index as usize, name) {
                    return Some(found);
                }
                index = *chains.add(index as usize);
            }
            None
        }
    }

    /// The function at this index if it has this name, is defined, and is what new programs are bound to.
    unsafe fn symbol(&self, index: usize, name: &CStr) -> Option<*mut ()> {
        const FUNCTION: u8 = 2;
        const INDIRECT: u8 = 10;
        const HIDDEN: u16 = 0x8000;
        unsafe {
            let symbol = &*self.symbols.add(index);
            let kind = symbol.info & 0xf;
            let is_old = !self.versions.is_null() && *self.versions.add(index) & HIDDEN != 0;
            let is_defined = symbol.section != 0 && symbol.info >> 4 != 0 && (kind == FUNCTION || kind == INDIRECT);
            if !is_defined || is_old || CStr::from_ptr(self.strings.add(symbol.name as usize)) != name {
                return None;
            }
            let address = self.base.wrapping_add(symbol.value) as *mut ();
            if kind != INDIRECT {
                return Some(address);
            }
            // The object is relocated by now: its chooser may run. `clock_gettime` is such a one on some builds.
            let choose = core::mem::transmute::<*mut (), extern "C" fn(usize) -> *mut ()>(address);
            Some(choose(0))
        }
    }
}
