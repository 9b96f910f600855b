//! What limited a run, in sentences: what a reader must know before any number, and what to do about it. Pure.

use proto_spec::ErrorCode;

use crate::{
    engine::{Asked, Outcome},
    limits::{BUSY_PART, LATE_US, REACHED_PART},
    stats::{Measure, Refused},
};

/// What limited the run, the clearest reason first; one sentence that says so if nothing did.
#[must_use]
pub fn limited_by(outcome: &Outcome) -> Vec<String> {
    let mut reasons = Vec::new();
    for (what, code, count) in outcome.total.refusals() {
        // A gap is what follows when another send was refused.
        if code != ErrorCode::SendGap {
            reasons.push(format!("{} as `{}` ({count}): {}", what.words(), code.name(), advice(what, code)));
        }
    }
    if let Asked::Rate(count, asked) = outcome.asked {
        let reached = outcome.load[count] as f64 / outcome.took.as_secs_f64().max(1e-9);
        if reached < REACHED_PART * asked {
            reasons.push(format!(
                "{reached:.0} {} a second of the {asked:.0} that were asked for: ask for less, or find out below what is slow",
                count.words()
            ));
        }
    }
    reasons.extend(generator(outcome));
    reasons.extend(processors(outcome));
    if reasons.is_empty() {
        reasons.push(match outcome.asked {
            _ if !outcome.is_whole => "its end, since it was cut short".to_owned(),
            Asked::Rate(..) | Asked::OwnTimes => "nothing; what was asked for was done".to_owned(),
            Asked::AsFastAsItGoes => closed_loop(outcome),
        });
    }
    reasons
}

fn advice(what: Refused, code: ErrorCode) -> &'static str {
    const UNLIMITED: &str = "a server that holds nobody back is configured by benches/unlimited.toml";
    match (code, what) {
        (ErrorCode::RateLimited, Refused::Send) => {
            "the limits of one device and one user ([limits] device_sends_per_s, user_sends_per_s, opened_per_s). More --pairs stay below \
             them; a server that holds nobody back is configured by benches/unlimited.toml"
        }
        (ErrorCode::RateLimited, Refused::Fetch) => {
            "the limit of one user ([limits] fetches_per_s); a server that holds nobody back is configured by benches/unlimited.toml"
        }
        (ErrorCode::RateLimited | ErrorCode::TooManyConnections, Refused::Login) => {
            "the limits of one address and one user ([limits] address_handshakes, address_connections, logins_per_s; connections.max); \
             a server that holds nobody back is configured by benches/unlimited.toml"
        }
        (ErrorCode::RateLimited, Refused::Connection) => UNLIMITED,
        (ErrorCode::Overloaded, _) => {
            "the server has more work than it takes on; OPERATING.md, \"When a core sheds\" and \"When the journal does not take sends\", tells \
             by which metric to see what is slow"
        }
        (ErrorCode::StorageFull, _) => "the server's disk has no room: make room and run it again",
        (ErrorCode::StorageFailed, _) => "the server's disk or store fails: its log says how",
        (ErrorCode::Stopping, _) => "the server was stopped",
        (ErrorCode::WindowFull, _) => "more sends await their answer than the server allows: a smaller --window",
        _ => "SPEC.md, section 6, says what that means",
    }
}

/// The generator itself.
fn generator(outcome: &Outcome) -> Option<String> {
    let cores = outcome.resources.own_cpu_s / outcome.took.as_secs_f64().max(1e-9);
    if outcome.lanes > 0 && cores >= BUSY_PART * outcome.lanes as f64 {
        return Some(format!(
            "the generator was busy: {cores:.2} cores of the {} that its lanes can use: more --lanes, on a machine that has the cores",
            outcome.lanes
        ));
    }
    let late = outcome.total.all(Measure::Late)?;
    (late.at(50.0) >= LATE_US).then(|| {
        format!(
            "the generator was late: half of its sends by {:.1} ms and more, which is in every latency: a lower --rate, more --lanes, or a calmer \
             machine",
            late.at(50.0) as f64 / 1e3
        )
    })
}

/// The server's cores, and those of a machine that both share.
fn processors(outcome: &Outcome) -> Option<String> {
    let took_s = outcome.took.as_secs_f64().max(1e-9);
    let server = outcome.resources.server_cpu_s? / took_s;
    if let Some(cores) = outcome.resources.server_cores.filter(|cores| server >= BUSY_PART * cores) {
        return Some(format!("the server was busy: {server:.2} of its {cores:.0} cores: this is what it can do"));
    }
    let own = outcome.resources.own_cpu_s / took_s;
    let machine = outcome.machine_cores as f64;
    (outcome.shares_machine && own + server >= BUSY_PART * machine).then(|| {
        format!(
            "the machine was busy: server {server:.2} and generator {own:.2} of {machine:.0} cores: run the generator on another machine \
             (--allow-remote)"
        )
    })
}

/// Everybody waits for an answer before the next: the rate is what the answers take.
fn closed_loop(outcome: &Outcome) -> String {
    let unseen = match outcome.resources.server_cpu_s {
        Some(_) => "",
        None => " How busy the server was is not known: --metrics 127.0.0.1:7601, or --server-pid.",
    };
    format!(
        "the time that answers take: nothing was refused, and the generator was not busy. More connections, pairs or a larger window ask for \
         more.{unseen}"
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{report::tests::report, stats::Count};

    fn outcome() -> Outcome {
        Outcome { took: Duration::from_secs(10), lanes: 1, machine_cores: 8, ..report().outcome }
    }

    #[test]
    fn refusals_come_first_with_what_to_do_and_gaps_are_only_their_consequence() {
        let mut outcome = outcome();
        outcome.total.refused(Refused::Login, ErrorCode::Overloaded);
        (0..3).for_each(|_| outcome.total.refused(Refused::Send, ErrorCode::RateLimited));
        (0..90).for_each(|_| outcome.total.refused(Refused::Send, ErrorCode::SendGap));
        let reasons = limited_by(&outcome);
        assert!(reasons[0].starts_with("sends refused as `rate_limited` (3): the limits of one device"), "{reasons:?}");
        assert!(reasons[0].contains("benches/unlimited.toml"));
        assert!(reasons[1].starts_with("connections refused as `overloaded` (1): "), "{reasons:?}");
        assert_eq!(reasons.len(), 2);
    }

    #[test]
    fn a_rate_that_was_not_reached_is_said() {
        let mut outcome = outcome();
        outcome.asked = Asked::Rate(Count::Accepted, 1_000.0);
        outcome.load[Count::Accepted] = 6_530;
        let reasons = limited_by(&outcome);
        assert!(
            reasons[0].starts_with("653 messages accepted a second of the 1000 that were asked for"),
            "{reasons:?}"
        );
        outcome.load[Count::Accepted] = 9_990;
        assert_eq!(limited_by(&outcome), ["nothing; what was asked for was done"]);
    }

    #[test]
    fn a_generator_that_is_busy_or_late_is_its_own_limit() {
        let mut busy = outcome();
        busy.resources.own_cpu_s = 9.5;
        assert!(
            limited_by(&busy)[0].starts_with("the generator was busy: 0.95 cores of the 1"),
            "{:?}",
            limited_by(&busy)
        );
        let mut late = outcome();
        late.total.record(Measure::Late, 20_000);
        assert!(
            limited_by(&late)[0].starts_with("the generator was late: half of its sends by 20.0 ms"),
            "{:?}",
            limited_by(&late)
        );
    }

    #[test]
    fn a_server_or_a_machine_that_is_busy_is_named() {
        let mut busy = outcome();
        (busy.resources.server_cpu_s, busy.resources.server_cores) = (Some(19.0), Some(2.0));
        assert_eq!(limited_by(&busy), ["the server was busy: 1.90 of its 2 cores: this is what it can do"]);
        let mut machine = outcome();
        (machine.machine_cores, machine.shares_machine) = (2, true);
        (machine.resources.server_cpu_s, machine.resources.own_cpu_s) = (Some(12.0), 6.0);
        assert!(limited_by(&machine)[0].starts_with("the machine was busy: server 1.20 and generator 0.60 of 2"));
    }

    #[test]
    fn a_run_that_was_cut_short_says_nothing_about_the_server() {
        assert_eq!(limited_by(&Outcome { is_whole: false, ..outcome() }), ["its end, since it was cut short"]);
    }

    #[test]
    fn a_closed_loop_that_nothing_held_back_says_so_and_how_to_see_more() {
        let [said] = &limited_by(&outcome())[..] else { panic!("one sentence") };
        assert!(said.starts_with("the time that answers take") && said.contains("--metrics 127.0.0.1:7601"), "{said}");
    }
}
