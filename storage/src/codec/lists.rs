//! Lists in records and values: as bytes, since a list of bincode's would announce its length.
//!
//! Invariant: bytes that have been read as a list have been looked at, to the last item: nothing that is made of them can fail.

use bincode::{
    BorrowDecode, Encode,
    de::BorrowDecoder,
    enc::Encoder,
    error::{DecodeError, EncodeError},
};
use proto_spec::{
    ConversationId, DeviceId, Seq,
    limits::REACTIONS_MAX,
    wire::{Reader, put_varint},
};

use super::{CONFIG, StoredFirst, StoredNote, StoredReplaced, put};
use crate::record::{DeviceNote, Replaced, Shown};

/// Most entries that one supersedes: what a message says, and all reactions to it.
const REPLACED_MAX: usize = 1 + REACTIONS_MAX;

/// [`StoredNote`]s, one after the other.
#[derive(Clone, Copy)]
pub(super) struct StoredNoteList<'a>(&'a [u8]);

/// [`StoredReplaced`], one after the other, at most [`REPLACED_MAX`] and none twice. By ascending seq; earlier builds wrote what the message
/// said first.
#[derive(Clone, Copy)]
pub(super) struct StoredReplacedList<'a>(&'a [u8]);

/// Seqs as they are on the wire, one after the other, ascending and at most so many.
#[derive(Clone, Copy)]
pub(super) struct StoredSeqs<'a, const MAX: usize>(&'a [u8]);

/// The reactions to a message.
pub(super) type StoredReactions<'a> = StoredSeqs<'a, REACTIONS_MAX>;

/// The entries of a group that one supersedes.
pub(super) type StoredGone<'a> = StoredSeqs<'a, REPLACED_MAX>;

/// Pairs of seqs as they are on the wire, one after the other.
#[derive(Clone, Copy)]
pub(super) struct StoredSpans<'a>(&'a [u8]);

/// The bytes of a [`StoredNoteList`].
pub(super) fn notes(devices: &[DeviceNote]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for DeviceNote { device, seen_day, name } in devices {
        put(&mut bytes, &StoredNote { device: device.0, seen_day: *seen_day, name });
    }
    bytes
}

/// The bytes of a [`StoredReplacedList`], whatever the order is in which they are given.
///
/// # Panics
/// An entry is there twice, or there are more than a message has: no reader would take them.
pub(super) fn replaced(replaced: &[Replaced]) -> Vec<u8> {
    let mut sorted: Vec<_> = replaced.iter().collect();
    sorted.sort_unstable_by_key(|replaced| replaced.seq);
    check(sorted.iter().map(|replaced| Ok(replaced.seq.0)), REPLACED_MAX).expect("the entries of one message");
    let mut bytes = Vec::new();
    for Replaced { seq, first } in sorted {
        let first = first.map(|first| StoredFirst { time: first.time.0, said: first.said });
        put(&mut bytes, &StoredReplaced { seq: seq.0, first });
    }
    bytes
}

/// The bytes of [`StoredReactions`].
///
/// # Panics
/// They do not ascend, or are more than a message takes: no reader would take them.
pub(super) fn reactions(now: &Shown) -> Vec<u8> {
    check(now.reactions.iter().map(|seq| Ok(seq.0)), REACTIONS_MAX).expect("the reactions to one message");
    seqs(now.reactions.iter())
}

/// The bytes of [`StoredGone`], whatever the order is in which they are given.
///
/// # Panics
/// As [`replaced`].
pub(super) fn gone(replaced: &[Seq]) -> Vec<u8> {
    let mut sorted = replaced.to_vec();
    sorted.sort_unstable();
    check(sorted.iter().map(|seq| Ok(seq.0)), REPLACED_MAX).expect("the entries of one message");
    seqs(sorted.iter())
}

/// The bytes of [`StoredSpans`].
pub(super) fn spans(spans: &[(Seq, Seq)]) -> Vec<u8> {
    seqs(spans.iter().flat_map(|(first, last)| [first, last]))
}

/// The bytes of [`StoredSpans`] of which the first is a user; and of those of which it is a group.
pub(super) fn told(told: &[(ConversationId, Seq)]) -> (Vec<u8>, Vec<u8>) {
    let (mut people, mut groups) = (Vec::new(), Vec::new());
    for (conversation, seq) in told {
        let (bytes, number) = match conversation {
            ConversationId::Person(peer) => (&mut people, peer.0),
            ConversationId::Group(group) => (&mut groups, group.0),
        };
        [number, seq.0].into_iter().for_each(|number| put_varint(bytes, number));
    }
    (people, groups)
}

fn seqs<'a>(seqs: impl Iterator<Item = &'a Seq>) -> Vec<u8> {
    let mut bytes = Vec::new();
    seqs.for_each(|seq| put_varint(&mut bytes, seq.0));
    bytes
}

impl<'a> StoredNoteList<'a> {
    /// What [`notes`] has made.
    pub(super) const fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn items(self) -> impl Iterator<Item = Result<StoredNote<'a>, DecodeError>> {
        items(self.0)
    }
}

impl<'a> StoredReplacedList<'a> {
    /// What [`replaced`] has made.
    pub(super) const fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn items(self) -> impl Iterator<Item = Result<StoredReplaced, DecodeError>> {
        items(self.0)
    }
}

impl<'a, const MAX: usize> StoredSeqs<'a, MAX> {
    /// What [`reactions`] or [`gone`] has made.
    pub(super) const fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn seqs(self) -> impl Iterator<Item = Result<u64, DecodeError>> {
        varints(self.0).map(|seq| seq.ok_or(DecodeError::Other("a seq is not a varint")))
    }
}

/// The items in these bytes; an error, and then nothing more, where there is none.
fn items<'a, T: BorrowDecode<'a, ()>>(bytes: &'a [u8]) -> impl Iterator<Item = Result<T, DecodeError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let item = bincode::borrow_decode_from_slice(rest, CONFIG);
        rest = item.as_ref().map_or(&[], |(_, len)| &rest[*len..]);
        Some(item.map(|(item, _)| item))
    })
}

/// Whether these ascend and are no more than so many.
fn check(seqs: impl Iterator<Item = Result<u64, DecodeError>>, max: usize) -> Result<(), DecodeError> {
    let mut before = None;
    for (at, seq) in seqs.enumerate() {
        let seq = seq?;
        if at >= max {
            return Err(DecodeError::OtherString(format!("a list has more than {max} seqs")));
        }
        if before >= Some(seq) {
            return Err(DecodeError::OtherString(format!("seq {seq} stands behind {}", before.unwrap_or_default())));
        }
        before = Some(seq);
    }
    Ok(())
}

impl Encode for StoredNoteList<'_> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.0.encode(encoder)
    }
}

impl<'a, C> BorrowDecode<'a, C> for StoredNoteList<'a> {
    fn borrow_decode<D: BorrowDecoder<'a, Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let list = Self(<&[u8]>::borrow_decode(decoder)?);
        list.items().try_for_each(|note| note.map(drop)).map(|()| list)
    }
}

impl Encode for StoredReplacedList<'_> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.0.encode(encoder)
    }
}

impl<'a, C> BorrowDecode<'a, C> for StoredReplacedList<'a> {
    fn borrow_decode<D: BorrowDecoder<'a, Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let list = Self(<&[u8]>::borrow_decode(decoder)?);
        let seqs = || list.items().map(|replaced| replaced.map(|replaced| replaced.seq));
        check(seqs(), REPLACED_MAX).or_else(|_| {
            let mut sorted = seqs().take(REPLACED_MAX + 1).collect::<Result<Vec<_>, _>>()?;
            sorted.sort_unstable();
            check(sorted.into_iter().map(Ok), REPLACED_MAX)
        })?;
        Ok(list)
    }
}

impl<const MAX: usize> Encode for StoredSeqs<'_, MAX> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.0.encode(encoder)
    }
}

impl<'a, C, const MAX: usize> BorrowDecode<'a, C> for StoredSeqs<'a, MAX> {
    fn borrow_decode<D: BorrowDecoder<'a, Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let list = Self(<&[u8]>::borrow_decode(decoder)?);
        check(list.seqs(), MAX).map(|()| list)
    }
}

impl<'a> StoredSpans<'a> {
    /// What [`spans`] has made.
    pub(super) const fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn spans(self) -> impl Iterator<Item = (Seq, Seq)> {
        let mut seqs = varints(self.0).flatten().map(Seq);
        std::iter::from_fn(move || seqs.next().zip(seqs.next()))
    }
}

impl Encode for StoredSpans<'_> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.0.encode(encoder)
    }
}

impl<'a, C> BorrowDecode<'a, C> for StoredSpans<'a> {
    fn borrow_decode<D: BorrowDecoder<'a, Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let bytes = <&[u8]>::borrow_decode(decoder)?;
        let whole = varints(bytes).try_fold(0, |count, seq| seq.map(|_| count + 1));
        if whole.is_some_and(|count| count % 2 == 0) {
            Ok(Self(bytes))
        } else {
            Err(DecodeError::Other("spans are not pairs of varints"))
        }
    }
}

/// Device ids as the bytes that they have on the wire: a list of numbers would announce its length, and a row must not be smaller than
/// its entry there.
pub(crate) enum StoredIds<'a> {
    /// To be written.
    Ids(&'a [DeviceId]),
    /// As they were read, and have been looked at.
    Bytes(&'a [u8]),
}

impl Encode for StoredIds<'_> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let mut bytes = Vec::new();
        match self {
            Self::Ids(ids) => ids.iter().for_each(|id| put_varint(&mut bytes, id.0)),
            Self::Bytes(stored) => bytes.extend_from_slice(stored),
        }
        bytes.as_slice().encode(encoder)
    }
}

impl<'a, C> BorrowDecode<'a, C> for StoredIds<'a> {
    fn borrow_decode<D: BorrowDecoder<'a, Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let bytes = <&[u8]>::borrow_decode(decoder)?;
        let whole = varints(bytes).all(|id| id.is_some());
        if whole { Ok(Self::Bytes(bytes)) } else { Err(DecodeError::Other("a device id is not a varint")) }
    }
}

impl From<StoredIds<'_>> for Vec<DeviceId> {
    fn from(stored: StoredIds<'_>) -> Self {
        match stored {
            StoredIds::Ids(ids) => ids.to_vec(),
            StoredIds::Bytes(bytes) => varints(bytes).flatten().map(DeviceId).collect(),
        }
    }
}

/// The numbers in these bytes; none, and then nothing more, where there is no number.
fn varints(bytes: &[u8]) -> impl Iterator<Item = Option<u64>> {
    let mut reader = Some(Reader::new(bytes));
    std::iter::from_fn(move || {
        let left = reader.as_mut().filter(|left| !left.rest().is_empty())?;
        let number = left.varint("number").ok();
        if number.is_none() {
            reader = None;
        }
        Some(number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(replaces: &[u8], reactions: &[u8]) -> [Option<String>; 2] {
        fn read<'a, T: BorrowDecode<'a, ()>>(bytes: &'a [u8]) -> Option<String> {
            bincode::borrow_decode_from_slice::<T, _>(bytes, CONFIG).err().map(|error| error.to_string())
        }
        let sized = |list: &[u8]| [&[list.len() as u8], list].concat();
        [read::<StoredReplacedList<'_>>(&sized(replaces)), read::<StoredReactions<'_>>(&sized(reactions))]
    }

    #[test]
    fn a_list_of_entries_ascends_and_has_no_more_than_a_message() {
        // A seq, and that nothing is kept of it.
        let replaces = |seqs: &[u8]| seqs.iter().flat_map(|seq| [*seq, 0]).collect::<Vec<_>>();
        let seqs: Vec<u8> = (1..).take(REPLACED_MAX).collect();
        assert_eq!(refused(&replaces(&seqs), &seqs[1..]), [None, None]);
        assert_eq!(refused(&[], &[]), [None, None]);
        let many: Vec<u8> = (1..).take(REPLACED_MAX + 1).collect();
        let [replaced, reactions] = refused(&replaces(&many), &seqs).map(Option::unwrap);
        assert!(replaced.contains("more than 65") && reactions.contains("more than 64"), "{replaced} {reactions}");
        let twice = refused(&replaces(&[2, 2]), &[2, 2]).map(Option::unwrap);
        assert!(twice.iter().all(|refused| refused.contains("stands behind 2")), "{twice:?}");
        let [replaced, reactions] = refused(&replaces(&[2, 1]), &[2, 1]);
        assert!(replaced.is_none(), "earlier builds wrote what the message said first");
        assert!(reactions.unwrap().contains("stands behind 2"));
        let cut = refused(&[1, 0, 2], &[1, 0x80]).map(Option::unwrap);
        assert!(cut[1].contains("a seq is not a varint"), "{cut:?}");
    }

    #[test]
    fn parts_of_a_log_are_pairs() {
        let read = |list: &[u8]| {
            let sized = [&[list.len() as u8], list].concat();
            let read = bincode::borrow_decode_from_slice::<StoredSpans<'_>, _>(&sized, CONFIG);
            read.map(|(read, _)| read.spans().map(|(first, last)| [first.0, last.0]).collect::<Vec<_>>()).ok()
        };
        assert_eq!(read(&[]), Some(vec![]));
        assert_eq!(read(&[1, 3, 7, 7]), Some(vec![[1, 3], [7, 7]]));
        let all = spans(&[(Seq(0), Seq(u64::MAX)), (Seq(9), Seq(2))]);
        assert_eq!(read(&all), Some(vec![[0, u64::MAX], [9, 2]]));
        for torn in [&[1][..], &[1, 3, 7], &[1, 0x80]] {
            assert_eq!(read(torn), None);
        }
    }

    #[test]
    fn entries_are_written_in_the_order_in_which_they_are_read() {
        let of = |seqs: [u64; 3]| replaced(&seqs.map(|seq| Replaced { seq: Seq(seq), first: None }));
        assert_eq!(of([9, 3, 5]), of([3, 5, 9]));
        assert!(std::panic::catch_unwind(|| of([3, 5, 3])).is_err());
        let twice = Shown { says: Seq(1), reactions: vec![Seq(2), Seq(2)] };
        assert!(std::panic::catch_unwind(|| reactions(&twice)).is_err());
    }
}
