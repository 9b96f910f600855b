//! A newer token comes into the file of the one that is about to expire.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use client::{Client, ClientEvent};
use tokio::{task::JoinHandle, time::sleep};

/// Time between two looks into the file.
const LOOK: Duration = Duration::from_secs(1);

pub(crate) fn read_token(file: &Path) -> io::Result<String> {
    Ok(std::fs::read_to_string(file)?.trim().to_owned())
}

/// Looks for a newer token from the server's warning until it has taken one.
#[derive(Debug)]
pub(crate) struct Renewal {
    file: Option<PathBuf>,
    looking: Option<JoinHandle<()>>,
}

impl Renewal {
    pub(crate) const fn new(file: Option<PathBuf>) -> Self {
        Self { file, looking: None }
    }

    pub(crate) fn on_event(&mut self, client: &Client, event: &ClientEvent) {
        match event {
            ClientEvent::TokenExpiring { .. } if self.looking.is_none() => {
                let look = |file: &PathBuf| tokio::spawn(look(client.clone(), file.clone()));
                self.looking = self.file.as_ref().map(look);
            }
            ClientEvent::TokenRefreshed { .. } | ClientEvent::Welcome(_) => {
                if let Some(task) = self.looking.take() {
                    task.abort();
                }
            }
            _ => {}
        }
    }
}

/// Gives the client what is in the file, again and again: somebody is about to write a newer token into it.
async fn look(client: Client, file: PathBuf) {
    loop {
        if let Ok(token) = read_token(&file) {
            // One that is half written is refused, here or by the server, and followed by the whole one.
            let _ = client.set_token(token);
        }
        sleep(LOOK).await;
    }
}
