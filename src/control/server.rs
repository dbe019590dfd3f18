//! Answers on the control socket of a run. Only the user of the run is answered, whatever the mode of the socket: the kernel
//! tells who the peer is. Threads of its own, few and bounded: neither garbage nor a flood nor a client that stops reading
//! holds the run up.

use std::fs::Permissions;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::control::protocol::{self, ControlReply, ControlRequest, LINE_MAX, SOCKET, StreamPiece};
use crate::engine::dispatch::RunHandle;
use crate::model::edit::Origin;
use crate::model::task::Task;
use crate::sys::beneath::Folder;
use crate::sys::peer;

/// Clients at once; more are refused.
const CLIENTS_MAX: usize = 16;
/// A client that says or takes nothing for so long is let go.
const PATIENCE: Duration = Duration::from_secs(30);
/// Requests of one client in a second; more wait.
const RATE_MAX: u32 = 500;
/// How long the end of a run waits for answers that are on their way. Whoever cancels a run shall hear that it is done; a
/// client that does not read shall not keep it.
const LAST_ANSWERS_MAX: Duration = Duration::from_secs(1);
/// Stack of a thread that answers.
const STACK: usize = 256 << 10;

/// Gives a task that joins what the settings of the run say and it leaves open.
pub(crate) type Complete = Box<dyn Fn(&mut Task) + Send + Sync>;

/// A socket that listens, before anybody is answered.
pub(crate) struct ControlSocket {
    listener: UnixListener,
    folder: Folder,
}

/// Answers until it is dropped.
pub(crate) struct ControlServer {
    folder: Folder,
    over: Arc<AtomicBool>,
    shared: Arc<Shared>,
}

impl ControlSocket {
    /// Listens in the folder of a run. What a run that was killed has left there is replaced: whoever holds the run's lock
    /// owns its socket.
    #[expect(clippy::disallowed_methods, reason = "own: the folder of the run")]
    pub(crate) fn bind(folder: &Path) -> io::Result<Self> {
        let folder = Folder::own(folder)?;
        match folder.remove_file(Path::new(SOCKET)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // The path of a socket has at most 107 bytes, that of a folder may have more.
        let path = folder.short_path(SOCKET);
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(Self { listener, folder })
    }

    /// Starts to answer.
    pub(crate) fn serve(self, run: Arc<dyn RunHandle>, complete: Complete) -> io::Result<ControlServer> {
        let over = Arc::new(AtomicBool::new(false));
        let listener = self.listener;
        let (answering, answered) = (Mutex::new(0), Condvar::new());
        let shared = Arc::new(Shared { run, complete, clients: AtomicUsize::new(0), answering, answered });
        let server = ControlServer { folder: self.folder, over: Arc::clone(&over), shared: Arc::clone(&shared) };
        let accept = move || {
            for stream in listener.incoming() {
                if over.load(Ordering::Acquire) {
                    return;
                }
                match stream {
                    Ok(stream) => admit(stream, &shared),
                    // No descriptor to be had, for instance: others need them more.
                    Err(_) => std::thread::sleep(Duration::from_millis(100)),
                }
            }
        };
        std::thread::Builder::new().name("apm-control".to_owned()).stack_size(STACK).spawn(accept)?;
        Ok(server)
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        // The thread that accepts wakes up, sees that it is over, and ends.
        let _ = UnixStream::connect(self.folder.short_path(SOCKET));
        let _ = self.folder.remove_file(Path::new(SOCKET));
        // A panic of a thread that answered was reported; nobody waits for its answer.
        if let Ok(answering) = self.shared.answering.lock() {
            let _ = self.shared.answered.wait_timeout_while(answering, LAST_ANSWERS_MAX, |count| *count > 0);
        }
    }
}

struct Shared {
    run: Arc<dyn RunHandle>,
    complete: Complete,
    clients: AtomicUsize,
    /// Changes that were taken and are not answered yet.
    answering: Mutex<usize>,
    answered: Condvar,
}

/// Counts a change until it is answered.
struct Answering<'a>(&'a Shared);

impl<'a> Answering<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.count_answering(|count| count + 1);
        Self(shared)
    }
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        self.0.count_answering(|count| count - 1);
        self.0.answered.notify_all();
    }
}

impl Shared {
    fn count_answering(&self, change: impl FnOnce(usize) -> usize) {
        let mut count = self.answering.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *count = change(*count);
    }
}

/// Counts a client while it is there.
struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, Ordering::AcqRel);
    }
}

fn admit(stream: UnixStream, shared: &Arc<Shared>) {
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let _ = stream.set_write_timeout(Some(PATIENCE));
    let refuse = |reason: String| {
        // It goes away without an answer where it does not listen.
        let _ = send(&stream, &ControlReply::Refused { reason });
    };
    let peer = match peer::of(&stream) {
        Ok(peer) => peer,
        Err(error) => return refuse(format!("who asks cannot be told: {error}")),
    };
    if peer.uid != peer::own_uid() {
        return refuse(format!("the run belongs to user {}, and you are user {}", peer::own_uid(), peer.uid));
    }
    let before = shared.clients.fetch_add(1, Ordering::AcqRel);
    let counted = Counted(Arc::clone(shared));
    if before >= CLIENTS_MAX {
        return refuse(format!("{CLIENTS_MAX} clients are connected already"));
    }
    let origin = Origin::Control { uid: peer.uid, pid: peer.pid };
    let talk = move || {
        // A client that breaks off costs only its own connection.
        let _ = talk(&stream, &counted.0, &origin);
    };
    // Where no thread is to be had the client sees the connection end.
    let _ = std::thread::Builder::new().name("apm-control".to_owned()).stack_size(STACK).spawn(talk);
}

fn talk(stream: &UnixStream, shared: &Shared, origin: &Origin) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    let (mut second, mut requests) = (Instant::now(), 0u32);
    loop {
        line.clear();
        let len = Read::take(&mut reader, LINE_MAX).read_until(b'\n', &mut line)?;
        if len == 0 {
            return Ok(());
        }
        if line.last() != Some(&b'\n') {
            return send(
                stream,
                &ControlReply::Refused { reason: format!("a line without an end, or over {LINE_MAX} bytes") },
            );
        }
        let request = match protocol::read(&line) {
            Ok(request) => request,
            Err(reason) => return send(stream, &ControlReply::Refused { reason }),
        };
        // What was only asked may go unanswered: the run does not wait for somebody who watches and has stalled.
        let is_change = matches!(request, ControlRequest::Edit { .. } | ControlRequest::Add { .. });
        let answering = is_change.then(|| Answering::new(shared));
        send(stream, &answer(request, shared, origin))?;
        drop(answering);
        requests += 1;
        if requests >= RATE_MAX {
            std::thread::sleep(Duration::from_secs(1).saturating_sub(second.elapsed()));
            (second, requests) = (Instant::now(), 0);
        }
    }
}

fn answer(request: ControlRequest, shared: &Shared, origin: &Origin) -> ControlReply {
    let done = |result: Result<(), String>| match result {
        Ok(()) => ControlReply::Done {},
        Err(reason) => ControlReply::Refused { reason },
    };
    match request {
        ControlRequest::Edit { edit } => done(shared.run.edit(&edit, origin)),
        ControlRequest::Add { mut tasks } => {
            tasks.iter_mut().for_each(|task| (shared.complete)(task));
            done(shared.run.add(tasks, origin))
        }
        ControlRequest::Waiting {} => ControlReply::Waiting { tasks: shared.run.waiting() },
        ControlRequest::Output { task, from } => match shared.run.live(&task, from) {
            Some((attempt, pieces)) => {
                let piece =
                    |piece: crate::engine::live::Piece| StreamPiece { offset: piece.offset, bytes: piece.bytes.into() };
                ControlReply::Output { attempt: Some(attempt), streams: pieces.into_iter().map(piece).collect() }
            }
            None => ControlReply::Output { attempt: None, streams: Vec::new() },
        },
    }
}

fn send(mut stream: &UnixStream, reply: &ControlReply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    stream.write_all(&line)
}
