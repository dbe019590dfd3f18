//! When a failed attempt is repeated. Pure: the random number comes in.

use std::time::Duration;

use crate::model::outcome::Outcome;
use crate::model::task::Retry;

/// The delay before the next attempt, or `None` when the task is over.
///
/// Doubling with full jitter on the upper half: between 50 % and 100 % of `delay * 2^(failures-1)`, at most
/// `delay_max`. `random` is in 0.0..1.0. What was skipped, cancelled or broken is not repeated: it would be so again.
pub(crate) fn next_delay(policy: &Retry, failures: u32, outcome: &Outcome, random: f64) -> Option<Duration> {
    if !outcome.is_failure() || failures == 0 || failures > policy.max {
        return None;
    }
    let doubled = policy.delay.saturating_mul(1u32.checked_shl(failures - 1).unwrap_or(u32::MAX));
    Some(doubled.min(policy.delay_max).mul_f64(1.0 - random.clamp(0.0, 1.0) / 2.0))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::next_delay;
    use crate::model::event::Exit;
    use crate::model::outcome::Outcome;
    use crate::model::task::Retry;

    #[test]
    fn delays_double_up_to_a_bound_and_end_after_max_retries() {
        let policy = Retry { max: 4, delay: Duration::from_millis(200), delay_max: Duration::from_millis(1000) };
        let failed = Exit::Code(1).outcome();
        let delays: Vec<Option<u128>> =
            (1..=5).map(|n| next_delay(&policy, n, &failed, 0.0).map(|d| d.as_millis())).collect();
        assert_eq!(delays, [Some(200), Some(400), Some(800), Some(1000), None]);
        assert_eq!(next_delay(&policy, 1, &failed, 1.0), Some(Duration::from_millis(100)));
        assert_eq!(next_delay(&policy, 1, &Outcome::Broken { error: "".into() }, 0.0), None);
        let huge = Retry { max: u32::MAX, ..policy };
        assert_eq!(next_delay(&huge, 4_000_000_000, &failed, 0.0), Some(Duration::from_millis(1000)));
    }
}
