//! The packed file: gzip around the message, and why bytes are none.

use std::io::{self, Read, Write};

use crate::report::profile::pprof::protobuf::Flaw;

/// Bytes that a packed file may have unpacked.
pub(crate) const UNPACKED_MAX: u64 = 512 << 20;

/// Why bytes are no profile of this format.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PprofError {
    #[error("gzip: {0}")]
    Gzip(std::io::Error),
    #[error("more than {UNPACKED_MAX} bytes when unpacked")]
    Large,
    #[error("not a pprof file: {0}")]
    Message(FlawOf),
    #[error("not a pprof file: {0}")]
    Meaning(String),
}

/// What is wrong with the bytes.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct FlawOf(Flaw);

impl From<Flaw> for PprofError {
    fn from(flaw: Flaw) -> Self {
        Self::Message(FlawOf(flaw))
    }
}

/// Packs what is written with gzip.
pub(super) fn gzip(out: &mut dyn Write, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut packed = flate2::write::GzEncoder::new(out, flate2::Compression::new(4));
    write(&mut packed)?;
    packed.finish().map(drop)
}

/// Unpacks gzip up to [`UNPACKED_MAX`].
pub(crate) fn gunzip(bytes: &[u8]) -> Result<Vec<u8>, PprofError> {
    let mut out = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes).take(UNPACKED_MAX + 1).read_to_end(&mut out).map_err(PprofError::Gzip)?;
    if out.len() as u64 > UNPACKED_MAX { Err(PprofError::Large) } else { Ok(out) }
}
