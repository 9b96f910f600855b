//! Groups: what a line asks for, and what is told of them.

use client::{
    Act, Client, Content, ConversationId, Direction, Entry, FetchError, FetchHandle, GROUP_ROWS_MAX, GroupId,
    GroupPage, GroupRow, MEMBERS_PAGE_MAX, MemberInfo, Rules, SendError, Seq, UserId,
};

use super::{Said, Script, history::Older, sending::Sent};
use crate::pipe::{group_line::GroupLine, line::Line};

/// Entries that are asked for at once, when some of a group are missing.
const MISSING_PAGE: u64 = 100;

impl Script {
    /// Begins a group, to which what follows is sent.
    pub(super) fn begin_group(&mut self, name: &str) -> Said {
        match self.client.create_group(name, "", Rules::default()) {
            Ok((group, handle)) => {
                self.sent += 1;
                let content = Content::act(&Act::Create { name, picture: "", rules: Rules::default() });
                self.unanswered.insert(handle, Sent { ordinal: self.sent, to: group.into(), content });
                self.following.begins(group);
                let mut lines = self.leave_behind(group.into());
                lines.push(Line::Group(GroupLine::Begins { group, ordinal: self.sent }));
                Said::Taken(lines)
            }
            Err(SendError::QueueFull { .. } | SendError::Ended) => Said::Later,
            Err(error) => Said::Wrong(error.to_string()),
        }
    }

    /// Does something to this group.
    pub(super) fn act(&mut self, act: &Act<'_>) -> Said {
        match self.group() {
            Ok(_) => self.send(Content::act(act)),
            Err(said) => said,
        }
    }

    /// Who leaves removes themselves.
    pub(super) fn leave(&mut self) -> Said {
        match self.me {
            Some(user) => self.act(&Act::Remove { user }),
            // Not before the server has said who that is.
            None => Said::Later,
        }
    }

    /// What it looks like stays.
    pub(super) fn rename(&mut self, name: &str) -> Said {
        match self.group() {
            Ok(group) => {
                let picture = self.following.picture(group).to_owned();
                self.send(Content::act(&Act::Describe { name, picture: &picture }))
            }
            Err(said) => said,
        }
    }

    /// Invites whoever is told what the line says.
    pub(super) fn invite(&mut self) -> Said {
        let group = match self.group() {
            Ok(group) => group,
            Err(said) => return said,
        };
        match self.client.invite(group) {
            Ok((invitation, handle)) => {
                self.sent += 1;
                let (ordinal, content) = (self.sent, Content::act(&invitation.act()));
                self.unanswered.insert(handle, Sent { ordinal, to: group.into(), content });
                let secret = invitation.secret().to_owned();
                Said::Taken(vec![Line::Group(GroupLine::Invites { group, ordinal, secret })])
            }
            Err(SendError::QueueFull { .. } | SendError::Ended) => Said::Later,
            Err(error) => Said::Wrong(error.to_string()),
        }
    }

    /// Asks who is in this group.
    pub(super) fn members(&mut self) -> Said {
        match self.group() {
            Ok(group) => {
                let newest = self.following.newest(group);
                self.ask(|client, _| client.fetch_members(group, UserId(0), MEMBERS_PAGE_MAX, newest))
            }
            Err(said) => said,
        }
    }

    fn group(&self) -> Result<GroupId, Said> {
        match self.who.peer {
            ConversationId::Group(group) => Ok(group),
            ConversationId::Person(_) => {
                Err(Said::Wrong("this is no group: /to #ID goes to one, and /group NAME begins one".to_owned()))
            }
        }
    }

    pub(super) fn on_entry_of_groups(&mut self, entry: &Entry) -> impl Iterator<Item = Line> + use<> {
        let (lines, is_refused) = self.following.entry(entry);
        self.refused += u64::from(is_refused);
        lines.into_iter().map(Line::Group)
    }

    pub(super) fn on_group_history(&mut self, page: &GroupPage) -> Vec<Line> {
        self.older = if page.more { Older::UpTo(page.first.previous()) } else { Older::Nothing };
        self.following.history(page).into_iter().map(Line::Group).collect()
    }

    pub(super) fn on_groups(&mut self, fetch: FetchHandle, (at, more): (Seq, bool), rows: Vec<GroupRow>) -> Vec<Line> {
        self.answered(fetch);
        self.following.rows(at, &rows);
        let mut lines = vec![Line::Group(GroupLine::Groups(rows.len()))];
        let last = rows.last().map(|row| row.group);
        lines.extend(rows.into_iter().map(|row| Line::Group(GroupLine::Row(row.into()))));
        if let Some(last) = last.filter(|_| more) {
            lines.extend(self.ask_on(|client| client.fetch_groups(last, GROUP_ROWS_MAX)));
        }
        lines
    }

    pub(super) fn on_members(
        &mut self,
        fetch: FetchHandle,
        (group, more): (GroupId, bool),
        members: Vec<MemberInfo>,
        (delivered, read): (u64, u64),
    ) -> Vec<Line> {
        self.answered(fetch);
        let mut lines = vec![Line::Group(GroupLine::Members { group, count: members.len(), delivered, read })];
        lines.extend(members.iter().map(|member| Line::Group(GroupLine::Member { group, member: *member })));
        if let Some(last) = members.last().map(|member| member.user).filter(|_| more) {
            let newest = self.following.newest(group);
            lines.extend(self.ask_on(|client| client.fetch_members(group, last, MEMBERS_PAGE_MAX, newest)));
        }
        lines
    }

    /// Asks for the rest of a list.
    fn ask_on(&mut self, ask: impl FnOnce(&Client) -> Result<FetchHandle, FetchError>) -> Option<Line> {
        let asked = self.ask(|client, _| ask(client));
        let words = "too much is asked for at once: the rest of the list is left out";
        (asked != Said::Taken(Vec::new())).then(|| Line::Problem(words.to_owned()))
    }

    /// Asks for what was heard of and not told. What finds no room is asked for with a later event.
    pub(super) fn fetch_missing(&mut self) {
        while let Some((group, from)) = self.following.lacks() {
            match self.client.fetch_conversation(group, from, Direction::Forwards, MISSING_PAGE) {
                Ok(fetch) => self.following.asked(group, fetch),
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use client::{
        ClientEvent, ClientState, Config, DeviceId, Durability, ErrorCode, Event, Events, GroupEntry, MessageName,
        Recipient, Role, SendHandle, SendNumber, Seq, Standing, TimestampMs,
    };

    use super::*;
    use crate::pipe::script::Who;

    const ME: UserId = UserId(7);

    /// With the events of its client, which lives as long as somebody listens.
    fn script(peer: ConversationId) -> (Script, Events) {
        let config = Config::new("127.0.0.1:9", "token".to_owned(), DeviceId(1));
        let (client, events) = Client::connect(config).unwrap();
        let mut script = Script::new(client, Who { device: DeviceId(1), peer, history: 0 }, "127.0.0.1:9".into());
        script.last_number = Some(SendNumber(0));
        script.me = Some(ME);
        script.following.welcome(ME);
        (script, events)
    }

    fn plain(lines: impl IntoIterator<Item = Line>) -> Vec<String> {
        lines.into_iter().filter_map(|line| line.plain()).collect()
    }

    fn accepted(script: &mut Script, handle: u64, seq: u64) -> Vec<String> {
        plain(script.on_event(ClientEvent::MessageAccepted {
            handle: SendHandle(handle),
            number: SendNumber(handle),
            seq: Seq(seq),
            time: TimestampMs(1),
            durability: Durability::Committed,
            recipient: Recipient::Offline,
        }))
    }

    fn entry(script: &mut Script, seq: u64, event: Event) -> Vec<String> {
        plain(script.on_event(ClientEvent::Entry(Entry { seq: Seq(seq), time: TimestampMs(1), event })))
    }

    fn says(script: &mut Script, group: GroupId, seq: u64, from: UserId, origin: u64, text: &str) -> Vec<String> {
        let (time, content) = (TimestampMs(0), Content::text(text));
        let entry = GroupEntry { seq: Seq(seq), time, from, origin: Seq(origin), messages: seq, content };
        let told = plain(script.on_event(ClientEvent::GroupEntry { group, entry }));
        told.into_iter().map(|line| line.replace(" 1970-01-01T00:00:00Z", "")).collect()
    }

    fn sent(script: &Script) -> Vec<(ConversationId, Content)> {
        script.client.unanswered().into_iter().map(|(_, message)| (message.to, message.content)).collect()
    }

    #[tokio::test]
    async fn a_group_is_begun_and_what_follows_goes_there() {
        let (mut script, _events) = script(UserId(8).into());
        let Said::Taken(lines) = script.say("/group The sea") else { panic!("not taken") };
        let ConversationId::Group(group) = script.who.peer else { panic!("no group") };
        assert_eq!(plain(lines), [format!("group #{group} begins 1")]);
        for line in ["/add 8", "/role 8 admin", "/leave", "hello"] {
            assert_eq!(script.say(line), Said::Taken(Vec::new()), "{line}");
        }
        let act = |act: Act<'_>| (group.into(), Content::act(&act));
        let create = act(Act::Create { name: "The sea", picture: "", rules: Rules::default() });
        let (user, role) = (UserId(8), Role::Admin);
        let rest = [act(Act::Add { user }), act(Act::SetRole { user, role }), act(Act::Remove { user: ME })];
        let hello = (group.into(), Content::text("hello"));
        assert_eq!(sent(&script), [&[create][..], &rest[..], &[hello][..]].concat());
        let Said::Taken(lines) = script.say("/invite") else { panic!("not taken") };
        let line = plain(lines).remove(0);
        let secret = line.strip_prefix(&format!("group #{group} invites 6 ")).unwrap();
        assert_eq!(script.say(&format!("/join #43 {secret}")), Said::Taken(Vec::new()));
        let join = Content::act(&Act::Join { secret: secret.as_bytes() });
        assert_eq!(sent(&script).pop(), Some((GroupId(43).into(), join)));
        assert_eq!(script.say("/rename The lake"), Said::Taken(Vec::new()));
        assert_eq!(sent(&script).pop(), Some(act(Act::Describe { name: "The lake", picture: "" })));
        // With its answers the run is done, and not before the group has answered too.
        assert_eq!(accepted(&mut script, 1, 10), ["accepted 1 10 committed offline"]);
        (2..=5).for_each(|handle| _ = accepted(&mut script, handle, 9 + handle));
        // These stay without an answer in this test.
        assert!(!script.is_answered());
        script.unanswered.clear();
        assert!(script.is_answered() && !script.is_delivered());
        let (code, origin) = (ErrorCode::NotAllowed, Seq(13));
        let told = entry(&mut script, 16, Event::GroupRefused { group, origin, code });
        assert_eq!((told, script.refused()), (vec![format!("group #{group} refused 13 not_allowed")], 1));
        let (standing, first, up_to, sent_up_to) = (Standing::Member, Seq(1), Seq(4), Seq(14));
        let told = entry(&mut script, 17, Event::Group { group, standing, first, up_to, sent_up_to });
        assert_eq!(told, [format!("group #{group} standing member 4")]);
        assert!(!script.is_delivered() && !script.is_answered(), "what is in the group is on its way");
    }

    #[tokio::test]
    async fn a_change_waits_until_the_group_has_numbered_the_message() {
        let group = GroupId(42);
        let (mut script, _events) = script(group.into());
        assert_eq!(says(&mut script, group, 1, UserId(8), 3, "Hello."), ["group #42 message 8 1 Hello."]);
        assert_eq!(script.received(), 1);
        assert_eq!(
            script.say("/edit Nobody"),
            Said::Wrong("nothing was sent there yet: /history tells older messages".into())
        );
        assert_eq!(script.say("Hi"), Said::Taken(Vec::new()));
        assert_eq!(script.say("/edit Hi!"), Said::Later);
        accepted(&mut script, 1, 5);
        assert_eq!(script.say("/edit Hi!"), Said::Later, "it has no name yet");
        assert_eq!(says(&mut script, group, 2, ME, 5, "Hi"), ["group #42 message 7 2 Hi"]);
        assert!(script.is_delivered());
        assert_eq!(script.say("/edit Hi!"), Said::Taken(Vec::new()));
        let of = MessageName { author: ME, seq: Seq(2) };
        assert_eq!(sent(&script).pop(), Some((group.into(), Content::edit(of, &Content::text("Hi!"), None))));
        // What is answered is somebody else's.
        assert_eq!(script.say("/react 👍"), Said::Taken(Vec::new()));
        let of = MessageName { author: UserId(8), seq: Seq(1) };
        assert_eq!(sent(&script).pop(), Some((group.into(), Content::reaction(of, "👍", None))));
        assert_eq!(
            entry(&mut script, 9, Event::Deleted { conversation: group.into(), of, place: Seq(1), unread: 0 }),
            ["deleted #42 1"]
        );
        assert!(matches!(script.say("/reply #1 What?"), Said::Wrong(_)));
        let read = Event::Read { conversation: group.into(), up_to: Seq(2), unread: 0, told: Seq::ZERO };
        assert_eq!(entry(&mut script, 10, read), ["group #42 read 2"]);
    }

    #[tokio::test]
    async fn lists_are_told_to_their_end_and_are_waited_for() {
        let group = GroupId(42);
        let (mut script, _events) = script(group.into());
        let mut asked = ClientState::new(Config::new("x:1", "token".to_owned(), DeviceId(1))).unwrap();
        assert_eq!(script.say("/members"), Said::Taken(Vec::new()));
        assert!(!script.is_answered());
        let member = |user, role| MemberInfo {
            user: UserId(user),
            role,
            since: Seq(user),
            read_up_to: Seq(0),
            delivered_up_to: Seq(9),
        };
        let (delivered, read) = (1, 0);
        let mut fetch = || asked.fetch_devices().unwrap();
        let (at, members) = (Seq(9), vec![member(7, Role::Owner)]);
        let told =
            script.on_event(ClientEvent::Members { fetch: fetch(), group, more: true, at, members, delivered, read });
        assert_eq!(plain(told), ["group #42 members 1 1 0", "group #42 member 7 owner 7 0 9"]);
        assert!(!script.is_answered(), "there are more");
        let members = vec![member(8, Role::Member)];
        let told =
            script.on_event(ClientEvent::Members { fetch: fetch(), group, more: false, at, members, delivered, read });
        assert_eq!(plain(told), ["group #42 members 1 1 0", "group #42 member 8 member 8 0 9"]);
        assert!(script.is_answered());
        assert_eq!(script.say("/groups"), Said::Taken(Vec::new()));
        assert_eq!(
            plain(script.on_event(ClientEvent::Groups { fetch: fetch(), at: Seq(0), more: false, rows: Vec::new() })),
            ["groups 0"]
        );
        script.say("/to 8");
        assert!(matches!(script.say("/members"), Said::Wrong(_)) && matches!(script.say("/add 9"), Said::Wrong(_)));
    }

    #[tokio::test]
    async fn the_history_of_a_group_is_told_before_what_happens_there() {
        let group = GroupId(42);
        let (mut script, _events) = script(UserId(8).into());
        script.who.history = 5;
        script.say("/to #42");
        let fetch = script.fetching.unwrap();
        let of = |seq: u64, content| GroupEntry {
            seq: Seq(seq),
            time: TimestampMs(0),
            from: UserId(8),
            origin: Seq(seq),
            messages: 1,
            content,
        };
        let (first, last, head) = (Seq(4), Seq(6), Seq(6));
        let entries = vec![of(4, Content::text("old")), of(6, Content::act(&Act::End))];
        let request = Default::default();
        let page = GroupPage { request, group, first, last, more: true, head, entries };
        let told = script.on_event(ClientEvent::GroupPage { fetch, direction: Direction::Backwards, page });
        let wanted = ["message 8 4 1970-01-01T00:00:00Z old", "act 8 6 1970-01-01T00:00:00Z end"];
        assert_eq!(plain(told), wanted.map(|line| format!("history group #42 {line}")));
        assert!(matches!(script.older, Older::UpTo(Seq(3))));
        assert_eq!(says(&mut script, group, 7, UserId(8), 9, "new"), ["group #42 message 8 7 new"]);
    }
}
