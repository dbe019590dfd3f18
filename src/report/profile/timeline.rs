//! Values over time, brought to as many points as there is room for.

use crate::model::profile::Timeline;

/// A timeline in equal steps.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Steps {
    /// The largest value in each step; none where nothing was measured.
    pub(crate) values: Vec<Option<f64>>,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// The timeline in so many steps of the time up to `end_ns`, or up to its last point if that is later. Nothing if it has
/// no number.
pub(crate) fn steps(timeline: &Timeline, count: usize, end_ns: u64) -> Option<Steps> {
    let points = || timeline.points.iter().filter(|(_, value)| value.is_finite());
    let end = points().map(|(at, _)| *at).max()?.max(end_ns);
    let mut steps = Steps { values: vec![None; count.max(1)], min: f64::INFINITY, max: f64::NEG_INFINITY };
    for (at, value) in points() {
        // The last point belongs to the last step.
        let step = (*at as f64 / (end.max(1)) as f64 * steps.values.len() as f64) as usize;
        let last = steps.values.len() - 1;
        let slot = &mut steps.values[step.min(last)];
        *slot = Some(slot.map_or(*value, |known: f64| known.max(*value)));
        (steps.min, steps.max) = (steps.min.min(*value), steps.max.max(*value));
    }
    Some(steps)
}

impl Steps {
    /// A value as a share of the largest, 0 to 1; what is below 0 is 0.
    pub(crate) fn height(&self, value: f64) -> f64 {
        if self.max > 0.0 { (value / self.max).clamp(0.0, 1.0) } else { 0.0 }
    }

    /// Steps in which nothing was measured have the value before them, or the first.
    pub(crate) fn filled(&self) -> Vec<f64> {
        let mut last = self.values.iter().flatten().next().copied().unwrap_or(0.0);
        let fill = |value: &Option<f64>| {
            last = value.unwrap_or(last);
            last
        };
        self.values.iter().map(fill).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::steps;
    use crate::model::profile::{Timeline, Unit};

    fn of(points: &[(u64, f64)]) -> Timeline {
        Timeline { name: "rss".to_owned(), unit: Unit::Bytes, points: points.to_vec() }
    }

    #[test]
    fn peaks_survive_and_gaps_are_filled() {
        let found = steps(&of(&[(0, 1.0), (10, 9.0), (19, 2.0), (100, 3.0)]), 5, 50).expect("numbers");
        assert_eq!(found.values, [Some(9.0), None, None, None, Some(3.0)]);
        assert_eq!(found.filled(), [9.0, 9.0, 9.0, 9.0, 3.0]);
        assert_eq!((found.min, found.max, found.height(3.0)), (1.0, 9.0, 3.0 / 9.0));
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        assert_eq!(steps(&of(&[(3, f64::NAN)]), 5, 50), None);
        let found = steps(&of(&[(u64::MAX, -1.0), (0, f64::INFINITY)]), 0, 0).expect("a number");
        assert_eq!((found.values.len(), found.height(-1.0)), (1, 0.0));
    }
}
