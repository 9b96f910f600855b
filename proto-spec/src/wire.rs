//! The two primitives of the wire: the varint and the length-prefixed byte string (SPEC 2.2).
//!
//! Writing appends to a `Vec<u8>` and cannot fail; reading goes through [`Reader`], which never reads past its slice,
//! never allocates before it has checked a length, and names the field that could not be read.

use thiserror::Error;

/// Why the body of a frame could not be read. Incomplete input is not an error: frames are decoded whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The body ends before the field does.
    #[error("the body ends inside the field `{field}`")]
    Truncated {
        /// The field's name in SPEC.md.
        field: &'static str,
    },
    /// More than ten bytes, more than 64 bits, or not the shortest form.
    #[error("the field `{field}` is not a canonical varint")]
    Varint {
        /// The field's name in SPEC.md.
        field: &'static str,
    },
    /// A length beyond the limit of its field.
    #[error("the field `{field}` has {size} bytes, at most {max} are allowed")]
    TooLong {
        /// The field's name in SPEC.md.
        field: &'static str,
        /// What the peer announced.
        size: u64,
        /// What the field may have.
        max: u64,
    },
    /// A value that SPEC.md does not list for this field.
    #[error("the field `{field}` has the unlisted value {value}")]
    Unlisted {
        /// The field's name in SPEC.md.
        field: &'static str,
        /// What was read.
        value: u64,
    },
    /// Bytes that are not UTF-8.
    #[error("the field `{field}` is not UTF-8")]
    NotUtf8 {
        /// The field's name in SPEC.md.
        field: &'static str,
    },
}

/// Appends the canonical (shortest) LEB128 form of `value`.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many bytes [`put_varint`] appends: 1 to 10.
#[must_use]
pub const fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Appends a varint length and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends what `body` appends, with its varint length in front.
pub(crate) fn put_sized(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    // The length stands first but is known last. It mostly has one byte: that much is kept free, and only what is longer is moved.
    let start = out.len();
    out.push(0);
    body(out);
    let size = out.len() - (start + 1);
    let prefix = varint_len(size as u64);
    if prefix > 1 {
        out.resize(out.len() + prefix - 1, 0);
        out.copy_within(start + 1..start + 1 + size, start + prefix);
    }
    let mut value = size;
    for byte in &mut out[start..start + prefix] {
        *byte = (value as u8 & 0x7f) | if value >= 0x80 { 0x80 } else { 0 };
        value >>= 7;
    }
}

/// What stands at the start of a buffer that may end anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// A whole varint and how many bytes it took.
    Whole(u64, usize),
    /// The buffer ends inside the varint.
    Incomplete,
    /// Too long, too large or not the shortest form.
    Invalid,
}

/// Reads a varint that may not have arrived whole.
#[must_use]
pub fn peek_varint(buf: &[u8]) -> Prefix {
    let mut value = 0u64;
    for (i, &byte) in buf.iter().take(10).enumerate() {
        let bits = u64::from(byte & 0x7f);
        // The tenth byte holds the 64th bit alone.
        if i == 9 && byte > 1 {
            return Prefix::Invalid;
        }
        value |= bits << (7 * i);
        if byte & 0x80 == 0 {
            // A last byte of zero means that a shorter form existed.
            if byte == 0 && i > 0 {
                return Prefix::Invalid;
            }
            return Prefix::Whole(value, i + 1);
        }
    }
    // The tenth byte has ended the loop, so the buffer was shorter than that.
    Prefix::Incomplete
}

/// Reads fields off the front of one frame's body.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the front of `body`.
    #[must_use]
    pub const fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    /// What has not been read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// One byte.
    ///
    /// # Errors
    /// The body has ended.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        let (&first, rest) = self.rest.split_first().ok_or(DecodeError::Truncated { field })?;
        self.rest = rest;
        Ok(first)
    }

    /// One byte that must be one of the values that SPEC.md lists.
    pub(crate) fn listed<T>(
        &mut self,
        field: &'static str,
        from_byte: impl FnOnce(u8) -> Option<T>,
    ) -> Result<T, DecodeError> {
        let byte = self.u8(field)?;
        from_byte(byte).ok_or(DecodeError::Unlisted { field, value: byte.into() })
    }

    /// One canonical varint.
    ///
    /// # Errors
    /// The body has ended, or the varint is not in its shortest form, or it exceeds 64 bits.
    pub fn varint(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        match peek_varint(self.rest) {
            Prefix::Whole(value, len) => {
                self.rest = &self.rest[len..];
                Ok(value)
            }
            Prefix::Incomplete => Err(DecodeError::Truncated { field }),
            Prefix::Invalid => Err(DecodeError::Varint { field }),
        }
    }

    /// A varint length and that many bytes, at most `max`.
    ///
    /// # Errors
    /// As [`Reader::varint`], or the length exceeds `max`, or the body ends first.
    pub fn bytes(&mut self, field: &'static str, max: usize) -> Result<&'a [u8], DecodeError> {
        let size = self.varint(field)?;
        if size > max as u64 {
            return Err(DecodeError::TooLong { field, size, max: max as u64 });
        }
        let size = size as usize;
        if size > self.rest.len() {
            return Err(DecodeError::Truncated { field });
        }
        let (head, rest) = self.rest.split_at(size);
        self.rest = rest;
        Ok(head)
    }

    /// So many bytes, without a length before them.
    ///
    /// # Errors
    /// The body ends first.
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<&'a [u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Truncated { field })?;
        self.rest = rest;
        Ok(head)
    }

    /// As [`Reader::bytes`], checked to be UTF-8.
    ///
    /// # Errors
    /// As [`Reader::bytes`], or the bytes are not UTF-8.
    pub fn str(&mut self, field: &'static str, max: usize) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes(field, max)?).map_err(|_| DecodeError::NotUtf8 { field })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varint_grows_by_a_byte_every_seven_bits() {
        for (value, len) in
            [(0, 1), (127, 1), (128, 2), ((1 << 28) - 1, 4), (1 << 28, 5), (1 << 63, 10), (u64::MAX, 10)]
        {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!((out.len(), varint_len(value)), (len, len), "{value}");
        }
    }

    #[test]
    fn a_length_is_put_in_front_whatever_its_size() {
        for size in [0, 1, 127, 128, 16_383, 16_384, 70_000] {
            let body = vec![7; size];
            let (mut sized, mut expected) = (b"before".to_vec(), b"before".to_vec());
            put_sized(&mut sized, |out| out.extend_from_slice(&body));
            put_bytes(&mut expected, &body);
            assert!(sized == expected, "{size}");
        }
    }

    #[test]
    fn a_longer_form_of_a_varint_is_invalid() {
        for bytes in
            [&[0x80, 0x00][..], &[0x81, 0x80, 0x00], &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]]
        {
            assert_eq!(peek_varint(bytes), Prefix::Invalid, "{bytes:x?}");
        }
    }

    #[test]
    fn a_varint_beyond_64_bits_is_invalid() {
        let mut bytes = [0xff; 10];
        for last in [0x02, 0x7f, 0x80, 0x81, 0xff] {
            bytes[9] = last;
            assert_eq!(peek_varint(&bytes), Prefix::Invalid, "{last:x}");
        }
        bytes[9] = 0x01;
        assert_eq!(peek_varint(&bytes), Prefix::Whole(u64::MAX, 10));
        assert_eq!(peek_varint(&bytes[..9]), Prefix::Incomplete);
    }

    #[test]
    fn bytes_are_checked_against_the_limit_before_the_body() {
        let announced = [5, b'a', b'b'];
        let read = |max| Reader::new(&announced).bytes("x", max);
        assert_eq!(read(4), Err(DecodeError::TooLong { field: "x", size: 5, max: 4 }));
        assert_eq!(read(5), Err(DecodeError::Truncated { field: "x" }));
    }

    #[test]
    fn a_reader_goes_on_behind_what_it_has_read() {
        let mut reader = Reader::new(&[7, 0xac, 0x02, 2, b'h', b'i', 9]);
        assert_eq!(reader.u8("a"), Ok(7));
        assert_eq!(reader.varint("b"), Ok(300));
        assert_eq!(reader.str("c", 2), Ok("hi"));
        assert_eq!(reader.rest(), [9]);
    }
}
