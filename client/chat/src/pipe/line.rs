//! The lines that a script reads. Their format is documented in `--help` and does not change.

use client::{
    ConversationId, DeviceId, DeviceInfo, Durability, Presence, Recipient, Removal, Seq, Settings, TimestampMs, UserId,
    Visibility,
};
use jiff::Timestamp;

use super::group_line::GroupLine;
use crate::{checking::Found, devices, presence, visible::escaped, words};

/// The format, as `--help` tells it.
pub(crate) const FORMAT: &str = r"On a terminal it shows the conversation on the whole screen; /help says what can be typed.

From a pipe, each line of input is a message, or one of /to USER (or /to #ID, a group), /reply [#SEQ] TEXT, /edit
[#SEQ] TEXT, /unsend [#SEQ], /delete [#SEQ], /react [#SEQ] EMOJI, /attach LOCATION FIELDS, /history [N], /cancel,
/inbox [N], /read, /mute, /archive, /pin, /block, /mentions (/unmute and so on for the opposite), /check, /devices,
/device-name NAME (of this one), /remove-device ID (for ever), /watch [USER …], /presence USER …, /typing USER (or
#ID), /away, /here, /invisible, /visible, /lastseen off (or on), /group NAME, /groups, /members, /add USER, /remove
USER, /ban USER, /unban USER, /role USER ROLE, /rename NAME, /rules WORD …, /invite, /uninvite, /join #ID SECRET,
/leave, /end, /quit; a message that begins with / is written with // in front, and blank
lines are passed over. /reply answers the message that was told with this SEQ, or the last one received from USER, and
/react says what you feel about it, or without EMOJI takes that back; /delete takes it, or the last of the
conversation, out of your own history alone; /edit and /unsend change your own, or the last you sent there, for whose
answer they wait if it has none yet; /attach sends where something lies that was uploaded already: file=PATH is read
for its size and its hash, or they are told as size=BYTES sha256=HEX; kind=image (video, audio, file), type=image/png,
width=N, height=N, seconds=N, thumbnail=LOCATION and, last of all, caption=TEXT can be told too; /cancel takes back
your newest message without an answer, if it is not too late; /watch tells from now on who of these users comes and
goes, and of no others; /presence asks once who of them is there; /typing tells USER, if you watch them and are
connected, that you are writing, and is said again every 3 s as long as that goes on; /away says that nobody sits
here, until /here; /invisible hides from everybody whether you are there, and /lastseen off when you were there last;
/group begins a group of which you are the owner, and goes to it; /mentions mutes a group but for what names you;
/members, /add and so on are about the group that one writes to, with ROLE member, admin or owner; /rules says what
only admins do in it from now on (add, write, rename), and that newcomers see its history (history), or none of this;
/invite lets in whoever says /join with the SECRET that is told then. What is done to a group is a message: it is accepted, and then the group
takes or refuses it. A line that is no command, too long or not UTF-8 ends the input: nothing after it is sent, and
what was sent before is waited for.
Each line of output is one of
  connected USER [at ADDRESS]                 USER is who the token says you are; ADDRESS is of the server that has you, if
                                              it is not the one that was given
  disconnected REASON                         once for each reason; connecting again happens by itself
  replaced                                    the server was set back: what was told of messages before is void, and what
                                              it has now follows from its beginning
  history received FROM SEQ TIME TEXT         the conversation before this run, oldest first, before all that follows
  history sent TO SEQ TIME TEXT
  history reacted USER SEQ TIME TEXT          behind the message told as SEQ
  received FROM SEQ TIME TEXT                 a message to you, from anybody
  sent TO SEQ TIME TEXT                       a message from another device of yours
  accepted N SEQ DURABILITY RECIPIENT         your Nth message of this run is in your log as SEQ
  committed SEQ                               what was accepted as memory or local, up to SEQ, is committed now
  checked same FIRST LAST                     /check: the server's log has what this run was handed, entries FIRST to LAST;
  checked differs FIRST LAST                  or something else there; or nothing was handed out yet (checked nothing),
                                              or too much is going on (checked changing)
  refused N CODE                              your Nth message was refused for good
  edited AUTHOR SEQ TIME TEXT                 the message that was told as SEQ says this now
  unsent AUTHOR SEQ TIME                      the message that was told as SEQ was taken back
  deleted USER SEQ                            you have deleted the message that was told as SEQ, in the conversation with
                                              USER, which may be #ID of a group, as in kept
  reacted USER SEQ TIME TEXT                  USER feels this about the message that was told as SEQ; without TEXT nothing any more
  cancelled N                                 your Nth message, which /cancel took back, is in no log
  delivered USER SEQ                          USER's devices have what you sent up to SEQ
  seen USER SEQ                               USER has read what you sent up to SEQ
  read USER SEQ UNREAD                        you have read the conversation with USER up to SEQ; UNREAD are left
  kept USER HOW                               you keep the conversation with USER like this from now on
  inbox USER UNREAD HOW SEQ TIME TEXT         a conversation and its last message, from the newest on
  devices N                                   you have N devices; a line for each follows
  device ID STATE DAY SEQ NAME                STATE connected or away, DAY of its last connection or -, what it has; NAME may be -
  presence USER STATE SEEN                    USER, whom you watch or asked for, is this now: STATE online, away, offline or
                                              unknown, as everybody is whom you do not watch, or not yet, or without a
                                              connection; SEEN the TIME at which an offline one was there last, or -
  typing USER HOW                             USER is writing to you: HOW begins, or ends
  visibility HOW                              you hide this of your presence from now on: HOW invisible, last_seen, both with
                                              a comma between, or -
  removed ID WHY                              a device of yours was removed: WHY user, room or operator
  group #ID begins N                          /group: your Nth message begins this group, to which you write from now on
  group #ID invites N SECRET                  /invite: with your Nth message whoever has the SECRET may join
  group #ID standing HOW SEQ                  you are this to it from now on: HOW member, left, removed or banned; it has
                                              come to SEQ, of a count of its own, as all SEQ of groups are
  group #ID message USER SEQ TIME TEXT        USER, perhaps you, has written to the group
  group #ID mention USER SEQ TIME TEXT        the same, and TEXT names you, as @USER does in what you write to a group
  group #ID edited USER SEQ TIME TEXT         the message that was told as SEQ says this now
  group #ID unsent USER SEQ TIME              the message that was told as SEQ was taken back
  group #ID reacted USER SEQ TIME TEXT        as reacted
  group #ID act USER SEQ TIME TEXT            USER has done this: create NAME, add USER, remove USER, ban USER, unban USER,
                                              set_role USER ROLE, describe NAME, set_rules N, invite, join or end
  history group #ID …                         as history, for a group
  group #ID refused SEQ CODE                  the group has not taken what was accepted as SEQ of your log
  groups N                                    /groups: N of yours, perhaps in several parts; a line for each follows
  group #ID typing USER HOW                   as typing
  group #ID read SEQ                          you have read the group up to SEQ
  group #ID row HOW ROLE N SEQ NAME           HOW you stand to it, what you may do or -, its N members, how far it is, and
                                              its name or -
  group #ID members N HAVE READ               /members: N of them, perhaps in several parts; a line for each follows. Of the
                                              others HAVE have the newest entry, and READ have read it
  group #ID member USER ROLE SEQ READ HAS     USER, who came as SEQ, lets others know that it is read up to READ, and has
                                              what came up to HAS; both 0 in a large group
received and sent come in the order of the log, and what is told of a group in that of the group: each once, from the
first that is heard of it in this run; what was before comes with /history. TIME is UTC (2026-01-01T12:00:00Z),
DURABILITY memory, local or committed, RECIPIENT online, offline or yourself, UNREAD 0 to 999, or many. HOW is made of
muted, archived, pinned, blocked and mentions, with commas between, or is -. TEXT of a reply is ↳, the quote and a
line break before the answer; of an attachment what it is in [], where it lies, and its caption; of what this version
can not read, words in (). In TEXT, which goes to the end of the line, \\ stands for \, \n for a line break, \u{..}
for characters that a terminal obeys, that turn the direction of writing, or that can not be seen.";

/// Where a message was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Now,
    History,
}

/// Whether somebody types from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Begins,
    Ends,
}

/// One thing to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Connected {
        user: UserId,
        /// Where, if that is not the address that was given.
        elsewhere: Option<String>,
    },
    Disconnected {
        reason: String,
    },
    /// The log is another one.
    Replaced,
    Received {
        from: UserId,
        seq: Seq,
        time: TimestampMs,
        text: String,
        origin: Origin,
    },
    Sent {
        to: ConversationId,
        seq: Seq,
        time: TimestampMs,
        text: String,
        origin: Origin,
    },
    Edited {
        author: UserId,
        place: Seq,
        time: TimestampMs,
        text: String,
    },
    Reacted {
        by: UserId,
        place: Seq,
        time: TimestampMs,
        text: String,
        origin: Origin,
    },
    Unsent {
        author: UserId,
        place: Seq,
        time: TimestampMs,
    },
    Deleted {
        conversation: ConversationId,
        place: Seq,
    },
    Accepted {
        ordinal: u64,
        seq: Seq,
        durability: Durability,
        recipient: Recipient,
    },
    Committed {
        up_to: Seq,
    },
    Refused {
        ordinal: u64,
        why: String,
    },
    Cancelled {
        ordinal: u64,
    },
    Delivered {
        peer: ConversationId,
        up_to: Seq,
    },
    Seen {
        peer: ConversationId,
        up_to: Seq,
    },
    Read {
        conversation: ConversationId,
        up_to: Seq,
        unread: u64,
    },
    Kept {
        conversation: ConversationId,
        settings: Settings,
    },
    Inbox {
        conversation: ConversationId,
        unread: u64,
        settings: Settings,
        seq: Seq,
        time: TimestampMs,
        text: String,
    },
    /// What a comparison with the server's log comes to.
    Checked(Found),
    /// So many devices follow.
    Devices(usize),
    Device(DeviceInfo),
    Removed {
        device: DeviceId,
        why: Removal,
    },
    /// Who is there; unless they are offline, when they were is not told.
    Presence {
        user: UserId,
        state: Presence,
        last_seen: Option<TimestampMs>,
    },
    Typing {
        user: UserId,
        how: How,
    },
    /// What is hidden of the own presence.
    Visibility(Visibility),
    /// Of a group.
    Group(GroupLine),
    /// Something that was asked for did not work. For standard error.
    Problem(String),
}

impl Line {
    /// None: not for standard output.
    pub(crate) fn plain(&self) -> Option<String> {
        let history = |origin: &Origin| match origin {
            Origin::Now => "",
            Origin::History => "history ",
        };
        Some(match self {
            Self::Connected { user, elsewhere: None } => format!("connected {user}"),
            Self::Connected { user, elsewhere: Some(address) } => format!("connected {user} at {}", escaped(address)),
            Self::Replaced => "replaced".to_owned(),
            Self::Disconnected { reason } => format!("disconnected {}", escaped(reason)),
            Self::Received { from, seq, time, text, origin } => {
                format!("{}received {from} {seq} {} {}", history(origin), utc(*time), escaped(text))
            }
            Self::Sent { to, seq, time, text, origin } => {
                format!("{}sent {to} {seq} {} {}", history(origin), utc(*time), escaped(text))
            }
            Self::Edited { author, place, time, text } => {
                format!("edited {author} {place} {} {}", utc(*time), escaped(text))
            }
            Self::Reacted { by, place, time, text, origin } => {
                let line = format!("{}reacted {by} {place} {} {}", history(origin), utc(*time), escaped(text));
                line.trim_end().to_owned()
            }
            Self::Deleted { conversation, place } => format!("deleted {conversation} {place}"),
            Self::Unsent { author, place, time } => format!("unsent {author} {place} {}", utc(*time)),
            Self::Accepted { ordinal, seq, durability, recipient } => {
                let durability = match durability {
                    Durability::Memory => "memory",
                    Durability::Local => "local",
                    Durability::Committed => "committed",
                };
                let recipient = match recipient {
                    Recipient::Offline => "offline",
                    Recipient::Online => "online",
                    Recipient::Yourself => "yourself",
                };
                format!("accepted {ordinal} {seq} {durability} {recipient}")
            }
            Self::Committed { up_to } => format!("committed {up_to}"),
            Self::Refused { ordinal, why } => format!("refused {ordinal} {why}"),
            Self::Cancelled { ordinal } => format!("cancelled {ordinal}"),
            Self::Delivered { peer, up_to } => format!("delivered {peer} {up_to}"),
            Self::Seen { peer, up_to } => format!("seen {peer} {up_to}"),
            Self::Read { conversation, up_to, unread } => {
                format!("read {conversation} {up_to} {}", words::unread(*unread))
            }
            Self::Kept { conversation, settings } => format!("kept {conversation} {}", words::kept(*settings)),
            Self::Inbox { conversation, unread, settings, seq, time, text } => {
                let (unread, kept) = (words::unread(*unread), words::kept(*settings));
                format!("inbox {conversation} {unread} {kept} {seq} {} {}", utc(*time), escaped(text))
            }
            Self::Checked(Found::Same(first, last)) => format!("checked same {first} {last}"),
            Self::Checked(Found::Differs(first, last)) => format!("checked differs {first} {last}"),
            Self::Checked(Found::Nothing) => "checked nothing".to_owned(),
            Self::Checked(Found::Changing) => "checked changing".to_owned(),
            Self::Devices(count) => format!("devices {count}"),
            Self::Device(DeviceInfo { device, seen_day, is_connected, cursor, name }) => {
                let state = if *is_connected { "connected" } else { "away" };
                let (day, name) = (devices::day(*seen_day), escaped(name));
                let name = if name.is_empty() { "-" } else { name.as_str() };
                format!("device {device} {state} {} {cursor} {name}", day.as_deref().unwrap_or("-"))
            }
            Self::Removed { device, why } => format!("removed {device} {}", devices::reason(*why)),
            Self::Presence { user, state, last_seen } => {
                let seen = last_seen.map_or("-".to_owned(), utc);
                format!("presence {user} {} {seen}", presence::word(*state))
            }
            Self::Typing { user, how: How::Begins } => format!("typing {user} begins"),
            Self::Typing { user, how: How::Ends } => format!("typing {user} ends"),
            Self::Visibility(visibility) => format!("visibility {}", presence::hidden(*visibility)),
            Self::Group(line) => line.plain(),
            Self::Problem(_) => return None,
        })
    }
}

pub(crate) fn utc(time: TimestampMs) -> String {
    let ms = i64::try_from(time.0).ok();
    let time = ms.and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::MAX);
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(text: &str, origin: Origin) -> Line {
        let (from, seq, time) = (UserId(7), Seq(12), TimestampMs(1_767_268_800_123));
        Line::Received { from, seq, time, text: text.into(), origin }
    }

    #[test]
    fn the_format_for_scripts_is_as_documented() {
        assert_eq!(received("hello", Origin::Now).plain().unwrap(), "received 7 12 2026-01-01T12:00:00Z hello");
        let line = received("a\nb\\c\u{1b}[2J", Origin::History);
        assert_eq!(line.plain().unwrap(), "history received 7 12 2026-01-01T12:00:00Z a\\nb\\\\c\\u{1b}[2J");
        let accepted = Line::Accepted {
            ordinal: 3,
            seq: Seq(9),
            durability: Durability::Committed,
            recipient: Recipient::Offline,
        };
        assert_eq!(accepted.plain().unwrap(), "accepted 3 9 committed offline");
        let connected = |elsewhere| Line::Connected { user: UserId(7), elsewhere };
        assert_eq!(connected(None).plain().unwrap(), "connected 7");
        assert_eq!(connected(Some("node2\n:1".to_owned())).plain().unwrap(), "connected 7 at node2\\n:1");
        assert_eq!(Line::Checked(Found::Same(Seq(5), Seq(9))).plain().unwrap(), "checked same 5 9");
        assert_eq!(Line::Checked(Found::Differs(Seq(7), Seq(7))).plain().unwrap(), "checked differs 7 7");
        let presence = |state, last_seen| Line::Presence { user: UserId(8), state, last_seen };
        assert_eq!(presence(Presence::Away, None).plain().unwrap(), "presence 8 away -");
        let gone = presence(Presence::Offline, Some(TimestampMs(1_767_268_800_123)));
        assert_eq!(gone.plain().unwrap(), "presence 8 offline 2026-01-01T12:00:00Z");
        assert_eq!(Line::Typing { user: UserId(8), how: How::Ends }.plain().unwrap(), "typing 8 ends");
        assert_eq!(Line::Visibility(Visibility::INVISIBLE).plain().unwrap(), "visibility invisible");
        assert_eq!(Line::Cancelled { ordinal: 3 }.plain().unwrap(), "cancelled 3");
        assert_eq!(Line::Delivered { peer: UserId(8).into(), up_to: Seq(9) }.plain().unwrap(), "delivered 8 9");
    }
}
