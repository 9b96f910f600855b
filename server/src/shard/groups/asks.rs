//! Asks: what clients want to know of groups, at their own core. The homes of the groups know it, and are asked; an answer that does not
//! come in time is an error with a time.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;
use proto_spec::{
    ClientKind, ConversationId, Digests, ErrorCode, GroupId, GroupPage, GroupRow, RequestId, Role, Rules, Seq,
    ServerFrame,
    limits::{GROUP_ROWS_MAX, PAGE_BYTES_MAX},
};
use storage::{ConversationSnapshot, Query};

use super::{AskId, GroupSaid, GroupTold, GroupWish};
use crate::{
    limits::{GROUP_ASK_MS, RETRY_BUSY_MS},
    shard::{
        ConnId, Shard, Turn,
        later::Later,
        push::NewInGroup,
        question::Question,
        user::{Conversation, Standing},
    },
};

/// Questions of this core that are not answered.
#[derive(Debug)]
pub(in crate::shard) struct Asks {
    open: HashMap<AskId, Ask, RandomState>,
    last: AskId,
    /// When they are given up.
    late: Later<AskId>,
}

impl Default for Asks {
    fn default() -> Self {
        Self { open: HashMap::default(), last: AskId(0), late: Later::new(GROUP_ASK_MS) }
    }
}

#[derive(Debug)]
enum Ask {
    /// A page, to answer this.
    Page { conn: ConnId, request: RequestId, kind: ClientKind, group: GroupId },
    /// What there is to notify somebody of.
    New(NewInGroup),
    /// A row of a list that is being gathered.
    Row { list: AskId, group: GroupId },
    /// A list, of which some rows are missing.
    List { conn: ConnId, request: RequestId, at: Seq, more: bool, rows: Vec<GroupRow>, missing: usize },
}

/// A list of which it is not known yet how the user keeps the groups.
#[derive(Clone, Debug)]
pub(in crate::shard) struct GroupList {
    at: Seq,
    more: bool,
    /// By ascending id; with how the user keeps those that were in memory.
    groups: Vec<(GroupId, Option<Standing>)>,
    /// The others, about which the store was asked.
    named: Arc<[ConversationId]>,
}

impl Asks {
    fn open(&mut self, ask: Ask, now_ms: u64) -> AskId {
        self.last = AskId(self.last.0 + 1);
        self.open.insert(self.last, ask);
        self.late.push(now_ms, self.last);
        self.last
    }
}

impl Shard {
    /// Asks the home of a group what there is to notify a user of.
    pub(in crate::shard) fn ask_of_group(&mut self, asked: NewInGroup, wish: GroupWish, cx: &mut Turn<'_>) {
        let ask = self.asks.open(Ask::New(asked), cx.now.monotonic_ms);
        self.ask_home(asked.group, GroupSaid::Ask { ask, user: asked.user, wish }, cx);
    }

    /// A client asks for a page of a group's log or of its members.
    pub(in crate::shard) fn fetch_of_group(
        &mut self,
        (conn, request): (ConnId, RequestId),
        kind: ClientKind,
        group: GroupId,
        wish: GroupWish,
        cx: &mut Turn<'_>,
    ) {
        if !self.may_fetch(conn, kind, request, cx) {
            return;
        }
        let Some(user) = self.sessions.get_mut(conn).map(|session| session.user) else { return };
        let ask = self.asks.open(Ask::Page { conn, request, kind, group }, cx.now.monotonic_ms);
        self.ask_home(group, GroupSaid::Ask { ask, user, wish }, cx);
    }

    /// A client asks for the list of its user's groups.
    pub(in crate::shard) fn fetch_groups(
        &mut self,
        (conn, request): (ConnId, RequestId),
        after: GroupId,
        limit: u64,
        cx: &mut Turn<'_>,
    ) {
        if !self.may_fetch(conn, ClientKind::FetchGroups, request, cx) {
            return;
        }
        let Some(user_id) = self.sessions.get_mut(conn).map(|session| session.user) else { return };
        let Some(user) = self.users.resident(user_id) else { return };
        let first = user.groups.partition_point(|(group, _)| *group <= after);
        // Of what they are not known yet to be in they hear when it is.
        let mut of_page = user.groups[first..].iter().filter(|(_, row)| row.standing != proto_spec::Standing::Unknown);
        let most = limit.clamp(1, GROUP_ROWS_MAX) as usize;
        let page: Vec<_> = of_page.by_ref().take(most).map(|(group, _)| *group).collect();
        let more = of_page.next().is_some();
        let at = user.released;
        let mut groups = Vec::with_capacity(page.len());
        for group in page {
            groups.push((group, self.conversations.resident((user_id, group.into())).map(|known| known.released)));
        }
        let of_store = groups.iter().filter(|(_, kept)| kept.is_none());
        let named: Arc<[ConversationId]> = of_store.map(|(group, _)| ConversationId::from(*group)).collect();
        let list = GroupList { at, more, groups, named: Arc::clone(&named) };
        if named.is_empty() {
            return self.group_list_read((conn, request), list, Some(Vec::new()), cx);
        }
        let question = Question::GroupList { conn, request, list: Box::new(list) };
        self.ask(Query::Conversations { user: user_id, conversations: named }, question, cx);
    }

    /// The store has said how the user keeps the groups of which it was asked; none: it could not be read. What is newer is in memory.
    pub(in crate::shard) fn group_list_read(
        &mut self,
        (conn, request): (ConnId, RequestId),
        list: GroupList,
        read: Option<Vec<ConversationSnapshot>>,
        cx: &mut Turn<'_>,
    ) {
        let Some(read) = read else {
            return self.fetch_failed(conn, ClientKind::FetchGroups, request, cx);
        };
        let GroupList { at, more, groups, named } = list;
        let Some(user_id) = self.sessions.get_mut(conn).map(|session| session.user) else { return };
        let Some(user) = self.users.resident(user_id) else { return };
        // What is known here, in case that a home can not say more.
        let mut rows = Vec::with_capacity(groups.len());
        for (group, kept) in groups {
            let conversation = ConversationId::from(group);
            let stored = named.iter().position(|named| *named == conversation).and_then(|place| read.get(place));
            let stored = Conversation::load(stored.copied().unwrap_or_default()).released;
            let newest = self.conversations.resident((user_id, conversation)).map(|known| known.released);
            let kept = newest.or(kept).unwrap_or(stored);
            let row = user.group(group).copied().unwrap_or_default();
            rows.push(GroupRow {
                group,
                standing: row.standing,
                role: Role::Member,
                rules: Rules::default(),
                members: 0,
                head: row.up_to,
                name: String::new(),
                picture: String::new(),
                last: None,
                settings: kept.settings,
                read_up_to: kept.read_up_to,
                unread: 0,
            });
        }
        let wishes: Vec<_> = rows.iter().map(|row| (row.group, GroupWish::Row { read: row.read_up_to })).collect();
        let missing = rows.len();
        let now_ms = cx.now.monotonic_ms;
        let list = self.asks.open(Ask::List { conn, request, at, more, rows, missing }, now_ms);
        for (group, wish) in wishes {
            let ask = self.asks.open(Ask::Row { list, group }, now_ms);
            self.ask_home(group, GroupSaid::Ask { ask, user: user_id, wish }, cx);
        }
        if missing == 0 {
            self.list_gathered(list, cx);
        }
    }

    /// The home of a group has answered.
    pub(super) fn ask_told(&mut self, ask: AskId, told: Result<GroupTold, ErrorCode>, cx: &mut Turn<'_>) {
        // One that was given up is nobody's any more.
        match (self.asks.open.remove(&ask), told) {
            (Some(Ask::Page { conn, request, kind, group }), told) => {
                let Some(mut session) = self.sessions.get_mut(conn) else { return };
                session.fetches -= 1;
                match told {
                    Ok(GroupTold::Page { first, last, more, head, entries }) => {
                        let page = GroupPage { request, group, first, last, more, head, entries };
                        self.counters.pages_fetched += 1;
                        self.send(conn, &ServerFrame::GroupPage(page), cx);
                    }
                    Ok(GroupTold::Members { at, more, members, counts: (delivered, read) }) => {
                        let told = ServerFrame::Members { request, group, more, at, members, delivered, read };
                        self.send(conn, &told, cx);
                    }
                    Ok(GroupTold::Digests(digests)) => {
                        self.send(conn, &ServerFrame::Digest(Digests { request, ..digests }), cx);
                    }
                    Ok(GroupTold::Row(_)) => {}
                    Err(code) => self.ask_failed(conn, kind, request, code, cx),
                }
            }
            (Some(Ask::New(asked)), told) => self.new_in_group_told(asked, told, cx),
            (Some(Ask::Row { list, group }), told) => {
                let Some(Ask::List { rows, missing, .. }) = self.asks.open.get_mut(&list) else { return };
                *missing -= 1;
                let is_whole = *missing == 0;
                if let Ok(GroupTold::Row(told)) = told
                    && let Some(row) = rows.iter_mut().find(|row| row.group == group)
                    // What others have just made of them their own log does not say, and perhaps never will.
                    && (row.standing.is_member() || !told.standing.is_member())
                {
                    // How the user keeps it is known here.
                    *row = GroupRow { settings: row.settings, read_up_to: row.read_up_to, ..*told };
                }
                if is_whole {
                    self.list_gathered(list, cx);
                }
            }
            (Some(list @ Ask::List { .. }), _) => drop(self.asks.open.insert(ask, list)),
            (None, _) => {}
        }
    }

    fn list_gathered(&mut self, list: AskId, cx: &mut Turn<'_>) {
        let Some(Ask::List { conn, request, at, mut more, mut rows, .. }) = self.asks.open.remove(&list) else {
            return;
        };
        let mut bytes = 0;
        let fits = |row: &&GroupRow| {
            bytes += row.frame_bytes();
            bytes <= PAGE_BYTES_MAX
        };
        let fitting = rows.iter().take_while(fits).count();
        more |= fitting < rows.len();
        rows.truncate(fitting);
        let Some(mut session) = self.sessions.get_mut(conn) else { return };
        session.fetches -= 1;
        self.send(conn, &ServerFrame::Groups { request, at, more, rows }, cx);
    }

    fn ask_failed(&mut self, conn: ConnId, kind: ClientKind, request: RequestId, code: ErrorCode, cx: &mut Turn<'_>) {
        let (retry_ms, detail) = match code {
            ErrorCode::NoSuchGroup => (0, "there is no such group, or it is not this user's to see"),
            _ => (RETRY_BUSY_MS, "the group can not be read now"),
        };
        self.send_error(conn, code, kind.byte(), request, retry_ms, detail, cx);
    }

    /// Gives up questions that were not answered in time. A list goes out with what is known.
    pub(in crate::shard) fn give_up_asks(&mut self, cx: &mut Turn<'_>) {
        while let Some(ask) = self.asks.late.take_due(cx.now.monotonic_ms) {
            match self.asks.open.get(&ask) {
                Some(Ask::Page { .. } | Ask::Row { .. } | Ask::New(_)) => {
                    self.ask_told(ask, Err(ErrorCode::Overloaded), cx)
                }
                Some(Ask::List { .. }) => self.list_gathered(ask, cx),
                None => {}
            }
        }
    }
}
