//! The lines of standard input, from a thread, because a pipe blocks.

use std::{
    io::{self, BufRead, Read as _},
    thread,
};

use client::TEXT_BYTES_MAX;
use tokio::sync::mpsc;

/// Lines read ahead of the network. More would only hide that it is slow.
const LINES_WAITING_MAX: usize = 16;

/// The longest message, and the slash that is put before another.
const LINE_BYTES_MAX: usize = TEXT_BYTES_MAX + 1;

/// Why a line is none; nothing follows it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoLine {
    #[error("longer than {LINE_BYTES_MAX} bytes")]
    TooLong,
    #[error("not UTF-8")]
    NotUtf8,
    #[error("standard input: {0}")]
    Io(#[from] io::Error),
}

pub(crate) type Lines = mpsc::Receiver<Result<String, NoLine>>;

pub(crate) fn lines() -> Lines {
    let (sender, lines) = mpsc::channel(LINES_WAITING_MAX);
    thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        while let Some(line) = next(&mut stdin) {
            let is_last = line.is_err();
            if sender.blocking_send(line).is_err() || is_last {
                return;
            }
        }
    });
    lines
}

/// The next line without its end; none behind the last.
fn next(input: &mut impl BufRead) -> Option<Result<String, NoLine>> {
    let mut line = Vec::new();
    // One byte more than the longest line and its end: what fills it, is too long.
    let mut limited = input.take(LINE_BYTES_MAX as u64 + 3);
    match limited.read_until(b'\n', &mut line) {
        Ok(0) => return None,
        Ok(_) => {}
        Err(error) => return Some(Err(error.into())),
    }
    let line = line.strip_suffix(b"\n").map_or(line.as_slice(), |line| line.strip_suffix(b"\r").unwrap_or(line));
    if line.len() > LINE_BYTES_MAX {
        return Some(Err(NoLine::TooLong));
    }
    Some(String::from_utf8(line.to_vec()).map_err(|_| NoLine::NotUtf8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_of_utf8_or_none() {
        let long = "x".repeat(LINE_BYTES_MAX);
        let mut input = [b"a\r\n\n".as_slice(), long.as_bytes(), b"\r\nlast"].concat();
        let mut reader = input.as_slice();
        let mut all = Vec::new();
        while let Some(line) = next(&mut reader) {
            all.push(line.unwrap());
        }
        assert_eq!(all, ["a", "", &long, "last"]);
        input.insert(4, b'x');
        let mut reader = &input[4..];
        assert!(matches!(next(&mut reader), Some(Err(NoLine::TooLong))));
        assert!(matches!(next(&mut b"a\xff\n".as_slice()), Some(Err(NoLine::NotUtf8))));
    }
}
