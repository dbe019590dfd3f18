//! Values below zero, which the difference of two profiles has. A profile of ours has none: what grew and what shrank are
//! two kinds of values, `x.more` and `x.less`, so that nothing is lost and shares of each mean something.

use crate::model::profile::{Builder, Kind, Profile};

/// Endings of the two kinds.
pub(crate) const MORE: &str = ".more";
pub(crate) const LESS: &str = ".less";

/// A builder that takes values below zero of these kinds; [`close`] makes it a profile.
pub(crate) fn builder(kinds: &[Kind]) -> Builder {
    Builder::new(kinds.iter().chain(kinds).cloned().collect())
}

/// Adds a value of one of so many kinds.
pub(crate) fn add(builder: &mut Builder, [kind, kinds]: [usize; 2], node: u32, thread: Option<u32>, value: i128) {
    let kind = if value < 0 { kinds + kind } else { kind };
    builder.add(node, thread, kind, u64::try_from(value.unsigned_abs()).unwrap_or(u64::MAX));
}

/// The profile: kinds without values below zero are as they were.
pub(crate) fn close(builder: Builder) -> Profile {
    let mut profile = builder.build();
    let count = profile.kinds.len() / 2;
    // `go tool pprof -base` writes both sides of a stack, and not their difference.
    profile.rows.update(|values| {
        for at in 0..count {
            let both = values[at].min(values[count + at]);
            values[at] -= both;
            values[count + at] -= both;
        }
    });
    let mut order = Vec::new();
    let mut kinds = Vec::new();
    let mut named = Vec::new();
    for at in 0..count {
        let kind = &profile.kinds[at];
        if profile.total(count + at) == 0 {
            order.push(at);
            kinds.push(kind.clone());
            continue;
        }
        named.push(kind.name.clone());
        for (from, ending) in [(at, MORE), (count + at, LESS)] {
            order.push(from);
            kinds.push(Kind { name: format!("{}{ending}", kind.name), unit: kind.unit });
        }
    }
    profile.choose(&order);
    profile.kinds = kinds;
    if let Some(name) = named.first() {
        profile.quality.notes.push(format!(
            "it has values below 0, as a difference of two profiles has: `{name}{MORE}` is what grew, `{name}{LESS}` what \
             shrank"
        ));
    }
    profile
}

/// Makes the kind of this name the first; of a difference both of its kinds.
pub(crate) fn put_first(profile: &mut Profile, name: &str) {
    for ending in [LESS, MORE, ""] {
        if let Some(at) = profile.kind(&format!("{name}{ending}")).filter(|at| *at > 0) {
            profile.kinds[..=at].rotate_right(1);
            profile.rows.update(|values| values[..=at].rotate_right(1));
        }
    }
}

/// What a kind is a half of: the name of the whole, what grew and what shrank.
pub(crate) fn change(profile: &Profile, kind: usize) -> Option<(&str, [u64; 2])> {
    let name = &profile.kinds.get(kind)?.name;
    let name = name.strip_suffix(MORE).or_else(|| name.strip_suffix(LESS))?;
    let both = [MORE, LESS].map(|ending| profile.kind(&format!("{name}{ending}")));
    let [Some(more), Some(less)] = both else { return None };
    Some((name, [profile.total(more), profile.total(less)]))
}

#[cfg(test)]
mod tests {
    use super::{add, builder, change, close, put_first};
    use crate::model::profile::{Frame, Kind, Profile, Unit};

    fn of(values: &[[i128; 2]]) -> Profile {
        let kinds = ["a", "b"].map(|name| Kind { name: name.to_owned(), unit: Unit::Bytes });
        let mut builder = builder(&kinds);
        for (at, values) in values.iter().enumerate() {
            let frame = builder.frame(Frame { name: &format!("f{at}"), ..Frame::default() });
            let node = builder.node(None, frame);
            for (kind, value) in values.iter().enumerate() {
                add(&mut builder, [kind, 2], node, None, *value);
            }
        }
        close(builder)
    }

    fn names(profile: &Profile) -> Vec<&str> {
        profile.kinds.iter().map(|kind| kind.name.as_str()).collect()
    }

    #[test]
    fn what_grew_and_what_shrank_are_two_kinds() {
        let mut profile = of(&[[1, 30], [2, -80]]);
        assert_eq!((names(&profile), profile.flaw()), (vec!["a", "b.more", "b.less"], None));
        assert_eq!((0..3).map(|kind| profile.total(kind)).collect::<Vec<_>>(), [3, 30, 80]);
        assert_eq!(change(&profile, 2), Some(("b", [30, 80])));
        assert_eq!(change(&profile, 0), None);
        put_first(&mut profile, "b");
        assert_eq!((names(&profile), profile.total(0)), (vec!["b.more", "b.less", "a"], 30));
        assert!(profile.quality.notes[0].contains("below 0"));
    }

    #[test]
    fn both_sides_of_a_stack_are_one_difference() {
        let kinds = [Kind { name: "a".to_owned(), unit: Unit::Bytes }];
        let mut builder = builder(&kinds);
        let frame = builder.frame(Frame::default());
        let node = builder.node(None, frame);
        add(&mut builder, [0, 1], node, None, 3);
        add(&mut builder, [0, 1], node, None, -8);
        let profile = close(builder);
        assert_eq!((names(&profile), profile.rows.at(0).values), (vec!["a.more", "a.less"], &[0, 5][..]));
    }

    #[test]
    fn without_values_below_zero_nothing_changes() {
        let mut profile = of(&[[1, 30], [i128::from(u64::MAX), 0]]);
        assert_eq!((names(&profile), profile.total(0)), (vec!["a", "b"], u64::MAX));
        put_first(&mut profile, "b");
        assert_eq!((names(&profile), profile.quality.notes.len()), (vec!["b", "a"], 0));
    }
}
