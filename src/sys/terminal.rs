//! The size of the terminal.

#![allow(unsafe_code)]

/// Columns of the terminal on standard error or output, if one of them is a terminal that knows.
pub(crate) fn width() -> Option<u16> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    [2, 1].into_iter().find_map(|fd| {
        // SAFETY: `size` is valid for writes and of the type this request fills.
        let known = unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &raw mut size) } == 0;
        (known && size.ws_col > 0).then_some(size.ws_col)
    })
}
