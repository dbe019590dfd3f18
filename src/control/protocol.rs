//! What is said over the control socket of a run: one JSON document a line, a reply for each request.

use serde::{Deserialize, Serialize};

use crate::model::bytestring::ByteString;
use crate::model::edit::Edit;
use crate::model::id::TaskId;
use crate::model::task::Task;
use crate::model::waiting::WaitingTask;

/// Version of the protocol: both sides must have the same.
const VERSION: u32 = 1;
/// The name of the socket in the folder of a run.
pub(crate) const SOCKET: &str = "control";
/// Longest line: 100,000 tasks that are added at once are about 30 MiB.
pub(crate) const LINE_MAX: u64 = 64 << 20;

/// A request as it is sent.
#[derive(Debug, Serialize, Deserialize)]
struct Message {
    v: u32,
    request: ControlRequest,
}

/// What can be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ControlRequest {
    /// Change the plan.
    Edit { edit: Edit },
    /// Add tasks, all of them or none.
    Add { tasks: Vec<Task> },
    /// What does every unfinished task wait for?
    Waiting {},
    /// What has the running attempt of a task printed, to standard output and standard error, from these positions on?
    Output { task: TaskId, from: [u64; 2] },
}

/// Reads a request, or says why it is none.
pub(crate) fn read(line: &[u8]) -> Result<ControlRequest, String> {
    let Message { v, request } = serde_json::from_slice(line).map_err(|error| format!("not a request: {error}"))?;
    if v != VERSION {
        return Err(format!("protocol version {v}, the run speaks {VERSION}; use the apm that runs it"));
    }
    Ok(request)
}

/// The line of a request, without its end.
pub(crate) fn written(request: ControlRequest) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Message { v: VERSION, request })
}

/// The answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ControlReply {
    Done {},
    Refused {
        reason: String,
    },
    Waiting {
        tasks: Vec<WaitingTask>,
    },
    /// `attempt` is absent where none runs.
    Output {
        attempt: Option<u32>,
        streams: Vec<StreamPiece>,
    },
}

/// A piece of a stream.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StreamPiece {
    /// Position of its first byte; more than was asked for where what lay between is lost.
    pub(crate) offset: u64,
    pub(crate) bytes: ByteString,
}
