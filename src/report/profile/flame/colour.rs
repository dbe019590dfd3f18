//! What colours of a flame graph mean: whose code it is, or what grew and what shrank.

use std::collections::BTreeMap;

use crate::model::profile::{Origin, Profile};
use crate::report::profile::amount;
use crate::report::profile::diff::{self, Certainty};
use crate::report::profile::tree::{Function, Tree, file_name};

/// Modules with a colour of their own; the last colour is for all others.
pub(super) const HUES: usize = 10;

/// The colours of modules: those that took most have one of their own, the same in all kinds.
pub(super) struct Hues(pub(super) Vec<String>);

impl Hues {
    pub(super) fn of(profile: &Profile) -> Self {
        let mut weights = BTreeMap::<&str, f64>::new();
        let totals: Vec<f64> = (0..profile.kinds.len()).map(|kind| profile.total(kind).max(1) as f64).collect();
        for row in profile.rows.iter() {
            let frame = profile.stack(row.node).next();
            let module = frame.and_then(|frame| profile.modules.get(frame.module? as usize));
            let (Some(frame), Some(module)) = (frame, module) else { continue };
            if frame.origin == Origin::Native {
                let weight: f64 = row.values.iter().zip(&totals).map(|(value, total)| *value as f64 / total).sum();
                *weights.entry(file_name(&module.path)).or_default() += weight;
            }
        }
        let mut all: Vec<_> = weights.into_iter().collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        Self(all.into_iter().take(HUES - 1).map(|(name, _)| name.to_owned()).collect())
    }

    pub(super) fn class(&self, function: Function<'_>) -> String {
        match function.origin {
            Origin::Kernel => "kernel".to_owned(),
            Origin::Jit => "jit".to_owned(),
            Origin::Label => "label".to_owned(),
            Origin::Unknown => "unknown".to_owned(),
            Origin::Native => {
                let at = self.0.iter().position(|name| *name == function.module).unwrap_or(HUES - 1);
                format!("m{at}")
            }
        }
    }
}

/// The look of what changed.
pub(super) struct Change {
    /// Totals before and after.
    pub(super) whole: [u64; 2],
    samples: [u64; 2],
    /// The largest change of a share.
    most: f64,
}

impl Change {
    pub(super) fn of(tree: &Tree, before: u64, after: u64) -> Self {
        let whole = [tree.before(0), tree.total()];
        let mut change = Self { whole, samples: [before, after], most: 0.0 };
        let points = (0..tree.places.len() as u32).map(|place| change.points(tree, place).abs());
        change.most = points.fold(0.0, f64::max);
        change
    }

    pub(super) fn points(&self, tree: &Tree, place: u32) -> f64 {
        let [before, after] = self.shares(tree, place);
        after - before
    }

    fn shares(&self, tree: &Tree, place: u32) -> [f64; 2] {
        let after = tree.places[place as usize].total;
        [amount::share(tree.before(place), self.whole[0]), amount::share(after, self.whole[1])]
    }

    pub(super) fn class(&self, tree: &Tree, place: u32) -> String {
        let points = self.points(tree, place);
        let shares = self.shares(tree, place);
        let chance = diff::certainty(shares, self.samples);
        if points == 0.0 || matches!(chance, Certainty::Chance | Certainty::TooFew) {
            return "z".to_owned();
        }
        // Four steps; the root of the share makes small changes visible beside a large one.
        let step = ((points.abs() / self.most).sqrt() * 4.0).ceil().clamp(1.0, 4.0);
        format!("{}{step}", if points > 0.0 { 'g' } else { 'l' })
    }
}
