//! The values of `apm run each`: from the command line, from files, from standard input; one by one, so that an
//! endless input needs no endless memory.

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
    /// Values for each command at most.
    pub(crate) max_args: usize,
    /// Bytes that several values may have together; one alone always goes.
    pub(crate) room: usize,
}

impl Cut {
    /// Whether another value goes with those that are there, which have so many bytes.
    fn takes(&self, taken: usize, bytes: &mut usize, value: &[u8]) -> bool {
        let quotes = value.iter().filter(|byte| **byte == b'\'').count();
        // What a shell would need: quotes round it, `'\''` for each inside, and the space behind it.
        *bytes += value.len() + 3 * quotes + 3;
        taken == 0 || (taken < self.max_args && *bytes <= self.room)
    }
}

/// A source of values: each item is the columns of one task.
pub(crate) enum Values {
    /// Every combination of the groups, the last one changing fastest. A group has rows: the values linked in it.
    Product { groups: Vec<Vec<Vec<Vec<u8>>>>, at: Option<Vec<usize>>, cut: Cut },
    /// One value after the other. `held` had no place in the command before, or was none.
    Stream {
        reader: BufReader<Box<dyn Read + Send>>,
        cut: Cut,
        number: u64,
        over: bool,
        held: Option<io::Result<Vec<u8>>>,
    },
}

impl Values {
    /// Combinations of groups. A linked one goes with the group before it, as long as both have values.
    pub(crate) fn product(lists: Vec<(bool, Vec<Vec<u8>>)>, cut: Cut) -> Self {
        let mut groups: Vec<Vec<Vec<Vec<u8>>>> = Vec::new();
        for (linked, list) in lists {
            match groups.last_mut().filter(|_| linked) {
                Some(before) => {
                    before.truncate(list.len());
                    before.iter_mut().zip(list).for_each(|(row, value)| row.push(value));
                }
                None => groups.push(list.into_iter().map(|value| vec![value]).collect()),
            }
        }
        let at = groups.iter().all(|group| !group.is_empty()).then(|| vec![0; groups.len()]);
        Self::Product { groups, at, cut }
    }

    /// Values of a reader.
    pub(crate) fn stream(reader: Box<dyn Read + Send>, cut: Cut) -> Self {
        Self::Stream { reader: BufReader::with_capacity(1 << 16, reader), cut, number: 0, over: false, held: None }
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
                let Some(place) = at else { return Ok(None) };
                let mut values: Vec<Vec<u8>> = Vec::new();
                let mut bytes = 0;
                loop {
                    let row = place.iter().zip(groups.iter()).flat_map(|(at, group)| &group[*at]);
                    values.extend(row.cloned());
                    if !advance(place, groups) {
                        *at = None;
                        break;
                    }
                    let [group] = &groups[..] else { break };
                    let [next] = &group[place[0]][..] else { break };
                    if values.len() == 1 {
                        cut.takes(0, &mut bytes, &values[0]);
                    }
                    if !cut.takes(values.len(), &mut bytes, next) {
                        break;
                    }
                }
                Ok(Some(columns(values, cut)))
            }
            Self::Stream { reader, cut, number, over, held } => {
                let mut values = Vec::new();
                let mut bytes = 0;
                while values.is_empty() || values.len() < cut.max_args {
                    let next = match held.take() {
                        Some(next) => Some(next),
                        None if *over => None,
                        None => read_value(reader, cut.null, *number + 1).transpose(),
                    };
                    let value = match next {
                        Some(Ok(value)) => value,
                        Some(Err(error)) if values.is_empty() => return Err(error),
                        Some(Err(error)) => {
                            *held = Some(Err(error));
                            break;
                        }
                        None => {
                            *over = true;
                            break;
                        }
                    };
                    if !cut.takes(values.len(), &mut bytes, &value) {
                        *held = Some(Ok(value));
                        break;
                    }
                    *number += 1;
                    values.push(value);
                }
                Ok((!values.is_empty()).then(|| columns(values, cut)))
            }
        }
    }
}

fn advance<T>(place: &mut [usize], groups: &[Vec<T>]) -> bool {
    for (at, group) in place.iter_mut().zip(groups).rev() {
        *at += 1;
        if *at < group.len() {
            return true;
        }
        *at = 0;
    }
    false
}

/// The values, each in its columns.
fn columns(values: Vec<Vec<u8>>, cut: &Cut) -> Vec<Vec<u8>> {
    let Some(separator) = cut.colsep.as_deref().filter(|separator| !separator.is_empty()) else { return values };
    let mut columns = Vec::new();
    for value in values {
        let mut rest = &value[..];
        while let Some(at) = rest.windows(separator.len()).position(|window| window == separator) {
            columns.push(rest[..at].to_vec());
            rest = &rest[at + separator.len()..];
        }
        columns.push(rest.to_vec());
    }
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

    fn group(words: &[&str]) -> (bool, Vec<Vec<u8>>) {
        (false, words.iter().map(|word| word.as_bytes().to_vec()).collect())
    }

    fn linked(words: &[&str]) -> (bool, Vec<Vec<u8>>) {
        (true, group(words).1)
    }

    #[test]
    fn lines_nul_columns_and_several_values_a_task() {
        assert_eq!(stream("a\n\nb c", Cut::default()), [["a"], [""], ["b c"]]);
        assert_eq!(stream("a\nb\0c\0", Cut { null: true, ..Cut::default() }), [["a\nb"], ["c"]]);
        let columns = Cut { colsep: Some(b", ".to_vec()), ..Cut::default() };
        assert_eq!(stream("a, b\nc, d, \n", columns), [vec!["a", "b"], vec!["c", "d", ""]]);
        let two = Cut { max_args: 2, room: 100, ..Cut::default() };
        assert_eq!(stream("a\nb\nc\n", two.clone()), [vec!["a", "b"], vec!["c"]]);
        assert_eq!(collect(Values::product(vec![group(&["a", "b", "c"])], two)), [vec!["a", "b"], vec!["c"]]);
    }

    #[test]
    fn groups_are_combined_the_last_one_fastest() {
        let groups = vec![group(&["a", "b"]), group(&["1", "2"])];
        let expected = [["a", "1"], ["a", "2"], ["b", "1"], ["b", "2"]];
        assert_eq!(collect(Values::product(groups, Cut::default())), expected);
        assert_eq!(collect(Values::product(vec![group(&["a"]), group(&[])], Cut::default())), [[""; 0]; 0]);
    }

    /// `:::+` was a value.
    #[test]
    fn a_linked_group_goes_with_the_one_before_it() {
        let groups = vec![group(&["a", "b", "c"]), linked(&["1", "2"]), group(&["x", "y"])];
        let expected = [["a", "1", "x"], ["a", "1", "y"], ["b", "2", "x"], ["b", "2", "y"]];
        assert_eq!(collect(Values::product(groups, Cut::default())), expected);
    }

    /// `-n 100000` was one command, which the kernel refused.
    #[test]
    fn as_many_values_as_fit_go_into_a_command() {
        let cut = Cut { max_args: 9, room: 12, ..Cut::default() };
        let expected = [vec!["aaa", "bb"], vec!["longer than the room"], vec!["''"], vec!["c"]];
        assert_eq!(stream("aaa\nbb\nlonger than the room\n''\nc\n", cut.clone()), expected);
        let groups = vec![group(&["aaa", "bb", "longer than the room", "''", "c"])];
        assert_eq!(collect(Values::product(groups, cut)), expected);
    }

    #[test]
    fn each_group_has_its_columns() {
        let cut = Cut { colsep: Some(b",".to_vec()), ..Cut::default() };
        assert_eq!(collect(Values::product(vec![group(&["a,b"]), group(&["c,d"])], cut)), [["a", "b", "c", "d"]]);
    }

    #[test]
    fn a_value_longer_than_an_argument_is_refused() {
        let long = "x".repeat(VALUE_MAX + 1);
        let error = Values::stream(Box::new(Cursor::new(long)), Cut::default()).next().expect_err("refused");
        assert!(error.to_string().contains("line 1 is longer than 131072 bytes"), "{error}");
        // What stood before it in the same command was lost.
        let cut = Cut { max_args: 9, room: 100, ..Cut::default() };
        let mut values = Values::stream(Box::new(Cursor::new(format!("a\nb\n{}", "x".repeat(VALUE_MAX + 1)))), cut);
        assert_eq!(values.next().expect("two").map(|two| two.len()), Some(2));
        assert!(values.next().expect_err("refused").to_string().contains("line 3 is longer"));
    }
}
