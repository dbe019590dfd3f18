//! The size of the terminal, and whether whoever reads a stream can make its writer wait.

#![allow(unsafe_code)]

use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;

/// Columns of the terminal on standard error or output, if one of them is a terminal that knows.
pub(crate) fn width() -> Option<u16> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    [2, 1].into_iter().find_map(|fd| {
        // SAFETY: `size` is valid for writes and of the type this request fills.
        let known = unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &raw mut size) } == 0;
        (known && size.ws_col > 0).then_some(size.ws_col)
    })
}

/// Whether writing to it may wait for a reader: a terminal, a pipe, a socket.
pub(crate) fn may_stall(stream: &impl AsFd) -> bool {
    let kind = || Some(File::from(stream.as_fd().try_clone_to_owned().ok()?).metadata().ok()?.file_type());
    stream.as_fd().is_terminal() || kind().is_some_and(|kind| kind.is_fifo() || kind.is_socket())
}
