//! Devices: what the operator is told of a user's devices. PURE.

use std::fmt::Write as _;

use proto_spec::{DeviceInfo, ErrorCode, UserId};
use rim::utc::utc;

const DAY_S: u64 = 24 * 3600;

/// The devices of a user, one a line below a heading. A name is shown in quotes, with everything escaped that a terminal would obey.
pub(super) fn list(user: UserId, devices: &[DeviceInfo]) -> String {
    if devices.is_empty() {
        return format!("user {user} has no devices\n");
    }
    let mut text = format!("{:<22}{:<12}{:<11}{:<14}{}\n", "device", "last seen", "now", "acknowledged", "name");
    for DeviceInfo { device, seen_day, is_connected, cursor, name } in devices {
        let seen = match seen_day.checked_mul(DAY_S) {
            Some(0) | None => "-".to_owned(),
            Some(seconds) => utc(seconds, ':').chars().take_while(|c| *c != 'T').collect(),
        };
        let now = if *is_connected { "connected" } else { "away" };
        let name = if name.is_empty() { "-".to_owned() } else { format!("{name:?}") };
        let (device, cursor) = (device.to_string(), cursor.to_string());
        // Writing to a String can not fail.
        let _ = writeln!(text, "{device:<22}{seen:<12}{now:<11}{cursor:<14}{name}");
    }
    text
}

/// Why it was not done, and what to do about it.
pub(super) fn refused(user: UserId, code: ErrorCode) -> String {
    match code {
        ErrorCode::NoSuchDevice => format!(
            "user {user} has no such device, or it was removed before: `ringpost devices list --user {user}` shows those that \
             there are\n"
        ),
        ErrorCode::StorageFull => "the disk of the server is full: nothing can be removed before there is room\n".to_owned(),
        ErrorCode::StorageFailed => {
            "the store or the journal can not be read or written: the log of the server says why. Whether a device was removed \
             shows in its list\n"
                .to_owned()
        }
        code => format!("the server can not do it now ({}): try again\n", code.name()),
    }
}

#[cfg(test)]
mod tests {
    use proto_spec::{DeviceId, Seq};

    use super::*;

    #[test]
    fn a_list_is_for_people_and_a_name_can_not_command_their_terminal() {
        let device = |device, seen_day, is_connected, name: &str| DeviceInfo {
            device: DeviceId(device),
            seen_day,
            is_connected,
            cursor: Seq(120),
            name: name.to_owned(),
        };
        let devices = [device(1, 20_786, true, "Alice's \u{1b}[2J phone"), device(u64::MAX, 0, false, "")];
        let expected = "\
device                last seen   now        acknowledged  name
1                     2026-11-29  connected  120           \"Alice's \\u{1b}[2J phone\"
18446744073709551615  -           away       120           -
";
        assert_eq!(list(UserId(7), &devices), expected);
        assert_eq!(list(UserId(7), &[]), "user 7 has no devices\n");
        assert!(list(UserId(7), &[device(1, u64::MAX, false, "")]).contains(" - "), "a day that no clock reaches");
    }

    #[test]
    fn who_names_a_device_that_there_is_not_is_told_what_to_type() {
        assert!(refused(UserId(7), ErrorCode::NoSuchDevice).contains("`ringpost devices list --user 7`"));
    }
}
