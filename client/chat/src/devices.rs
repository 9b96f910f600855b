//! How the devices of a user are shown. What they are called others have chosen, so it can not command a terminal.

use client::{DeviceId, DeviceInfo, Removal};
use jiff::Timestamp;

use crate::visible::tame;

/// Seconds of a day.
const DAY_S: u64 = 24 * 3600;

/// The day on which a device was last connected, as in `2026-01-01`; none if the server does not know it.
pub(crate) fn day(seen_day: u64) -> Option<String> {
    let seconds = seen_day.checked_mul(DAY_S).filter(|seconds| *seconds > 0)?;
    let moment = Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?;
    Some(moment.strftime("%Y-%m-%d").to_string())
}

/// Why a device was removed, in one word.
pub(crate) const fn reason(why: Removal) -> &'static str {
    match why {
        Removal::User => "user",
        Removal::Room => "room",
        Removal::Operator => "operator",
    }
}

/// A list for people, one device a line.
pub(crate) fn list(devices: &[DeviceInfo], own: Option<DeviceId>) -> String {
    let mut text = String::from("Your devices\n\n");
    for DeviceInfo { device, seen_day, is_connected, name, .. } in devices {
        let seen = match (own == Some(*device), is_connected, day(*seen_day)) {
            (true, ..) => "this one".to_owned(),
            (false, true, _) => "connected".to_owned(),
            (false, false, Some(day)) => day,
            (false, false, None) => "-".to_owned(),
        };
        text += &format!("{:<22}{seen:<12}{}\n", device.to_string(), tame(name));
    }
    text + "\n/device-name NAME    call this one NAME\n/remove-device ID    remove one for ever: a lost phone, an old browser"
}

#[cfg(test)]
mod tests {
    use client::Seq;

    use super::*;

    #[test]
    fn a_list_says_which_one_this_is_and_when_the_others_were_there() {
        let device = |device, seen_day, is_connected, name: &str| DeviceInfo {
            device: DeviceId(device),
            seen_day,
            is_connected,
            cursor: Seq(1),
            name: name.to_owned(),
        };
        let devices = [
            device(1, 20_786, true, "phone"),
            device(2, 20_786, true, ""),
            device(3, 20_454, false, "old \u{1b}[2J"),
            device(4, 0, false, ""),
        ];
        let text = list(&devices, Some(DeviceId(1)));
        for line in ["1                     this one    phone", "3                     2026-01-01  old \\u{1b}[2J"] {
            assert!(text.contains(line), "{text}");
        }
        assert!(text.lines().any(|line| line.starts_with("2  ") && line.contains("connected")), "{text}");
        assert!(text.lines().any(|line| line.starts_with("4  ") && line.trim_end().ends_with('-')), "{text}");
        assert_eq!((day(0), day(u64::MAX), day(20_454)), (None, None, Some("2026-01-01".to_owned())));
    }
}
