//! Who is there and who types: what a line asks for, and what is told of it.

use client::{ConversationId, Status, UserId, UserPresence};

use super::{Said, Script};
use crate::pipe::{
    group_line::GroupLine,
    line::{How, Line},
};

impl Script {
    pub(super) fn watch(&self, users: &[UserId]) -> Said {
        match self.client.watch(users) {
            Ok(()) => Said::Taken(Vec::new()),
            // As many as a line may name, so it can only be that the client has ended, as its last event says.
            Err(_) => Said::Later,
        }
    }

    pub(super) fn typing(&self, conversation: ConversationId) -> Said {
        self.client.typing(conversation);
        Said::Taken(Vec::new())
    }

    pub(super) fn status(&self, status: Status) -> Said {
        self.client.set_status(status);
        Said::Taken(Vec::new())
    }
}

pub(super) const fn typing_line(conversation: ConversationId, user: UserId, how: How) -> Line {
    match conversation {
        ConversationId::Person(_) => Line::Typing { user, how },
        ConversationId::Group(group) => Line::Group(GroupLine::Typing { group, user, how }),
    }
}

pub(super) fn presence_line(UserPresence { user, state, last_seen }: UserPresence) -> Line {
    Line::Presence { user, state, last_seen }
}

#[cfg(test)]
mod tests {
    use client::{
        Client, ClientEvent, ClientState, Config, DeviceId, Entry, Event, Presence, Seq, TimestampMs, Visibility,
    };

    use super::*;
    use crate::pipe::script::Who;

    #[tokio::test]
    async fn what_happens_to_those_who_are_watched_is_a_line_each_and_an_answer_that_is_asked_for_is_waited_for() {
        let config = Config::new("127.0.0.1:9", "token".to_owned(), DeviceId(1));
        let (client, _events) = Client::connect(config.clone()).unwrap();
        let who = Who { device: DeviceId(1), peer: UserId(8).into(), history: 0 };
        let mut script = Script::new(client, who, "127.0.0.1:9".into());
        script.last_number = Some(client::SendNumber(0));
        for line in ["/watch 8 9", "/watch", "/typing 8", "/away", "/here"] {
            assert_eq!(script.say(line), Said::Taken(Vec::new()), "{line}");
        }
        assert!(script.is_answered(), "nothing is waited for");
        assert_eq!(script.say("/presence 8 9"), Said::Taken(Vec::new()));
        assert!(!script.is_answered());
        let mut asked = ClientState::new(config).unwrap();
        let fetch = asked.fetch_presence(&[UserId(8)]).unwrap();
        let of = |user, state| UserPresence { user: UserId(user), state, last_seen: None };
        let user = UserId(8);
        let visibility = Event::Visibility { visibility: Visibility::HIDE_LAST_SEEN };
        let told = [
            ClientEvent::Presence(of(8, Presence::Online)),
            ClientEvent::Typing { conversation: user.into(), user },
            ClientEvent::TypingEnded { conversation: user.into(), user },
            ClientEvent::Typing { conversation: client::GroupId(42).into(), user },
            ClientEvent::Presences { fetch, users: vec![of(8, Presence::Away), of(9, Presence::Unknown)] },
            ClientEvent::Entry(Entry { seq: Seq(1), time: TimestampMs(1), event: visibility }),
        ];
        let lines = told.into_iter().flat_map(|event| script.on_event(event));
        let plain: Vec<String> = lines.filter_map(|line| line.plain()).collect();
        let wanted = [
            "presence 8 online -",
            "typing 8 begins",
            "typing 8 ends",
            "group #42 typing 8 begins",
            "presence 8 away -",
            "presence 9 unknown -",
            "visibility last_seen",
        ];
        assert_eq!(plain, wanted);
        assert!(script.is_answered());
    }
}
