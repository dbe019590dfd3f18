//! The word that was probably meant.

/// The candidate closest to `word`, if it is close.
pub(crate) fn likely<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&word, &candidate.to_lowercase()), candidate))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::likely;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        assert_eq!(likely("max_szie", ["max_size", "initial_size"]), Some("max_size"));
        assert_eq!(likely("colour", ["max_size"]), None);
    }
}
