//! The task engine. `graph`, `queue`, `pool`, `capacity`, `admit`, `retry`, `history` and `scheduler` are pure: state, `now`
//! and an input go in, decisions come out. `plan` says where tasks come from; `dispatch` owns a run: it feeds the scheduler
//! and performs what it decides, by the executors of the run; `live` keeps the newest output of what runs.

pub(crate) mod admit;
pub(crate) mod capacity;
pub(crate) mod dispatch;
pub(crate) mod graph;
pub(crate) mod history;
pub(crate) mod ix_map;
pub(crate) mod live;
pub(crate) mod plan;
pub(crate) mod pool;
pub(crate) mod queue;
pub(crate) mod retry;
pub(crate) mod scheduler;
pub(crate) mod signals;
