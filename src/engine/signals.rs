//! Signals that end a run: the first asks, the second ends everything at once.

use std::task::Poll;

use tokio::signal::unix::{SignalKind, signal};

/// Listens for them.
#[derive(Debug)]
pub(crate) struct Signals {
    streams: Vec<(i32, tokio::signal::unix::Signal)>,
    seen: u32,
}

impl Signals {
    /// Those that `is_ignored` does not tell to have been ignored from the start: `nohup apm ...` wants the hangup to stay
    /// ignored.
    pub(crate) fn listen(is_ignored: fn(i32) -> bool) -> std::io::Result<Self> {
        let mut streams = Vec::new();
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()] {
            let number = kind.as_raw_value();
            if !is_ignored(number) {
                streams.push((number, signal(kind)?));
            }
        }
        Ok(Self { streams, seen: 0 })
    }

    /// Nobody sends any.
    pub(crate) fn none() -> Self {
        Self { streams: Vec::new(), seen: 0 }
    }

    /// The next one, and whether everything is to end at once: it is not the first.
    pub(crate) async fn next(&mut self) -> (i32, bool) {
        let number = std::future::poll_fn(|context| {
            for (number, stream) in &mut self.streams {
                if stream.poll_recv(context).is_ready() {
                    return Poll::Ready(*number);
                }
            }
            Poll::Pending
        })
        .await;
        // Ctrl-\ is for those who do not want to wait.
        self.seen += if number == SignalKind::quit().as_raw_value() { 2 } else { 1 };
        (number, self.at_once())
    }

    /// Whether everything was asked to end at once.
    pub(crate) fn at_once(&self) -> bool {
        self.seen > 1
    }
}
