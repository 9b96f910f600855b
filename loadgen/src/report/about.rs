//! What a report is about: when and where the run was, by which program, and how to have it again.

use std::{env, fs, thread};

use proto_spec::TimestampMs;
use rim::utc::utc;

use crate::devices::Redirects;

/// In the order to show it.
#[must_use]
pub fn about(begun: TimestampMs, seed: u64, redirects: Redirects) -> Vec<(&'static str, String)> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let mut about = vec![
        ("begun", format!("{}Z", utc(begun.0 / 1_000, ':'))),
        ("command", command(&arguments)),
        ("seed", seed.to_string()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("machine", machine()),
    ];
    if redirects == Redirects::Refused {
        about.push(("redirects", "not followed: the clients say so, and stay at --server".to_owned()));
    }
    about
}

/// As a shell takes it.
fn command(arguments: &[String]) -> String {
    let quoted = arguments.iter().map(|argument| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
        if !argument.is_empty() && argument.chars().all(is_plain) {
            argument.clone()
        } else {
            format!("'{}'", argument.replace('\'', "'\\''"))
        }
    });
    ["ringpost-loadgen".to_owned()].into_iter().chain(quoted).collect::<Vec<_>>().join(" ")
}

/// Processor, cores and kernel of the machine that the generator runs on, as far as it tells.
fn machine() -> String {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let model = model.map_or_else(|| env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned());
    format!("{model}, {cores} cores, Linux {}", kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_can_be_had_again_by_its_command_and_seed() {
        let begun = TimestampMs(951_868_800_999);
        let [staying, about] =
            [Redirects::Refused, Redirects::ToThisMachine].map(|redirects| about(begun, 7, redirects));
        assert!(staying.iter().any(|(name, _)| *name == "redirects") && staying.len() == about.len() + 1);
        assert_eq!(about[0], ("begun", "2000-03-01T00:00:00Z".to_owned()));
        assert!(about.contains(&("seed", "7".to_owned())));
        assert!(about.iter().all(|(name, value)| !value.is_empty() && !name.is_empty()), "{about:?}");
        let arguments = ["replay", "my trace's.tsv", "--server", "[::1]:7600", ""].map(str::to_owned);
        assert_eq!(command(&arguments), "ringpost-loadgen replay 'my trace'\\''s.tsv' --server '[::1]:7600' ''");
    }
}
