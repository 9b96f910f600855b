//! What each role may do, and that a group stays one whatever is done to it.

use aws_lc_rs::digest;
use proptest::prelude::*;

use super::*;

const OWNER: UserId = UserId(1);
const ADMIN: UserId = UserId(2);
const MEMBER: UserId = UserId(3);
const OTHER: UserId = UserId(4);
const STRANGER: UserId = UserId(9);
const SECRET: &[u8] = b"a secret of sixteen";
const MOST: usize = 6;

fn secret_digest() -> [u8; 32] {
    digest::digest(&digest::SHA256, SECRET).as_ref().try_into().unwrap()
}

/// A log of which each act is judged and applied.
#[derive(Default)]
struct Log {
    group: Group,
    at: u64,
}

impl Log {
    fn act(&mut self, from: UserId, act: &Act<'_>) -> Result<Taken, ErrorCode> {
        self.say(from, &Content::act(act))
    }

    fn say(&mut self, from: UserId, content: &Content) -> Result<Taken, ErrorCode> {
        let taken = self.group.judge(from, content, Seq(self.at + 1), MOST)?;
        self.at += 1;
        self.group.apply(&taken);
        Ok(taken)
    }

    /// A user who came with that entry declines, and could read nothing before: what is done in their name.
    fn decline(&mut self, user: UserId, came: Seq) -> Vec<Content> {
        let mut done = Vec::new();
        while let Some(taken) = self.group.decline(user, (came, (Seq::ZERO, Seq::ZERO)), Seq(self.at + 1)) {
            self.at += 1;
            self.group.apply(&taken);
            done.push(taken.content);
        }
        done
    }

    fn role(&self, user: UserId) -> Option<Role> {
        self.group.roll.member(user).map(|row| row.role)
    }
}

fn create(rules: Rules) -> Log {
    let mut log = Log::default();
    log.act(OWNER, &Act::Create { name: "sea", picture: "", rules }).unwrap();
    log
}

/// With an owner, an admin and two members.
fn group(rules: Rules) -> Log {
    let mut log = create(rules);
    for user in [ADMIN, MEMBER, OTHER] {
        log.act(OWNER, &Act::Add { user }).unwrap();
    }
    log.act(OWNER, &Act::SetRole { user: ADMIN, role: Role::Admin }).unwrap();
    log
}

const ALL: &[UserId] = &[OWNER, ADMIN, MEMBER, STRANGER];

/// Who of these may.
fn who_may(rules: Rules, act: &Act<'_>) -> Vec<UserId> {
    ALL.iter().copied().filter(|user| group(rules).act(*user, act).is_ok()).collect()
}

#[test]
fn each_role_may_do_what_the_specification_says() {
    let (none, user) = (Rules::default(), OTHER);
    let new = UserId(5);
    let rules = Rules::HISTORY;
    assert_eq!(who_may(none, &Act::Add { user: new }), [OWNER, ADMIN, MEMBER]);
    assert_eq!(who_may(Rules::ADMINS_ADD, &Act::Add { user: new }), [OWNER, ADMIN]);
    assert_eq!(who_may(none, &Act::Remove { user }), [OWNER, ADMIN]);
    assert_eq!(who_may(none, &Act::Ban { user }), [OWNER, ADMIN]);
    assert_eq!(who_may(none, &Act::Remove { user: ADMIN }), [OWNER, ADMIN], "an admin leaves, and the owner removes");
    assert_eq!(who_may(none, &Act::Remove { user: OWNER }), [], "nor does the owner leave");
    assert_eq!(who_may(none, &Act::SetRole { user, role: Role::Admin }), [OWNER]);
    assert_eq!(who_may(none, &Act::Describe { name: "lake", picture: "" }), [OWNER, ADMIN, MEMBER]);
    assert_eq!(who_may(Rules::ADMINS_DESCRIBE, &Act::Describe { name: "lake", picture: "" }), [OWNER, ADMIN]);
    assert_eq!(who_may(none, &Act::SetRules { rules }), [OWNER]);
    assert_eq!(who_may(none, &Act::Invite { digest: Some(&secret_digest()) }), [OWNER, ADMIN]);
    assert_eq!(who_may(none, &Act::End), [OWNER]);
    let text = Content::text("hello");
    let writes = |rules| ALL.iter().copied().filter(|user| group(rules).say(*user, &text).is_ok()).collect::<Vec<_>>();
    assert_eq!(writes(none), [OWNER, ADMIN, MEMBER]);
    assert_eq!(writes(Rules::ADMINS_POST), [OWNER, ADMIN]);
}

#[test]
fn who_may_not_is_told_why() {
    let mut log = group(Rules::ADMINS_POST);
    let refused = |log: &mut Log, from, act: &Act<'_>| log.act(from, act).unwrap_err();
    let create = Act::Create { name: "sea", picture: "", rules: Rules::default() };
    assert_eq!(Log::default().say(OWNER, &Content::text("x")), Err(ErrorCode::NoSuchGroup));
    assert_eq!(Log::default().act(OWNER, &Act::Join { secret: SECRET }), Err(ErrorCode::NotInvited));
    assert_eq!(refused(&mut log, STRANGER, &create), ErrorCode::GroupExists);
    assert_eq!(refused(&mut log, OWNER, &create), ErrorCode::GroupExists);
    assert_eq!(log.say(STRANGER, &Content::text("x")), Err(ErrorCode::NoSuchGroup));
    assert_eq!(log.say(MEMBER, &Content::text("x")), Err(ErrorCode::NotAllowed));
    assert_eq!(refused(&mut log, MEMBER, &Act::Add { user: OTHER }), ErrorCode::MemberAlready);
    assert_eq!(refused(&mut log, ADMIN, &Act::Remove { user: STRANGER }), ErrorCode::NoSuchMember);
    assert_eq!(refused(&mut log, ADMIN, &Act::Ban { user: STRANGER }), ErrorCode::NoSuchMember);
    assert_eq!(refused(&mut log, ADMIN, &Act::Unban { user: OTHER }), ErrorCode::NoSuchMember);
    log.act(ADMIN, &Act::Ban { user: OTHER }).unwrap();
    assert_eq!(refused(&mut log, ADMIN, &Act::Ban { user: OTHER }), ErrorCode::Banned);
    assert_eq!(refused(&mut log, OWNER, &Act::Add { user: OTHER }), ErrorCode::Banned);
    log.act(ADMIN, &Act::Unban { user: OTHER }).unwrap();
    log.act(OWNER, &Act::Add { user: OTHER }).unwrap();
    for user in 10..12 {
        log.act(OWNER, &Act::Add { user: UserId(user) }).unwrap();
    }
    assert_eq!(refused(&mut log, OWNER, &Act::Add { user: STRANGER }), ErrorCode::GroupFull);
    log.act(OWNER, &Act::End).unwrap();
    assert_eq!(log.say(OWNER, &Content::text("x")), Err(ErrorCode::GroupEnded));
    assert!(log.act(MEMBER, &Act::Remove { user: MEMBER }).is_ok(), "whoever wants may still leave");
    assert!(log.act(OWNER, &Act::Remove { user: OWNER }).is_ok());
}

#[test]
fn a_roll_has_no_more_rows_than_a_few_for_each_member_that_may_be() {
    let mut log = create(Rules::default());
    let mut pass = |user| {
        log.act(OWNER, &Act::Add { user: UserId(user) })?;
        log.act(OWNER, &Act::Remove { user: UserId(user) })
    };
    let taken = (10..1_000).find(|user| pass(*user).is_err()).unwrap();
    assert_eq!(taken - 10 + 1, (MOST * ROLL_TIMES_MEMBERS) as u64);
    assert!(pass(10).is_ok(), "whom it knows it can take back");
}

#[test]
fn an_invitation_lets_in_who_knows_its_secret_and_its_log_does_not_tell_it() {
    let mut log = group(Rules::default());
    assert_eq!(log.act(STRANGER, &Act::Join { secret: SECRET }), Err(ErrorCode::NotInvited));
    log.act(ADMIN, &Act::Invite { digest: Some(&secret_digest()) }).unwrap();
    assert_eq!(log.act(STRANGER, &Act::Join { secret: b"another of sixteen" }), Err(ErrorCode::NotInvited));
    let taken = log.act(STRANGER, &Act::Join { secret: SECRET }).unwrap();
    assert_eq!((taken.content, taken.concerns), (Content::act(&Act::Join { secret: &[] }), Some(STRANGER)));
    assert_eq!(log.role(STRANGER), Some(Role::Member));
    log.act(ADMIN, &Act::Ban { user: STRANGER }).unwrap();
    assert_eq!(log.act(STRANGER, &Act::Join { secret: SECRET }), Err(ErrorCode::Banned));
    log.act(ADMIN, &Act::Invite { digest: None }).unwrap();
    assert_eq!(log.act(UserId(8), &Act::Join { secret: SECRET }), Err(ErrorCode::NotInvited));
}

#[test]
fn a_group_that_all_have_left_has_ended() {
    let mut log = create(Rules::default());
    log.act(OWNER, &Act::Invite { digest: Some(&secret_digest()) }).unwrap();
    log.act(OWNER, &Act::Remove { user: OWNER }).unwrap();
    assert_eq!(log.act(STRANGER, &Act::Join { secret: SECRET }), Err(ErrorCode::GroupEnded));
}

#[test]
fn who_hands_the_group_over_is_an_admin_and_may_leave() {
    let mut log = group(Rules::default());
    log.act(OWNER, &Act::SetRole { user: MEMBER, role: Role::Owner }).unwrap();
    assert_eq!((log.role(OWNER), log.role(MEMBER)), (Some(Role::Admin), Some(Role::Owner)));
    assert!(log.act(OWNER, &Act::Remove { user: OWNER }).is_ok());
}

#[test]
fn who_declines_leaves_and_hands_over_what_was_made_theirs_meanwhile() {
    let mut log = group(Rules::default());
    log.act(ADMIN, &Act::Add { user: STRANGER }).unwrap();
    let came = Seq(log.at);
    assert_eq!(log.decline(OTHER, came), [], "they came with another entry");
    log.act(OWNER, &Act::SetRole { user: STRANGER, role: Role::Owner }).unwrap();
    let handed_over = Content::act(&Act::SetRole { user: OWNER, role: Role::Owner });
    let left = Content::act(&Act::Remove { user: STRANGER });
    assert_eq!(log.decline(STRANGER, came), [handed_over, left], "to who has been an admin for longest");
    assert_eq!((log.role(OWNER), log.role(STRANGER)), (Some(Role::Owner), None));
    assert_eq!(log.group.roll.row(STRANGER).map(|row| row.spans.len()), Some(0), "nothing is theirs to read");
    assert_eq!(log.decline(STRANGER, came), [], "they are none any more");
}

#[test]
fn who_declines_as_the_only_one_leaves_a_group_that_has_ended() {
    let mut log = create(Rules::default());
    log.act(OWNER, &Act::Add { user: STRANGER }).unwrap();
    let came = Seq(log.at);
    log.act(OWNER, &Act::SetRole { user: STRANGER, role: Role::Owner }).unwrap();
    log.act(OWNER, &Act::Remove { user: OWNER }).unwrap();
    assert_eq!(log.decline(STRANGER, came).len(), 1);
    assert!(log.group.state.is_some_and(|state| state.has_ended));
}

fn any_act() -> impl Strategy<Value = (u64, Content)> {
    let user = || (1..8u64).prop_map(UserId);
    let content = prop_oneof![
        user().prop_map(|user| Content::act(&Act::Add { user })),
        user().prop_map(|user| Content::act(&Act::Remove { user })),
        user().prop_map(|user| Content::act(&Act::Ban { user })),
        user().prop_map(|user| Content::act(&Act::Unban { user })),
        (user(), 0..3usize).prop_map(|(user, role)| Content::act(&Act::SetRole { user, role: Role::ALL[role] })),
        (0..16u64).prop_map(|rules| Content::act(&Act::SetRules { rules: Rules::from_bits(rules) })),
        Just(Content::act(&Act::Join { secret: SECRET })),
        Just(Content::act(&Act::Invite { digest: Some(&secret_digest()) })),
        Just(Content::text("hello")),
    ];
    (1..8u64, content)
}

proptest! {
    #[test]
    fn there_is_one_owner_as_long_as_there_are_members_and_parts_do_not_overlap(
        acts in prop::collection::vec(any_act(), 0..80)
    ) {
        let mut log = create(Rules::default());
        for (from, content) in acts {
            let before = log.group.roll.member(UserId(from)).is_some();
            let joins = content == Content::act(&Act::Join { secret: SECRET });
            let is_taken = log.say(UserId(from), &content).is_ok();
            prop_assert!(!is_taken || before || joins, "who is none does nothing");
            let (members, more) = log.group.roll.page(UserId(0), usize::MAX, true);
            prop_assert!(!more && members.len() == log.group.roll.members() && members.len() <= MOST);
            let owners = members.iter().filter(|member| member.role == Role::Owner).count();
            prop_assert_eq!(owners, usize::from(!members.is_empty()));
            for user in (1..8).map(UserId) {
                let Some(row) = log.group.roll.row(user) else { continue };
                let is_open = row.spans.last().is_some_and(|(_, last)| *last == MemberRow::OPEN);
                prop_assert_eq!(is_open, row.standing == Standing::Member);
                prop_assert!(row.spans.iter().all(|(first, last)| first <= last));
                prop_assert!(row.spans.is_sorted_by(|(_, last), (first, _)| last < first));
            }
        }
    }
}
