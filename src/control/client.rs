//! Asks a running run over its control socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::control::protocol::{self, ControlReply, ControlRequest, LINE_MAX, SOCKET};
use crate::sys::beneath::Folder;
use crate::sys::owner;

/// A run that does not answer for so long is stopped (Ctrl-Z) or broken. A large plan takes a while to be added.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to a run.
pub(crate) struct ControlClient {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
}

/// Why a run cannot be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// Nobody listens in its folder.
    #[error("nobody listens on its control socket")]
    NobodyListens,
    #[error("{0}")]
    Refused(String),
    #[error("it does not answer: {0}")]
    Silent(io::Error),
}

impl ControlClient {
    /// Connects to the run in this folder.
    pub(crate) fn connect(folder: &Path) -> Result<Self, AskError> {
        let connect = || {
            let folder = Folder::own(folder)?;
            owner::judge(&folder.path().join(SOCKET), &folder.metadata(Path::new(SOCKET))?)?;
            UnixStream::connect(folder.short_path(SOCKET))
        };
        let stream = connect().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AskError::NobodyListens,
            _ => AskError::Silent(error),
        })?;
        let prepared = stream
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
            .and_then(|()| stream.try_clone());
        Ok(Self { reader: BufReader::new(prepared.map_err(AskError::Silent)?), stream })
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask(&mut self, request: ControlRequest) -> Result<ControlReply, AskError> {
        let line = protocol::written(request).map_err(|error| AskError::Silent(error.into()))?;
        // A run that refuses at once may close before all was sent: its answer says why.
        let sent = self.stream.write_all(&line).and_then(|()| self.stream.write_all(b"\n"));
        let mut answer = Vec::new();
        let read = Read::take(&mut self.reader, LINE_MAX).read_until(b'\n', &mut answer);
        if answer.last() != Some(&b'\n') {
            let ended = io::Error::from(io::ErrorKind::UnexpectedEof);
            return Err(AskError::Silent(sent.err().or(read.err()).unwrap_or(ended)));
        }
        match serde_json::from_slice(&answer) {
            Ok(ControlReply::Refused { reason }) => Err(AskError::Refused(reason)),
            Ok(reply) => Ok(reply),
            Err(error) => Err(AskError::Silent(error.into())),
        }
    }
}
