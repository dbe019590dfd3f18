//! The values of `apm run each`: from the command line, from files, from standard input; one by one, so that an
//! endless input needs no endless memory.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};

/// Longest single value: the kernel accepts at most 128 KiB in one argument.
pub(crate) const VALUE_MAX: usize = 128 << 10;

/// How the input is cut.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cut {
    /// Values end at NUL, not at line breaks.
    pub(crate) null: bool,
    /// Split each value into columns at this text.
    pub(crate) colsep: Option<Vec<u8>>,
    /// Values for each command.
    pub(crate) max_args: usize,
}

/// A source of values: each item is the columns of one task.
pub(crate) enum Values {
    /// Every combination of the groups, the last one changing fastest.
    Product { groups: Vec<Vec<Vec<u8>>>, at: Option<Vec<usize>>, cut: Cut },
    /// One value after the other.
    Stream { reader: BufReader<Box<dyn Read + Send>>, cut: Cut, number: u64, over: bool },
}

impl Values {
    /// Combinations of groups.
    pub(crate) fn product(groups: Vec<Vec<Vec<u8>>>, cut: Cut) -> Self {
        let at = groups.iter().all(|group| !group.is_empty()).then(|| vec![0; groups.len()]);
        Self::Product { groups, at, cut }
    }

    /// Values of a reader.
    pub(crate) fn stream(reader: Box<dyn Read + Send>, cut: Cut) -> Self {
        Self::Stream { reader: BufReader::with_capacity(1 << 16, reader), cut, number: 0, over: false }
    }

    /// Whether the next value can be had without waiting for whoever writes them.
    pub(crate) fn is_at_hand(&self) -> bool {
        match self {
            Self::Product { .. } => true,
            Self::Stream { reader, cut, .. } => reader.buffer().contains(&end_of_value(cut.null)),
        }
    }

    /// The columns of the next task.
    pub(crate) fn next(&mut self) -> io::Result<Option<Vec<Vec<u8>>>> {
        match self {
            Self::Product { groups, at, cut } => {
                let mut taken = VecDeque::new();
                let wanted = if groups.len() == 1 { cut.max_args.max(1) } else { 1 };
                while taken.len() < wanted {
                    let Some(place) = at else { break };
                    taken.push_back(
                        place.iter().zip(groups.iter()).map(|(at, group)| group[*at].clone()).collect::<Vec<_>>(),
                    );
                    if !advance(place, groups) {
                        *at = None;
                    }
                }
                if taken.is_empty() {
                    return Ok(None);
                }
                let values: Vec<Vec<u8>> = taken.into_iter().flatten().collect();
                Ok(Some(match &values[..] {
                    [one] => columns(one.clone(), cut),
                    _ => values,
                }))
            }
            Self::Stream { reader, cut, number, over } => {
                let mut values = Vec::new();
                while values.len() < cut.max_args.max(1) && !*over {
                    match read_value(reader, cut.null, *number + 1)? {
                        Some(value) => {
                            *number += 1;
                            values.push(value);
                        }
                        None => *over = true,
                    }
                }
                Ok(match values.len() {
                    0 => None,
                    1 => values.pop().map(|value| columns(value, cut)),
                    _ => Some(values),
                })
            }
        }
    }
}

fn advance(place: &mut [usize], groups: &[Vec<Vec<u8>>]) -> bool {
    for (at, group) in place.iter_mut().zip(groups).rev() {
        *at += 1;
        if *at < group.len() {
            return true;
        }
        *at = 0;
    }
    false
}

fn columns(value: Vec<u8>, cut: &Cut) -> Vec<Vec<u8>> {
    let Some(separator) = cut.colsep.as_deref().filter(|separator| !separator.is_empty()) else {
        return vec![value];
    };
    let mut columns = Vec::new();
    let mut rest = &value[..];
    while let Some(at) = rest.windows(separator.len()).position(|window| window == separator) {
        columns.push(rest[..at].to_vec());
        rest = &rest[at + separator.len()..];
    }
    columns.push(rest.to_vec());
    columns
}

/// The next value; a last one without its end counts, an empty rest does not.
fn read_value(reader: &mut dyn BufRead, null: bool, number: u64) -> io::Result<Option<Vec<u8>>> {
    let end = end_of_value(null);
    let mut value = Vec::new();
    io::Read::take(&mut *reader, VALUE_MAX as u64 + 1).read_until(end, &mut value)?;
    if value.is_empty() {
        return Ok(None);
    }
    if value.last() == Some(&end) {
        value.pop();
    } else if value.len() > VALUE_MAX {
        let name = if null { "value" } else { "line" };
        let hint = if null { "" } else { "; are the values separated by NUL? then add `-0`" };
        let text = format!("{name} {number} is longer than {VALUE_MAX} bytes, more than an argument can hold{hint}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(Some(value))
}

const fn end_of_value(null: bool) -> u8 {
    if null { 0 } else { b'\n' }
}

/// All values of a file's text, for `::::`.
pub(crate) fn all(mut reader: impl BufRead, null: bool) -> io::Result<Vec<Vec<u8>>> {
    let mut values = Vec::new();
    while let Some(value) = read_value(&mut reader, null, values.len() as u64 + 1)? {
        values.push(value);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::{Cut, VALUE_MAX, Values};

    fn collect(mut values: Values) -> Vec<Vec<String>> {
        std::iter::from_fn(|| values.next().expect("readable"))
            .map(|columns| columns.iter().map(|c| String::from_utf8_lossy(c).into_owned()).collect())
            .collect()
    }

    fn stream(text: &'static str, cut: Cut) -> Vec<Vec<String>> {
        collect(Values::stream(Box::new(Cursor::new(text)), cut))
    }

    fn group(words: &[&str]) -> Vec<Vec<u8>> {
        words.iter().map(|word| word.as_bytes().to_vec()).collect()
    }

    #[test]
    fn lines_nul_columns_and_several_values_a_task() {
        assert_eq!(stream("a\n\nb c", Cut::default()), [["a"], [""], ["b c"]]);
        assert_eq!(stream("a\nb\0c\0", Cut { null: true, ..Cut::default() }), [["a\nb"], ["c"]]);
        let columns = Cut { colsep: Some(b", ".to_vec()), ..Cut::default() };
        assert_eq!(stream("a, b\nc, d, \n", columns), [vec!["a", "b"], vec!["c", "d", ""]]);
        let two = Cut { max_args: 2, ..Cut::default() };
        assert_eq!(stream("a\nb\nc\n", two.clone()), [vec!["a", "b"], vec!["c"]]);
        assert_eq!(collect(Values::product(vec![group(&["a", "b", "c"])], two)), [vec!["a", "b"], vec!["c"]]);
    }

    #[test]
    fn groups_are_combined_the_last_one_fastest() {
        let groups = vec![group(&["a", "b"]), group(&["1", "2"])];
        let expected = [["a", "1"], ["a", "2"], ["b", "1"], ["b", "2"]];
        assert_eq!(collect(Values::product(groups, Cut::default())), expected);
        assert_eq!(collect(Values::product(vec![group(&["a"]), vec![]], Cut::default())), [[""; 0]; 0]);
    }

    #[test]
    fn a_value_longer_than_an_argument_is_refused() {
        let long = "x".repeat(VALUE_MAX + 1);
        let error = Values::stream(Box::new(Cursor::new(long)), Cut::default()).next().expect_err("refused");
        assert!(error.to_string().contains("line 1 is longer than 131072 bytes"), "{error}");
    }
}
