//! As much of protocol buffers as pprof's format needs: numbers, bytes, packed numbers. Strict: what is not whole is an
//! error, with the place where it is.

/// A message being written.
#[derive(Debug, Default)]
pub(super) struct Message(pub(super) Vec<u8>);

impl Message {
    /// A number; 0 is what is read where there is none.
    pub(super) fn number(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.key(field, 0);
            varint(value, &mut self.0);
        }
    }

    /// Bytes, a text, a message.
    pub(super) fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.key(field, 2);
        varint(bytes.len() as u64, &mut self.0);
        self.0.extend_from_slice(bytes);
    }

    /// Numbers in one field, zeros too.
    pub(super) fn packed(&mut self, field: u32, values: impl Iterator<Item = u64>) {
        let mut bytes = Vec::new();
        values.for_each(|value| varint(value, &mut bytes));
        if !bytes.is_empty() {
            self.bytes(field, &bytes);
        }
    }

    fn key(&mut self, field: u32, form: u64) {
        varint(u64::from(field) << 3 | form, &mut self.0);
    }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A field that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a fixed width: pprof has none.
    Fixed,
}

/// What no message is made of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Flaw {
    /// Bytes are missing.
    #[error("it ends in the midst of a field")]
    End,
    #[error("a number is longer than 64 bits")]
    Number,
    #[error("a field has a form that there is not")]
    Form,
    #[error("field {0} has the wrong form")]
    Field(u32),
}

/// The fields of a message, in their order.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Flaw>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u32, Value<'a>), Flaw> {
        let key = self.varint()?;
        let field = u32::try_from(key >> 3).map_err(|_| Flaw::Form)?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let len = self.varint()?;
                Value::Bytes(self.take(usize::try_from(len).map_err(|_| Flaw::End)?)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(Flaw::Form),
        };
        Ok((field, value))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Flaw> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Flaw::End)?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Flaw> {
        let mut value = 0;
        for at in 0..10 {
            let (byte, rest) = self.0.split_first().ok_or(Flaw::End)?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            if at == 9 && bits > 1 {
                return Err(Flaw::Number);
            }
            value |= bits << (7 * at);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Flaw::Number)
    }
}

/// The numbers of a field that may be packed or not.
pub(super) fn numbers(field: u32, value: Value<'_>, out: &mut Vec<u64>) -> Result<(), Flaw> {
    match value {
        Value::Number(number) => out.push(number),
        Value::Bytes(bytes) => {
            let mut rest = Fields(bytes);
            while !rest.0.is_empty() {
                out.push(rest.varint()?);
            }
        }
        Value::Fixed => return Err(Flaw::Field(field)),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Fields, Flaw, Message, Value, numbers};

    #[test]
    fn half_a_message_is_an_error() {
        let read = |bytes: &[u8]| Fields(bytes).collect::<Result<Vec<_>, _>>().map(|fields| fields.len());
        assert_eq!(read(&[0x08, 0x96, 0x01]), Ok(1));
        assert_eq!(read(&[0x08, 0x96]), Err(Flaw::End));
        assert_eq!(read(&[0x0a, 0x05, 1]), Err(Flaw::End));
        assert_eq!(read(&[0x0b]), Err(Flaw::Form));
        assert_eq!(read(&[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2]), Err(Flaw::Number));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(number in 1..=u64::MAX, list in proptest::collection::vec(any::<u64>(), 1..9)) {
            let mut message = Message::default();
            message.number(7, number);
            message.packed(300, list.iter().copied());
            let fields: Vec<_> = Fields(&message.0).collect::<Result<_, _>>().expect("whole");
            prop_assert_eq!(fields[0], (7, Value::Number(number)));
            let mut found = Vec::new();
            numbers(300, fields[1].1, &mut found).expect("packed");
            prop_assert_eq!(found, list);
        }

        #[test]
        fn anything_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Fields(&bytes).count();
        }
    }
}
