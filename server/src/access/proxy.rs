//! The PROXY protocol, versions 1 and 2: what a balancer says of a connection ahead of the client's own bytes. PURE: bytes in, a
//! [`Cut`] out.
//!
//! Owns the form of a header and its bounds. From whom one is taken, and what the address in it counts for, is decided in
//! [`crate::core`].
//!
//! Nothing but the client's address is concluded from a header. TLVs are passed over unread: that of TLS (`PP2_TYPE_SSL`) is sent for
//! connections without TLS too, its bits alone tell which it was, and whether a client speaks TLS with this server its listener says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

use crate::limits::{PROXY_HEADER_BYTES_MAX, PROXY_LINE_BYTES_MAX};

/// How a header of version 2 begins.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// How one of version 1 begins.
const LINE: &[u8] = b"PROXY ";

/// How one begins that tells no address.
const UNKNOWN: &[u8] = b"PROXY UNKNOWN";

/// What is said to who sends a header from where none is taken: else anybody could claim any address.
pub const NO_HEADER_EXPECTED: &str =
    "this looks like a PROXY header, which is taken from the networks of `connections.proxy_networks` only";

/// Signature, version with command, family with transport, and the length of what follows.
const FIXED_BYTES: usize = 16;

/// Of a pair of addresses with their ports.
const IPV4_BYTES: usize = 12;
const IPV6_BYTES: usize = 36;

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A client's, who is there.
    Client(SocketAddr),
    /// The balancer's own, to see whether the server is well (`LOCAL`), or one of which it tells no address of TCP (`UNKNOWN`,
    /// `UNSPEC`, a socket of its machine): it keeps the address that it has.
    Balancer,
}

/// What the first bytes of a stream are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The beginning of a header, of fewer than [`PROXY_HEADER_BYTES_MAX`] bytes.
    Incomplete,
    /// A header.
    Header {
        /// Whose connection it is.
        source: Source,
        /// How many bytes it has; the client's own follow.
        taken: usize,
    },
}

/// Why there is no header to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// The bytes are something else.
    #[error("no PROXY header comes first")]
    Missing,
    /// It does not end where it has to.
    #[error("the PROXY header has more than {0} bytes")]
    TooLong(usize),
    /// It breaks the protocol.
    #[error("the PROXY header is malformed: {0}")]
    Malformed(&'static str),
}

/// Whether a connection's first bytes are those of a header, by two of them, since who is refused for them is not waited for. No hello
/// begins like this: its second byte is its kind.
#[must_use]
pub fn looks_like_header(first: &[u8]) -> bool {
    [SIGNATURE, LINE].iter().any(|beginning| first.starts_with(&beginning[..2]))
}

/// Cuts a header off the beginning of a stream. Of a longer stream it says the same, unless it said that more is to come.
///
/// # Errors
/// The stream begins with something else, or with a header that is not taken; said as soon as it is known.
pub fn cut(stream: &[u8]) -> Result<Cut, HeaderError> {
    match (begins(stream, SIGNATURE), begins(stream, LINE)) {
        (true, _) => cut_binary(stream),
        (_, true) => cut_line(stream),
        (false, false) => Err(HeaderError::Missing),
    }
}

/// As far as there are bytes.
fn begins(stream: &[u8], with: &[u8]) -> bool {
    stream.iter().zip(with).all(|(is, wanted)| is == wanted)
}

/// Version 1: a line of text.
fn cut_line(stream: &[u8]) -> Result<Cut, HeaderError> {
    let window = &stream[..stream.len().min(PROXY_LINE_BYTES_MAX)];
    let Some(end) = window.iter().position(|&byte| byte == b'\n') else {
        let may_end = window.len() < PROXY_LINE_BYTES_MAX;
        return if may_end { Ok(Cut::Incomplete) } else { Err(HeaderError::TooLong(PROXY_LINE_BYTES_MAX)) };
    };
    let line = window[..end].strip_suffix(b"\r").ok_or(HeaderError::Malformed("its line does not end with CR LF"))?;
    // What follows the word is not to be looked at.
    let is_unknown = line.strip_prefix(UNKNOWN).is_some_and(|rest| matches!(rest, [] | [b' ', ..]));
    let source = match is_unknown {
        true => Source::Balancer,
        false => std::str::from_utf8(line).ok().and_then(client_of_line).ok_or(HeaderError::Malformed(
            "its line is not `PROXY TCP4` or `PROXY TCP6` with two addresses and two ports",
        ))?,
    };
    Ok(Cut::Header { source, taken: end + 1 })
}

fn client_of_line(line: &str) -> Option<Source> {
    let words: Vec<&str> = line.split(' ').collect();
    let &[_, family, from, to, from_port, to_port] = &words[..] else { return None };
    let address = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
        "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        _ => None,
    };
    // A sign would be read as one.
    let port = |text: &str| text.parse::<u16>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    address(to).zip(port(to_port))?;
    client(address(from)?, port(from_port)?)
}

/// Version 2.
fn cut_binary(stream: &[u8]) -> Result<Cut, HeaderError> {
    let Some((fixed, rest)) = stream.split_first_chunk::<FIXED_BYTES>() else { return Ok(Cut::Incomplete) };
    let [.., command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let is_told = match command {
        0x20 => false,
        0x21 => true,
        _ => return Err(HeaderError::Malformed("its version is not 2, or its command neither LOCAL nor PROXY")),
    };
    if FIXED_BYTES + length > PROXY_HEADER_BYTES_MAX {
        return Err(HeaderError::TooLong(PROXY_HEADER_BYTES_MAX));
    }
    let Some(body) = rest.get(..length) else { return Ok(Cut::Incomplete) };
    let source = match family {
        _ if !is_told => Source::Balancer,
        0x11 => ipv4(body).ok_or(HeaderError::Malformed(NO_ADDRESSES))?,
        0x21 => ipv6(body).ok_or(HeaderError::Malformed(NO_ADDRESSES))?,
        // Nothing, UDP, or a socket of the balancer's machine.
        0x00 | 0x12 | 0x22 | 0x31 | 0x32 => Source::Balancer,
        _ => return Err(HeaderError::Malformed("it names no family of addresses")),
    };
    Ok(Cut::Header { source, taken: FIXED_BYTES + length })
}

const NO_ADDRESSES: &str = "it is too short for its addresses, or no client has its source address";

fn ipv4(body: &[u8]) -> Option<Source> {
    let [a, b, c, d, _, _, _, _, high, low, ..] = *body.first_chunk::<IPV4_BYTES>()?;
    client(IpAddr::from([a, b, c, d]), u16::from_be_bytes([high, low]))
}

fn ipv6(body: &[u8]) -> Option<Source> {
    let addresses = body.first_chunk::<IPV6_BYTES>()?;
    let (from, ports) = (addresses.first_chunk::<16>()?, addresses.last_chunk::<4>()?);
    client(IpAddr::from(*from), u16::from_be_bytes([ports[0], ports[1]]))
}

/// A connection comes from no group of machines; limits on addresses rely on that.
fn client(address: IpAddr, port: u16) -> Option<Source> {
    (!address.is_multicast()).then_some(Source::Client(SocketAddr::new(address, port)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend([command, family]);
        header.extend((body.len() as u16).to_be_bytes());
        header.extend(body);
        header
    }

    /// Header and what it says, of one connection.
    fn told(from: SocketAddr) -> [Vec<u8>; 2] {
        let to = SocketAddr::new(from.ip(), 7_600);
        let (name, family, octets) = match from.ip() {
            IpAddr::V4(address) => ("TCP4", 0x11, address.octets().to_vec()),
            IpAddr::V6(address) => ("TCP6", 0x21, address.octets().to_vec()),
        };
        let ports = [from.port(), to.port()].map(u16::to_be_bytes).concat();
        let line = format!("PROXY {name} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port());
        [line.into_bytes(), binary(0x21, family, &[octets.clone(), octets, ports].concat())]
    }

    /// Looks at every prefix: what a stream is said to be is what each longer one is said to be, and nothing is said before there is a
    /// reason for it. Gives what is said of the whole.
    fn in_any_cut(stream: &[u8]) -> Result<Cut, HeaderError> {
        let mut said = Ok(Cut::Incomplete);
        for end in 0..=stream.len() {
            let now = cut(&stream[..end]);
            if said == Ok(Cut::Incomplete) {
                said = now;
            }
            assert_eq!(now, said, "at {end} of {stream:?}");
            match said {
                Ok(Cut::Incomplete) => assert!(end < PROXY_HEADER_BYTES_MAX, "{end} bytes are held"),
                Ok(Cut::Header { taken, .. }) => assert!(taken <= end && taken <= PROXY_HEADER_BYTES_MAX),
                Err(_) => {}
            }
        }
        said
    }

    fn is(stream: &[u8], source: Source) {
        assert_eq!(in_any_cut(stream), Ok(Cut::Header { source, taken: stream.len() }), "{stream:?}");
    }

    fn is_malformed(stream: &[u8]) {
        assert!(matches!(in_any_cut(stream), Err(HeaderError::Malformed(_))), "{stream:?}: {:?}", cut(stream));
    }

    #[test]
    fn the_examples_of_the_protocol_are_read() {
        let client = |text: &str| Source::Client(text.parse().unwrap());
        is(b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", client("192.168.0.1:56324"));
        is(b"PROXY TCP4 255.255.255.0 255.255.255.255 65535 65535\r\n", client("255.255.255.0:65535"));
        let longest = "abcd:abcd:abcd:abcd:abcd:abcd:abcd:abcd";
        is(format!("PROXY TCP6 {longest} {longest} 65535 65535\r\n").as_bytes(), client(&format!("[{longest}]:65535")));
        is(b"PROXY UNKNOWN\r\n", Source::Balancer);
        is(b"PROXY UNKNOWN ffff::1 what ever \xff 65535\r\n", Source::Balancer);
    }

    #[test]
    fn the_longest_line_is_taken_and_one_byte_more_is_not() {
        let line = |bytes: usize| format!("PROXY UNKNOWN {}\r\n", "f".repeat(bytes - 16)).into_bytes();
        is(&line(PROXY_LINE_BYTES_MAX), Source::Balancer);
        for bytes in [PROXY_LINE_BYTES_MAX + 1, 10 * PROXY_LINE_BYTES_MAX] {
            assert_eq!(in_any_cut(&line(bytes)), Err(HeaderError::TooLong(PROXY_LINE_BYTES_MAX)));
        }
    }

    #[test]
    fn a_line_that_breaks_the_protocol_is_refused() {
        for line in [
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
            "PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
            "PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 2001:db8::1 1 2\r\n",
            "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 -2\r\n",
            "PROXY TCP4 224.0.0.1 192.0.2.2 1 2\r\n",
            "PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY \r\n",
        ] {
            is_malformed(line.as_bytes());
        }
    }

    #[test]
    fn a_balancer_s_own_connections_keep_its_address_with_or_without_tlvs() {
        let tlv = [0x03, 0, 4, 1, 2, 3, 4];
        for body in [&[][..], &tlv, &[0; 12], &[0; 36]] {
            for family in [0x00, 0x11, 0x21, 0xff] {
                is(&binary(0x20, family, body), Source::Balancer);
            }
        }
        for (family, bytes) in [(0x00, 0), (0x12, 12), (0x22, 36), (0x31, 216), (0x32, 216)] {
            is(&binary(0x21, family, &vec![0; bytes]), Source::Balancer);
        }
    }

    #[test]
    fn what_a_header_says_of_tls_changes_nothing() {
        let from = "192.0.2.1:5000".parse().unwrap();
        let [_, header] = told(from);
        let addresses = &header[FIXED_BYTES..];
        // PP2_TYPE_SSL: with and without the bit PP2_CLIENT_SSL, cut short, and with a length beyond the end.
        for tlv in
            [&[0x20, 0, 5, 0x01, 0, 0, 0, 0][..], &[0x20, 0, 5, 0, 0, 0, 0, 1], &[0x20, 0], &[0x20, 0xff, 0xff, 1]]
        {
            is(&binary(0x21, 0x11, &[addresses, tlv].concat()), Source::Client(from));
        }
    }

    #[test]
    fn the_longest_header_is_taken_and_one_byte_more_is_not() {
        for command in [0x20, 0x21] {
            is(&binary(command, 0x00, &[0; PROXY_HEADER_BYTES_MAX - FIXED_BYTES]), Source::Balancer);
            for bytes in [PROXY_HEADER_BYTES_MAX - FIXED_BYTES + 1, 0xffff] {
                let header = binary(command, 0x00, &vec![0; bytes]);
                assert_eq!(in_any_cut(&header), Err(HeaderError::TooLong(PROXY_HEADER_BYTES_MAX)));
                assert!(cut(&header[..FIXED_BYTES]).is_err(), "its length is enough");
            }
        }
    }

    #[test]
    fn a_binary_header_that_breaks_the_protocol_is_refused() {
        for (command, family, bytes) in [
            (0x11, 0x11, 12),
            (0x22, 0x11, 12),
            (0x2f, 0x11, 12),
            (0x00, 0x11, 12),
            (0x21, 0x11, 11),
            (0x21, 0x21, 35),
            (0x21, 0x11, 0),
            (0x21, 0x01, 12),
            (0x21, 0x10, 12),
            (0x21, 0x13, 12),
            (0x21, 0x41, 216),
        ] {
            is_malformed(&binary(command, family, &vec![0; bytes]));
        }
        is_malformed(&binary(0x21, 0x21, &[0xff; IPV6_BYTES]));
    }

    #[test]
    fn what_is_no_header_is_said_to_be_none_at_its_first_wrong_byte() {
        for beginning in [LINE, SIGNATURE] {
            for end in 0..beginning.len() {
                let mut stream = beginning[..end].to_vec();
                assert_eq!(cut(&stream), Ok(Cut::Incomplete));
                assert_eq!(looks_like_header(&stream), end > 1);
                stream.push(!beginning[end]);
                assert_eq!(in_any_cut(&stream), Err(HeaderError::Missing));
                assert_eq!(looks_like_header(&stream), end > 1);
            }
        }
    }

    proptest! {
        #[test]
        fn a_header_says_where_a_connection_comes_from_whatever_follows(
            address: IpAddr, port: u16, tlvs in prop::collection::vec(any::<u8>(), 0..400), rest: Vec<u8>
        ) {
            prop_assume!(!address.is_multicast());
            let from = SocketAddr::new(address, port);
            let [line, header] = told(from);
            let family = header[13];
            let with_tlvs = binary(0x21, family, &[&header[FIXED_BYTES..], &tlvs].concat());
            for header in [line, header, with_tlvs] {
                let stream = [header.as_slice(), &rest].concat();
                prop_assert_eq!(in_any_cut(&stream), Ok(Cut::Header { source: Source::Client(from), taken: header.len() }));
            }
        }

        #[test]
        fn noise_behind_either_beginning_is_judged_the_same_in_any_cut(is_line: bool, noise: Vec<u8>) {
            let beginning = if is_line { LINE } else { SIGNATURE };
            let _ = in_any_cut(&[beginning, &noise].concat());
        }

        #[test]
        fn a_damaged_header_is_judged_the_same_in_any_cut(address: IpAddr, port: u16, at: prop::sample::Index, byte: u8) {
            for mut header in told(SocketAddr::new(address, port)) {
                let at = at.index(header.len());
                header[at] = byte;
                let _ = in_any_cut(&header);
            }
        }
    }
}
