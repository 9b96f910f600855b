//! A disk without room: sends are refused with a time to try again, reads go on, and when there is room again so do sends.
//!
//! The disk is a small tmpfs in a mount namespace of its own, which needs root or user namespaces and goes away with its
//! processes. Where neither is allowed, the test says so and proves nothing; the journal's part is then shown by the tests
//! of `server::io::commit` alone.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use proto_spec::{ClientFrame, Direction, RequestId, Resume, Seq};
use tests::{device::Device, process::Installation, wait_until};

/// A process that keeps a small disk mounted in its namespace.
struct SmallDisk {
    holder: Child,
    mount: PathBuf,
    needs_user: bool,
}

impl SmallDisk {
    fn new(mount: PathBuf) -> Option<Self> {
        fs::create_dir(&mount).unwrap();
        let script =
            format!("mount -t tmpfs -o size=24m,mode=0700 ringpost {} && echo mounted && exec cat", mount.display());
        for flags in [&["--mount"][..], &["--user", "--map-root-user", "--mount"]] {
            let mut command = Command::new("unshare");
            command.args(flags).args(["sh", "-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
            let Ok(mut holder) = command.spawn() else { continue };
            let mut said = String::new();
            BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
            if said == "mounted\n" {
                return Some(Self { holder, mount, needs_user: flags.len() > 1 });
            }
            holder.wait().unwrap();
        }
        None
    }

    /// What runs a command with this disk.
    fn wrapper(&self) -> Vec<String> {
        let mut line =
            vec!["nsenter".to_owned(), "--target".to_owned(), self.holder.id().to_string(), "--mount".to_owned()];
        if self.needs_user {
            line.extend(["--user".to_owned(), "--preserve-credentials".to_owned()]);
        }
        line
    }

    fn ballast(&self) -> PathBuf {
        let inside = self.mount.join("ballast");
        PathBuf::from(format!("/proc/{}/root{}", self.holder.id(), inside.display()))
    }

    fn fill(&self) {
        let mut ballast = File::options().create(true).append(true).open(self.ballast()).unwrap();
        while ballast.write_all(&[1; 4096]).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[test]
fn without_room_sends_are_refused_reads_go_on_and_with_room_all_is_accepted_and_kept() {
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    let Some(disk) = SmallDisk::new(installation.folder().join("disk")) else {
        println!("SKIPPED: neither root nor user namespaces may mount a tmpfs here");
        return;
    };
    installation.wrapper = disk.wrapper();
    installation.config.data_dir = disk.mount.join("data");
    installation.config.auth.key_file = installation.folder().join("key.pem");
    server::keyfile::create_if_missing(&installation.config.auth.key_file).unwrap();
    installation.config.journal.segment_bytes = 1024 * 1024;
    installation.config.journal.bytes_max = 8 * 1024 * 1024;
    installation.config.journal.seal_after_ms = 200;
    let server = installation.start();
    let address = installation.config.listen;

    let mut writer = Device::new(1, 1, installation.token(1));
    writer.connect(address, Resume::Stored);
    let text = "x".repeat(4000);
    let say = |writer: &mut Device, count: u64| {
        for _ in 0..count {
            writer.say(2, &text);
            writer.step_until("there is room", |writer| writer.unanswered() < 64);
        }
    };
    say(&mut writer, 100);
    for round in 1..=2 {
        writer.step_until("all is accepted", |writer| writer.unanswered() == 0);
        writer.refused.clear();
        disk.fill();
        let before = writer.accepted.len();
        while !writer.refused.contains_key("storage_full") {
            if writer.unanswered() < 64 {
                writer.say(2, &text);
            }
            writer.step(Duration::from_millis(5));
            assert!(writer.accepted.len() < before + 4000, "round {round}: more is accepted than there is room for");
        }
        // Who was there reads on, who was not comes in and reads.
        let mut reader = installation.login(1, 2, Resume::Live);
        let (from, direction) = (Seq(0), Direction::Backwards);
        let page = reader.fetch(1, &ClientFrame::FetchLog { request: RequestId(1), from, direction, limit: 5 });
        assert_eq!(page.entries.len(), 5);
        let mut recipient = Device::new(2, round, installation.token(2));
        recipient.connect(address, Resume::Stored);
        let accepted = writer.accepted.len();
        recipient.step_until("it gets what was accepted", |recipient| recipient.received().len() >= accepted);
        disk.make_room();
        writer.step_until("all is accepted", |writer| writer.unanswered() == 0);
    }
    say(&mut writer, 300);
    writer.step_until("all is accepted", |writer| writer.unanswered() == 0);
    wait_until("the journal goes round", || server.metrics()["ringpost_journal_ingest_seconds_count"] > 0.0);
    server.kill();
    let server = installation.start();
    let mut recipient = Device::new(2, 9, installation.token(2));
    recipient.connect(address, Resume::Stored);
    recipient.step_until("everything is there", |recipient| recipient.received().len() as u64 == writer.sent());
    writer.connect(address, Resume::After(Seq(writer.position)));
    server.stop();
}
