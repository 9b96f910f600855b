//! The scenarios. To add one: a file with its arguments and an async `run`, and a variant here.

mod chat;

use crate::{World, report::Report};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Scenario {
    /// Pairs of users who write to each other, each with a window of unanswered messages (closed loop)
    Chat(chat::Arguments),
}

impl Scenario {
    pub(crate) async fn run(self, world: World) -> anyhow::Result<Report> {
        match self {
            Self::Chat(arguments) => chat::run(world, arguments).await,
        }
    }
}
