//! `/attach`: something that lies elsewhere, told by its fields. Nothing is uploaded; a file of this machine is read for its size and
//! its hash if the line names one.

use std::{
    fs::File,
    io::{self, Read as _},
    path::PathBuf,
};

use aws_lc_rs::digest;
use client::{Attachment, AttachmentKind, Content};

use crate::command::NoCommand;

/// Read at once of a file: as much as makes a system call cheap.
const READ_BYTES: usize = 64 * 1024;

/// Before the caption, which is all that follows.
const CAPTION: &str = "caption=";

/// How it is written, for who has written it otherwise.
const USAGE: &str = "/attach LOCATION file=PATH, or size=BYTES sha256=HEX, and if wanted kind=image (video, audio, file), type=image/png, \
                     width=N, height=N, seconds=N, thumbnail=LOCATION and, last of all, caption=TEXT";

/// What a line says of an attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attach {
    kind: AttachmentKind,
    bytes: Bytes,
    content_type: String,
    location: String,
    width: u64,
    height: u64,
    duration_ms: u64,
    thumbnail: String,
    caption: String,
}

/// How many bytes it has, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Bytes {
    Told(Known),
    /// Those of this file.
    Of(PathBuf),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    size: u64,
    sha256: [u8; 32],
}

impl Attach {
    /// Of what stands behind the command.
    ///
    /// # Errors
    /// Something is missing, twice or not of its form; in words.
    pub(crate) fn parse(rest: &str) -> Result<Self, NoCommand> {
        let wrong = |what: String| NoCommand::new(format!("{what}: it is written {USAGE}"));
        let (fields, caption) = match begin_of_caption(rest) {
            Some(begin) => (&rest[..begin], rest[begin + CAPTION.len()..].trim_end().to_owned()),
            None => (rest, String::new()),
        };
        let mut words = words(fields).map_err(wrong)?.into_iter();
        let location = words.next().ok_or_else(|| wrong("/attach takes where it lies".to_owned()))?;
        let (mut kind, mut size, mut sha256, mut file) = (None, None, None, None);
        let (mut content_type, mut thumbnail) = (None, None);
        let (mut width, mut height, mut duration_ms) = (None, None, None);
        for word in words {
            let (name, value) = word.split_once('=').ok_or_else(|| wrong(format!("`{word}` is no field")))?;
            let of = |what: &str| wrong(format!("{name} is {what}, not `{value}`"));
            let number = || value.parse::<u64>().map_err(|_| of("a number"));
            let is_second = match name {
                "kind" => kind.replace(kind_of(value).ok_or_else(|| of("image, video, audio or file"))?).is_some(),
                "size" => size.replace(number()?).is_some(),
                "sha256" => sha256.replace(hash(value).ok_or_else(|| of("64 hexadecimal digits"))?).is_some(),
                "file" => file.replace(PathBuf::from(value)).is_some(),
                "type" => content_type.replace(value.to_owned()).is_some(),
                "width" => width.replace(number()?).is_some(),
                "height" => height.replace(number()?).is_some(),
                "seconds" => duration_ms.replace(milliseconds(value).ok_or_else(|| of("a time"))?).is_some(),
                "thumbnail" => thumbnail.replace(value.to_owned()).is_some(),
                _ => return Err(wrong(format!("`{name}` is no field"))),
            };
            if is_second {
                return Err(wrong(format!("{name} stands there twice")));
            }
        }
        let bytes = match (size, sha256, file) {
            (Some(size), Some(sha256), None) => Bytes::Told(Known { size, sha256 }),
            (None, None, Some(file)) => Bytes::Of(file),
            _ => return Err(wrong("/attach takes either a file, or a size and a hash".to_owned())),
        };
        let content_type = content_type.unwrap_or_default();
        let kind = kind.or_else(|| kind_of(content_type.split('/').next()?)).unwrap_or(AttachmentKind::Document);
        let (width, height) = (width.unwrap_or_default(), height.unwrap_or_default());
        let (duration_ms, thumbnail) = (duration_ms.unwrap_or_default(), thumbnail.unwrap_or_default());
        Ok(Self { kind, bytes, content_type, location, width, height, duration_ms, thumbnail, caption })
    }

    /// The message. Reads the file, if one is named, which takes as long as it is large.
    ///
    /// # Errors
    /// The file can not be read; in words.
    pub(crate) fn content(&self) -> Result<Content, String> {
        let known = match &self.bytes {
            Bytes::Told(known) => known.clone(),
            Bytes::Of(path) => {
                read(path).map_err(|error| format!("{} can not be attached: {error}", path.display()))?
            }
        };
        Ok(Content::attachment(&Attachment {
            kind: self.kind,
            size: known.size,
            sha256: &known.sha256,
            content_type: &self.content_type,
            location: &self.location,
            width: self.width,
            height: self.height,
            duration_ms: self.duration_ms,
            thumbnail: &self.thumbnail,
            caption: &self.caption,
        }))
    }
}

/// Where a word begins that is the caption. What stands in double quotes is none, nor is a part of a word.
fn begin_of_caption(line: &str) -> Option<usize> {
    let (mut is_quoted, mut is_begin) = (false, true);
    for (at, c) in line.char_indices() {
        if is_begin && !is_quoted && line[at..].starts_with(CAPTION) {
            return Some(at);
        }
        is_quoted ^= c == '"';
        is_begin = c.is_whitespace();
    }
    None
}

/// The words of a line. What stands in double quotes is part of one, whatever it is.
fn words(line: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut is_quoted) = (Vec::new(), None::<String>, false);
    for c in line.chars() {
        match c {
            '"' => {
                is_quoted = !is_quoted;
                word.get_or_insert_default();
            }
            c if c.is_whitespace() && !is_quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    if is_quoted { Err("a quotation mark is missing".to_owned()) } else { Ok(words) }
}

fn kind_of(name: &str) -> Option<AttachmentKind> {
    AttachmentKind::ALL.iter().copied().find(|kind| kind.name() == name)
}

fn hash(hex: &str) -> Option<[u8; 32]> {
    let digits = hex.as_bytes();
    let mut hash = [0; 32];
    if digits.len() != 2 * hash.len() {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(digits.chunks(2)) {
        let digit = |c: u8| (c as char).to_digit(16);
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Some(hash)
}

/// Of seconds, with up to three decimals.
fn milliseconds(seconds: &str) -> Option<u64> {
    let (whole, part) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let is_part = (1..=3).contains(&part.len()) && part.bytes().all(|c| c.is_ascii_digit());
    let part: u64 = if is_part { format!("{part:0<3}").parse().ok()? } else { return None };
    whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(part)
}

fn read(path: &PathBuf) -> io::Result<Known> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        // A pipe would never end.
        return Err(io::Error::other("it is no file"));
    }
    let (mut hash, mut size, mut buffer) = (digest::Context::new(&digest::SHA256), 0, vec![0; READ_BYTES]);
    loop {
        let count = file.read(&mut buffer)?;
        hash.update(&buffer[..count]);
        size += count as u64;
        if count == 0 && size == metadata.len() {
            break;
        }
        if count == 0 || size > metadata.len() {
            return Err(io::Error::other("it was written to while it was read: try again"));
        }
    }
    let sha256 = hash.finish().as_ref().try_into().map_err(io::Error::other)?;
    Ok(Known { size, sha256 })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use client::Body;

    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn all_that_a_line_tells_is_in_the_message() {
        let line = format!(
            r#"https://files.example/1 size=3 sha256={ABC} type="video/mp4" width=640 height=480 seconds=61.5 thumbnail=k caption= The sea, "x=1" "#
        );
        let content = Attach::parse(&line).unwrap().content().unwrap();
        let Ok(Body::Attachment(attachment)) = content.body() else { panic!("{content:?}") };
        assert_eq!((attachment.kind, attachment.size), (AttachmentKind::Video, 3));
        assert_eq!((attachment.sha256[0], attachment.sha256[31]), (0xba, 0xad));
        assert_eq!((attachment.content_type, attachment.location), ("video/mp4", "https://files.example/1"));
        assert_eq!((attachment.width, attachment.height, attachment.duration_ms), (640, 480, 61_500));
        assert_eq!((attachment.thumbnail, attachment.caption), ("k", " The sea, \"x=1\""));
    }

    #[test]
    fn a_file_is_read_for_its_size_and_its_hash() {
        let dir = std::env::temp_dir().join(format!("ringpost-attach-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("a file");
        fs::write(&path, b"abc").unwrap();
        let named = |path: &PathBuf| Attach::parse(&format!("key file=\"{}\"", path.display())).unwrap().content();
        let content = named(&path).unwrap();
        let Ok(Body::Attachment(attachment)) = content.body() else { panic!("{content:?}") };
        assert_eq!((attachment.kind, attachment.size, attachment.caption), (AttachmentKind::Document, 3, ""));
        assert_eq!(Some(*attachment.sha256), hash(ABC));
        assert!(named(&dir).unwrap_err().contains("it is no file"));
        fs::remove_dir_all(&dir).unwrap();
        assert!(named(&path).unwrap_err().contains("a file can not be attached"));
    }

    #[test]
    fn a_caption_begins_where_a_word_does_and_nowhere_else() {
        let line = r#"https://x/?caption=1 size=3 sha256=0000000000000000000000000000000000000000000000000000000000000000 thumbnail="a caption=b" caption=so it is"#;
        let attach = Attach::parse(line).unwrap();
        assert_eq!((&*attach.location, &*attach.thumbnail), ("https://x/?caption=1", "a caption=b"));
        assert_eq!(attach.caption, "so it is");
    }

    #[test]
    fn what_is_wrong_with_a_line_is_named() {
        for (line, what) in [
            ("", "takes where it lies"),
            ("k", "either a file, or a size and a hash"),
            ("k size=1", "either a file, or a size and a hash"),
            ("k file=a size=1", "either a file, or a size and a hash"),
            ("k file=a file=b", "file stands there twice"),
            ("k file=a colour=red", "`colour` is no field"),
            ("k file=a red", "`red` is no field"),
            ("k file=\"a", "a quotation mark is missing"),
            ("k size=x sha256=00", "size is a number, not `x`"),
            ("k size=1 sha256=00", "sha256 is 64 hexadecimal digits"),
            ("k file=a kind=picture", "kind is image, video, audio or file"),
            ("k file=a seconds=1.2345", "seconds is a time"),
        ] {
            let error = Attach::parse(line).unwrap_err().to_string();
            assert!(error.contains(what), "{line}: {error}");
        }
    }
}
