//! The COOKIE option of a client (RFC 7873 §4).
//!
//! Holds the client cookie with the server cookie of the query, which is replaced by that of the
//! reply before the reply is written. Server cookies of another length than ours cannot be ours, so
//! their octets are not kept.

/// Length of a client cookie.
pub(crate) const CLIENT_LEN: usize = 8;
/// Length of a server cookie of ours (RFC 9018 §4).
pub(crate) const SERVER_LEN: usize = 16;
/// Length of both.
pub(crate) const COOKIE_LEN: usize = CLIENT_LEN + SERVER_LEN;
/// Minimum and maximum length of a server cookie of any server (RFC 7873 §4).
const FOREIGN_LENS: std::ops::RangeInclusive<usize> = 8..=32;

/// A client cookie and a server cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    bytes: [u8; COOKIE_LEN],
    pub(crate) state: CookieState,
}

/// Validity of the server cookie in a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CookieState {
    /// There was none.
    Client,
    /// There was one, which has not been checked yet.
    Presented,
    /// The server cookie was valid: the client receives packets at its address.
    Good,
    /// The server cookie was not valid.
    Bad,
}

impl Cookie {
    /// Reads the data of an option. `None`: its length is not valid (RFC 7873 §5.2.2).
    pub(crate) fn read(data: &[u8]) -> Option<Self> {
        let (client, server) = data.split_at_checked(CLIENT_LEN)?;
        let mut bytes = [0; COOKIE_LEN];
        bytes[..CLIENT_LEN].copy_from_slice(client);
        let state = match server.len() {
            0 => CookieState::Client,
            SERVER_LEN => {
                bytes[CLIENT_LEN..].copy_from_slice(server);
                CookieState::Presented
            }
            len if FOREIGN_LENS.contains(&len) => CookieState::Presented,
            _ => return None,
        };
        Some(Self { bytes, state })
    }

    /// Returns the client cookie.
    pub(crate) fn client(&self) -> &[u8; CLIENT_LEN] {
        self.bytes.first_chunk().expect("the array is longer")
    }

    /// Returns the server cookie; zeros if there is none, or one of another length than ours.
    pub(crate) fn server(&self) -> &[u8] {
        &self.bytes[CLIENT_LEN..]
    }

    /// Returns the time in the server cookie, in seconds since 1970 and modulo 2^32.
    pub(crate) fn time(&self) -> u32 {
        super::u32_at(&self.bytes, CLIENT_LEN + 4).unwrap_or(0)
    }

    /// Replaces the server cookie.
    pub(crate) fn set_server(&mut self, server: &[u8; SERVER_LEN]) {
        self.bytes[CLIENT_LEN..].copy_from_slice(server);
    }

    /// Returns the data of the option.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::{Cookie, CookieState};

    #[test]
    fn a_cookie_has_8_or_16_to_40_octets() {
        let data: Vec<u8> = (1..=50).collect();
        for len in 0..=data.len() {
            let cookie = Cookie::read(&data[..len]);
            let is_valid = len == 8 || (16..=40).contains(&len);
            assert_eq!(cookie.is_some(), is_valid, "{len} octets");
            let Some(cookie) = cookie else { continue };
            assert_eq!(cookie.client(), &[1, 2, 3, 4, 5, 6, 7, 8]);
            let state = if len == 8 { CookieState::Client } else { CookieState::Presented };
            assert_eq!(cookie.state, state);
            assert_eq!(cookie.server()[0], if len == 24 { 9 } else { 0 });
        }
    }
}
