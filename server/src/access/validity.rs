//! Validity: from when until when a certificate is good, and when an operator is to be told. Time is an argument.
//!
//! A chain is good while all of its certificates are. A server starts with whatever it is given: it is its clients that refuse.

use std::time::Duration;

use proto_spec::TimestampMs;
use rim::utc::utc;
use rustls::{
    CertificateError, Error, RootCertStore,
    client::verify_server_cert_signed_by_trust_anchor,
    pki_types::{CertificateDer, UnixTime},
    server::ParsedCertificate,
};

/// How long before the end an operator is told, in seconds: three weeks, because a certificate that renews itself does so a month before
/// its end, and people take holidays.
pub const WARN_BEFORE_S: u64 = 21 * DAY_S;

/// Time between two warnings, in seconds.
pub const WARN_EVERY_S: u64 = DAY_S;

const DAY_S: u64 = 24 * 3600;

/// See the head of this file. Both in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub from_s: u64,
    /// The last second.
    pub until_s: u64,
}

impl Validity {
    /// Of a chain; none if that is damaged.
    #[must_use]
    pub fn of_chain(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let all: Option<Vec<_>> = chain.iter().map(Self::of).collect();
        let all = all?;
        Some(Self {
            from_s: all.iter().map(|one| one.from_s).max()?,
            until_s: all.iter().map(|one| one.until_s).min()?,
        })
    }

    /// The library tells no dates, but which one stands in the way: at the end of time the end, and in 1970 the beginning.
    fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = ParsedCertificate::try_from(certificate).ok()?;
        let judged = |at_s| {
            let at = UnixTime::since_unix_epoch(Duration::from_secs(at_s));
            verify_server_cert_signed_by_trust_anchor(&certificate, &RootCertStore::empty(), &[], at, &[]).err()
        };
        let until_s = match judged(u64::MAX) {
            Some(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => not_after.as_secs(),
            _ => return None,
        };
        let from_s = match judged(0) {
            Some(Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. })) => {
                not_before.as_secs()
            }
            // It is good since 1970, so that something else stands in the way.
            _ => 0,
        };
        Some(Self { from_s, until_s })
    }

    /// Seconds that are left; less than none once it has expired.
    #[must_use]
    pub fn left_s(&self, now: TimestampMs) -> i64 {
        let signed = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
        signed(self.until_s).saturating_sub(signed(now.0 / 1_000))
    }

    /// What an operator is to be told, if anything.
    #[must_use]
    pub fn notice(&self, now: TimestampMs) -> Option<String> {
        const MEND: &str = "put a newer one into tls.cert_file and its key into tls.key_file, and send SIGHUP";
        let now_s = now.0 / 1_000;
        let day = |seconds| utc(seconds, ':').split('T').next().unwrap_or_default().to_owned();
        if now_s < self.from_s {
            return Some(format!(
                "the certificate is good from {} on, and clients refuse it until then: look at the clock, or {MEND}",
                utc(self.from_s, ':')
            ));
        }
        match self.left_s(now) {
            ..0 => Some(format!("the certificate has expired on {}, and clients refuse it: {MEND}", day(self.until_s))),
            left if left.unsigned_abs() <= WARN_BEFORE_S => Some(format!(
                "the certificate expires on {}, in {} days: {MEND}",
                day(self.until_s),
                left.unsigned_abs() / DAY_S
            )),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    const VALIDITY: Validity = Validity { from_s: 1_000_000_000, until_s: 1_100_000_000 };

    fn at(seconds: u64) -> TimestampMs {
        TimestampMs(1_000 * seconds)
    }

    #[test]
    fn a_chain_is_good_while_all_of_its_certificates_are() {
        let key = KeyPair::generate().unwrap();
        let made = |from: i32, until: i32, is_authority: bool| {
            let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
            (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
            if is_authority {
                params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            }
            params.self_signed(&key).unwrap().der().clone()
        };
        let (own, authority) = (made(2020, 2030, false), made(2021, 2029, true));
        let year = |year: i32| u64::try_from(date_time_ymd(year, 1, 1).unix_timestamp()).unwrap();
        let of_own = Validity { from_s: year(2020), until_s: year(2030) };
        assert_eq!(Validity::of_chain(std::slice::from_ref(&own)), Some(of_own));
        let of_both = Validity { from_s: year(2021), until_s: year(2029) };
        assert_eq!(Validity::of_chain(&[own, authority]), Some(of_both));
        assert_eq!(Validity::of_chain(&[made(1970, 2030, false)]), Some(Validity { from_s: 0, until_s: year(2030) }));
        assert_eq!(Validity::of_chain(&[CertificateDer::from(vec![0x30, 0])]), None);
        assert_eq!(Validity::of_chain(&[]), None);
    }

    #[test]
    fn an_operator_is_told_three_weeks_before_the_end_and_after_it() {
        for (now, said) in [
            (999_999_999, Some("is good from 2001-09-09T01:46:40 on")),
            (1_000_000_000, None),
            (1_100_000_000 - WARN_BEFORE_S - 1, None),
            (1_100_000_000 - WARN_BEFORE_S, Some("expires on 2004-11-09, in 21 days")),
            (1_100_000_000, Some("in 0 days")),
            (1_100_000_001, Some("has expired on 2004-11-09")),
            (2_000_000_000, Some("has expired on 2004-11-09")),
        ] {
            let notice = VALIDITY.notice(at(now));
            match said {
                Some(said) => assert!(notice.as_ref().is_some_and(|notice| notice.contains(said)), "{now}: {notice:?}"),
                None => assert_eq!(notice, None, "{now}"),
            }
        }
    }

    #[test]
    fn what_is_left_is_counted_below_zero_too() {
        assert_eq!(VALIDITY.left_s(at(1_099_999_990)), 10);
        assert_eq!(VALIDITY.left_s(at(1_100_000_010)), -10);
        assert_eq!(Validity { until_s: u64::MAX, ..VALIDITY }.left_s(at(0)), i64::MAX);
    }
}
