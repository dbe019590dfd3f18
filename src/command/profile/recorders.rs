//! What records while the program runs, as one: when it looks next, what it takes, how it ends.

use std::time::Duration;

use super::beside::Beside;
use crate::profile::devices::Devices;
use crate::profile::owners::Owners;
use crate::profile::preload_session::PreloadSession;
use crate::profile::session::{Recorded, Session};
use crate::profile::watch;

/// Between two looks at the ring of the preloaded library.
const RING_LOOK: Duration = Duration::from_millis(5);

/// What runs beside the program.
#[derive(Default)]
pub(super) struct Recorders {
    pub(super) session: Option<Session>,
    /// Where the kernel has no events, instead of a session.
    pub(super) stops: Option<Beside<Option<Recorded>>>,
    pub(super) stopped: Option<Recorded>,
    /// Where it does not tell of threads that leave their CPU.
    pub(super) waits: Option<Beside<Option<Recorded>>>,
    pub(super) waited: Option<Recorded>,
    /// System calls of programs that cannot be looked into.
    pub(super) calls: Option<Session>,
    pub(super) inside: Option<PreloadSession>,
    pub(super) devices: Option<Devices>,
    pub(super) owners: Option<Owners>,
}

impl Recorders {
    /// What takes records of the kernel.
    pub(super) fn sessions(&mut self) -> impl Iterator<Item = &mut Session> {
        self.session.iter_mut().chain(&mut self.calls)
    }

    /// How long to wait until the next round.
    pub(super) fn interval(&mut self) -> Duration {
        let session = self.sessions().map(|session| session.interval()).min().unwrap_or(watch::INTERVAL);
        if self.inside.is_some() { session.min(RING_LOOK) } else { session }
    }

    /// Takes what has come.
    pub(super) fn round(&mut self) {
        self.sessions().for_each(Session::round);
        if let Some(inside) = &mut self.inside {
            inside.round();
        }
        if let Some(devices) = &mut self.devices {
            devices.round();
        }
        if let Some(owners) = &mut self.owners {
            owners.round();
        }
    }

    /// Ends the sampling; what was sampled so far stays.
    pub(super) fn stop(&mut self) {
        if let Some(session) = &mut self.session {
            session.stop();
        }
        self.stopped = self.stops.take().and_then(Beside::end).flatten();
        self.waited = self.waits.take().and_then(Beside::end).flatten();
    }
}
