//! Appends events to the journal. A batch reaches the kernel in one write before the actions it announces, so that
//! kill -9 loses nothing; reaching the disk is grouped, so that a power cut may cost the last interval.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::model::event::Envelope;
use crate::sys::beneath;

/// An open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    file: Arc<File>,
    buffer: Vec<u8>,
    sync: Sync,
    writes: u64,
}

/// When records are forced to the disk.
#[derive(Debug)]
enum Sync {
    /// With every batch, before its actions.
    Each { syncs: u64 },
    /// By a thread of its own, each interval in which something was written.
    Grouped { shared: Arc<Grouped>, thread: Option<JoinHandle<()>> },
}

#[derive(Debug, Default)]
struct Grouped {
    dirty: AtomicBool,
    /// The thread sleeps until somebody writes.
    idle: AtomicBool,
    over: AtomicBool,
    syncs: AtomicU64,
    failed: AtomicBool,
}

impl Journal {
    /// Opens the journal to append behind its first `keep` bytes; what follows them is the torn record of a crash.
    /// `interval` of `None` syncs every batch.
    pub(crate) fn open(path: &Path, keep: u64, interval: Option<Duration>) -> io::Result<Self> {
        let mut file = beneath::own_file_or_new(path, 0o600)?;
        file.set_len(keep)?;
        file.seek(SeekFrom::End(0))?;
        let file = Arc::new(file);
        let sync = match interval {
            None => Sync::Each { syncs: 0 },
            Some(interval) => {
                let shared = Arc::new(Grouped::default());
                let (ours, its_file) = (Arc::clone(&shared), Arc::clone(&file));
                let thread = std::thread::Builder::new()
                    .name("apm-journal".to_owned())
                    .spawn(move || sync_loop(&ours, &its_file, interval))?;
                Sync::Grouped { shared, thread: Some(thread) }
            }
        };
        Ok(Self { file, buffer: Vec::new(), sync, writes: 0 })
    }

    /// Appends a batch.
    pub(crate) fn append(&mut self, batch: &[Envelope]) -> io::Result<()> {
        self.buffer.clear();
        for envelope in batch {
            serde_json::to_writer(&mut self.buffer, envelope)?;
            self.buffer.push(b'\n');
        }
        (&*self.file).write_all(&self.buffer)?;
        self.buffer.shrink_to(1 << 20);
        self.writes += 1;
        match &mut self.sync {
            Sync::Each { syncs } => {
                *syncs += 1;
                self.file.sync_data()
            }
            Sync::Grouped { shared, thread } => {
                if shared.failed.load(Ordering::Relaxed) {
                    return Err(io::Error::other("the disk refused to keep the journal"));
                }
                shared.dirty.store(true, Ordering::SeqCst);
                if shared.idle.swap(false, Ordering::SeqCst)
                    && let Some(thread) = thread
                {
                    thread.thread().unpark();
                }
                Ok(())
            }
        }
    }

    /// Writes and syncs so far.
    pub(crate) fn figures(&self) -> (u64, u64) {
        let syncs = match &self.sync {
            Sync::Each { syncs } => *syncs,
            Sync::Grouped { shared, .. } => shared.syncs.load(Ordering::Relaxed),
        };
        (self.writes, syncs)
    }

    /// Forces everything to the disk and ends.
    pub(crate) fn close(mut self) -> io::Result<()> {
        self.stop_thread();
        self.file.sync_data()
    }

    fn stop_thread(&mut self) {
        if let Sync::Grouped { shared, thread } = &mut self.sync
            && let Some(thread) = thread.take()
        {
            shared.over.store(true, Ordering::Release);
            thread.thread().unpark();
            // A panic there is reported by the panic hook; here there is nothing left to save.
            let _ = thread.join();
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.stop_thread();
    }
}

fn sync_loop(shared: &Grouped, file: &File, interval: Duration) {
    while !shared.over.load(Ordering::Acquire) {
        if shared.dirty.swap(false, Ordering::SeqCst) {
            if file.sync_data().is_err() {
                shared.failed.store(true, Ordering::Relaxed);
            }
            shared.syncs.fetch_add(1, Ordering::Relaxed);
            // Nobody wakes this but the end of the run, which must not wait for the interval.
            std::thread::park_timeout(interval);
        } else {
            shared.idle.store(true, Ordering::SeqCst);
            // What was written between the look and the mark would else wait for the next write.
            if !shared.dirty.load(Ordering::SeqCst) {
                std::thread::park();
            }
            shared.idle.store(false, Ordering::SeqCst);
        }
    }
}
