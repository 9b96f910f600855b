//! What `docs/PUSH.md` says of bounds, waits and hosts is what the code does.

use push::{hosts, limits};

#[test]
fn the_bounds_of_the_document_are_those_of_the_code() {
    let document = include_str!("../../../docs/PUSH.md");
    let words: Vec<&str> = document.split_whitespace().collect();
    let document = words.join(" ");
    let (minutes, seconds) =
        (|time: std::time::Duration| time.as_secs() / 60, |time: std::time::Duration| time.as_secs());
    for said in [
        format!("offered and not looked at | {} |", grouped(limits::OFFERED_MAX)),
        format!("notices that are held | {} |", grouped(limits::WAITING_MAX)),
        format!(
            "wait for one host | {} | given back, to be offered again after {} s",
            grouped(limits::HOST_WAITING_MAX),
            seconds(limits::LATER)
        ),
        format!("hosts that are known | {} |", grouped(limits::HOSTS_MAX)),
        format!(
            "requests under way | {}, to one host {} |",
            grouped(limits::UNDER_WAY_MAX),
            limits::HOST_UNDER_WAY_MAX
        ),
        format!("speaks HTTP/2 | {}, and one before", limits::CONNECTIONS),
        format!("lookups of names | {} at a time |", limits::LOOKUPS_MAX),
        format!("body of an answer that is read | {} KiB |", limits::ANSWER_BYTES_MAX / 1024),
        format!("at most {} bytes. To a message", grouped(limits::PAYLOAD_BYTES_MAX)),
        format!("1 to {} visible ASCII characters", grouped(limits::DEVICE_TOKEN_BYTES_MAX)),
        format!("no fragment, at most {} bytes)", grouped(limits::ENDPOINT_BYTES_MAX)),
        format!("a multiple of {} bytes", push::encryption::PADDED_TO_BYTES),
        format!(
            "good for {} hours, and made anew after {}",
            limits::VAPID_TOKEN_S / 3600,
            limits::VAPID_RENEWED_AFTER_S / 3600
        ),
        format!("used for {} minutes", limits::APNS_TOKEN_S / 60),
        format!("anew {} minutes before its end", limits::FCM_TOKEN_SPARE_S / 60),
        format!("`whsec_` and {} to {} bytes", limits::WEBHOOK_KEY_BYTES.start(), limits::WEBHOOK_KEY_BYTES.end()),
        format!("by chance up to {} s, then", seconds(limits::RETRY_FIRST)),
        format!("and so on up to {} min", minutes(limits::RETRY_MAX)),
        format!("After {} failures in a row a host rests for {} s", limits::FAILURES_MAX, seconds(limits::REST_FIRST)),
        format!("rests twice as long, up to {} min", minutes(limits::REST_MAX)),
        format!(
            "An attempt may take {} s, a connection {} s of them",
            seconds(limits::ANSWER_MAX),
            seconds(limits::CONNECT_MAX)
        ),
        format!("{} KiB of JSON, within {} s |", limits::HANDED_BYTES_MAX / 1024, seconds(limits::HANDED_READ_MAX)),
        format!("each with one notice at a time | {} |", grouped(limits::HANDED_CONNECTIONS_MAX)),
        format!("connection that says nothing | {} s |", seconds(limits::HANDED_IDLE_MAX)),
        format!("how that ended which it has, for {} s at most", seconds(limits::HANDED_STOP_MAX)),
        format!("processes that a server hands to | {} |", limits::SERVICES_MAX),
        format!("wrong or more than {} minutes old", limits::SIGNATURE_AGE_MAX_S / 60),
        format!(
            "fails {} times in a row, or answers as no push service of this secret does, rests for {} s, then twice as long each time, up to {} s",
            limits::FAILURES_MAX,
            seconds(limits::REST_FIRST),
            seconds(limits::SERVICE_REST_MAX)
        ),
        format!("A gateway answers within {} s", seconds(limits::ANSWER_MAX)),
        {
            let [first @ .., last] = hosts::KNOWN.map(|host| format!("`{host}`"));
            format!("by default {} and {last}, all at port 443", first.join(", "))
        },
    ] {
        assert!(document.contains(&said), "docs/PUSH.md should say: {said}");
    }
}

/// 4096 as 4,096.
fn grouped(number: usize) -> String {
    if number < 1000 { number.to_string() } else { format!("{},{:03}", number / 1000, number % 1000) }
}
