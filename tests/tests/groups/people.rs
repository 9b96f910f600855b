//! People in a group, each with a device.

use proto_spec::{
    Act, ClientFrame, Content, Direction, ErrorCode, Event, GroupEntry, GroupId, GroupPage, MessageName, RequestId,
    Resume, Rules, SendNumber, Seq, ServerFrame, Standing, UserId, digest::Digest,
};
use server::limits::ASK_AGAIN_MS;
use tests::world::{Link, World};

pub(crate) const GROUP: GroupId = GroupId(77);

/// People, each connected with one device, and how often each has sent something.
pub(crate) struct People {
    pub(crate) world: World,
    pub(crate) links: Vec<Link>,
    pub(crate) numbers: Vec<u64>,
}

impl People {
    /// So many on two cores.
    pub(crate) fn new(count: usize) -> Self {
        Self::on(World::new(2), count)
    }

    pub(crate) fn on(mut world: World, count: usize) -> Self {
        let links = (1..=count as u64).map(|user| world.connect(user, 1, Resume::Stored)).collect();
        Self { world, links, numbers: vec![0; count] }
    }

    /// A group of the first `members` of `count`, of whom the first one is the owner.
    pub(crate) fn group(count: usize, members: usize, rules: Rules) -> Self {
        let mut people = Self::new(count);
        people.found(members, rules);
        people
    }

    pub(crate) fn found(&mut self, members: usize, rules: Rules) {
        self.act(1, &Act::Create { name: "sea", picture: "", rules });
        (2..=members as u64).for_each(|user| self.act(1, &Act::Add { user: UserId(user) }));
        self.world.settle();
        self.forget();
    }

    /// A group of all of them, so many that few are there while they are added: they connect afterwards.
    pub(crate) fn many(cores: u16, members: usize) -> Self {
        let mut people = Self::on(World::new(cores), 1);
        people.act(1, &Act::Create { name: "sea", picture: "", rules: Rules::default() });
        for user in 2..=members as u64 {
            people.say_only(1, Content::act(&Act::Add { user: UserId(user) }));
            // So many a device may send before it hears of them.
            if user % 100 == 0 {
                people.world.settle();
            }
        }
        people.world.settle();
        people.links.extend((2..=members as u64).map(|user| people.world.connect_only(user, 1, Resume::Stored)));
        people.numbers.resize(members, 0);
        people.world.settle();
        people.forget();
        people
    }

    /// The digests of a range, asked for until it is all there. Each part of an answer ends where a range of it does, or all of them do.
    pub(crate) fn digests(&mut self, user: u64, (first, last, width): (u64, u64, u64)) -> Vec<Digest> {
        let (request, group, mut from, mut all) = (RequestId(6), GROUP, first.max(1), Vec::new());
        loop {
            let (first, last) = (Seq(from), Seq(last));
            self.world.frame(self.link(user), &ClientFrame::FetchDigest { request, first, last, width, group });
            self.world.settle();
            let told = self.take(user).into_iter().find_map(|frame| match frame {
                ServerFrame::Digest(digests) => Some(digests),
                _ => None,
            });
            let told = told.expect("they may ask");
            assert_eq!(told.first.0, from);
            all.extend(told.digests);
            if told.last < told.first || told.last >= told.at || told.last == last {
                return all;
            }
            from = told.last.0 + 1;
        }
    }

    /// What a list of members says of each, as far as they have read and have, and the counts for an entry.
    pub(crate) fn receipts(&mut self, user: u64, seq: u64) -> (Vec<(u64, u64)>, (u64, u64)) {
        let request = RequestId(6);
        let frame = ClientFrame::FetchMembers { request, group: GROUP, after: UserId(0), limit: 10, seq: Seq(seq) };
        self.world.frame(self.link(user), &frame);
        self.world.settle();
        let told = self.take(user).into_iter().find_map(|frame| match frame {
            ServerFrame::Members { members, delivered, read, .. } => {
                let marks = members.iter().map(|member| (member.read_up_to.0, member.delivered_up_to.0));
                Some((marks.collect(), (delivered, read)))
            }
            _ => None,
        });
        told.expect("they are a member")
    }

    pub(crate) fn link(&self, user: u64) -> Link {
        self.links[user as usize - 1]
    }

    /// Sends something, and lets nothing happen.
    pub(crate) fn say_only(&mut self, user: u64, content: Content) {
        self.say_to(user, GROUP, content);
    }

    /// Sends something to any group, and lets nothing happen.
    pub(crate) fn say_to(&mut self, user: u64, group: GroupId, content: Content) {
        let number = &mut self.numbers[user as usize - 1];
        *number += 1;
        let frame = ClientFrame::Send { number: SendNumber(*number), to: group.into(), content };
        self.world.frame(self.links[user as usize - 1], &frame);
    }

    pub(crate) fn say(&mut self, user: u64, text: &str) {
        self.say_only(user, Content::text(text));
        self.world.settle();
    }

    pub(crate) fn act(&mut self, user: u64, act: &Act<'_>) {
        self.say_only(user, Content::act(act));
        self.world.settle();
    }

    /// So many steps of the disk happen, whose syncs stand still since something was sent, and the node dies; everybody comes back when it has
    /// started again.
    pub(crate) fn die_after(&mut self, steps: usize) {
        for _ in 0..steps {
            self.world.settle();
            self.world.sync_one();
        }
        self.world.crash(2);
        self.world.disk_stalled = false;
        self.world.settle();
        self.world.advance(3 * ASK_AGAIN_MS);
        (1..=self.links.len() as u64).for_each(|user| self.connect(user, Resume::Stored));
    }

    pub(crate) fn take(&mut self, user: u64) -> Vec<ServerFrame> {
        self.world.take(self.link(user))
    }

    pub(crate) fn forget(&mut self) {
        (1..=self.links.len() as u64).for_each(|user| drop(self.take(user)));
    }

    /// The texts that were pushed to somebody since they were last looked at, with their seqs.
    pub(crate) fn pushed(&mut self, user: u64) -> Vec<(u64, String)> {
        texts(&self.take(user))
    }

    pub(crate) fn connect(&mut self, user: u64, resume: Resume) {
        self.links[user as usize - 1] = self.world.connect(user, 1, resume);
    }

    pub(crate) fn disconnect(&mut self, user: u64) {
        self.world.disconnect(self.link(user));
        self.world.settle();
    }

    pub(crate) fn page(
        &mut self,
        user: u64,
        from: u64,
        direction: Direction,
        limit: u64,
    ) -> Result<GroupPage, ErrorCode> {
        let request = RequestId(9);
        let (conversation, from) = (GROUP.into(), Seq(from));
        let frame = ClientFrame::FetchConversation { request, conversation, from, direction, limit };
        self.world.frame(self.link(user), &frame);
        self.world.settle();
        let answer = self.take(user).into_iter().find_map(|frame| match frame {
            ServerFrame::GroupPage(page) => Some(Ok(page)),
            ServerFrame::Error { code, request: RequestId(9), .. } => Some(Err(code)),
            _ => None,
        });
        answer.expect("a fetch is answered")
    }

    /// Everything that somebody may read.
    pub(crate) fn history(&mut self, user: u64) -> Vec<GroupEntry> {
        let (mut entries, mut from) = (Vec::new(), 1);
        loop {
            let page = self.page(user, from, Direction::Forwards, 3).expect("they may read");
            entries.extend(page.entries);
            if !page.more {
                return entries;
            }
            from = page.last.0 + 1;
        }
    }

    pub(crate) fn texts(&mut self, user: u64) -> Vec<String> {
        let entries = self.history(user);
        entries.iter().filter_map(|entry| entry.content.as_text().map(str::to_owned)).collect()
    }

    /// The pointers that the log of a user has, once the store has everything.
    pub(crate) fn pointer(&mut self, user: u64) -> Option<(Standing, u64, u64)> {
        let log = self.world.log(user);
        log.iter().rev().find_map(|entry| match entry.event {
            Event::Group { standing, first, up_to, .. } => Some((standing, first.0, up_to.0)),
            _ => None,
        })
    }

    /// How far each member has read, as this one is told.
    pub(crate) fn read_by(&mut self, user: u64) -> Vec<(u64, u64)> {
        let frame =
            ClientFrame::FetchMembers { request: RequestId(6), group: GROUP, after: UserId(0), limit: 10, seq: Seq(0) };
        self.world.frame(self.link(user), &frame);
        self.world.settle();
        let members = self.take(user).into_iter().find_map(|frame| match frame {
            ServerFrame::Members { members, .. } => Some(members),
            _ => None,
        });
        members.expect("they are a member").iter().map(|member| (member.user.0, member.read_up_to.0)).collect()
    }

    pub(crate) fn refused(&mut self, user: u64) -> Vec<(u64, ErrorCode)> {
        let log = self.world.log(user);
        let refused = log.iter().filter_map(|entry| match entry.event {
            Event::GroupRefused { origin, code, .. } => Some((origin.0, code)),
            _ => None,
        });
        refused.collect()
    }
}

pub(crate) fn texts(frames: &[ServerFrame]) -> Vec<(u64, String)> {
    let pushed = frames.iter().filter_map(|frame| match frame {
        ServerFrame::DeliverGroup { group: GROUP, entry } => {
            Some((entry.seq.0, entry.content.as_text().unwrap_or("(an act)").to_owned()))
        }
        _ => None,
    });
    pushed.collect()
}

pub(crate) fn text(seq: u64, text: &str) -> (u64, String) {
    (seq, text.to_owned())
}

/// A name of a message of the group.
pub(crate) fn name(author: u64, seq: u64) -> MessageName {
    MessageName { author: UserId(author), seq: Seq(seq) }
}
