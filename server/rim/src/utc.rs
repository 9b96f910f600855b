//! Utc: the wall clock, and how it is written down for people.

use std::time::SystemTime;

use proto_spec::TimestampMs;

/// The wall clock. Before 1970 it is 1970.
#[must_use]
pub fn wall_now() -> TimestampMs {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    TimestampMs(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
}

/// A time in seconds since 1970 as `2026-11-22T17:36:00`: ISO 8601 without the `Z`, so that a fraction can follow. With dashes in
/// the place of the colons it is a file name everywhere.
#[must_use]
pub fn utc(seconds: u64, colon: char) -> String {
    const DAY: u64 = 24 * 3600;
    // Years that begin in March, so that a leap day is the last of its year; 719 468 days from 0000-03-01 to 1970.
    let days = seconds / DAY + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * months_from_march + 2) / 5 + 1;
    let month = if months_from_march < 10 { months_from_march + 3 } else { months_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds % DAY / 3600, seconds % 3600 / 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}{colon}{minute:02}{colon}{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, date) in [
            (0, "1970-01-01T00-00-00"),
            (951_782_399, "2000-02-28T23-59-59"),
            (951_782_400, "2000-02-29T00-00-00"),
            (951_868_800, "2000-03-01T00-00-00"),
            (1_704_067_199, "2023-12-31T23-59-59"),
            (4_107_542_400, "2100-03-01T00-00-00"),
        ] {
            assert_eq!(utc(seconds, '-'), date);
        }
    }
}
