//! Server cookies of clients (RFC 7873, RFC 9018).
//!
//! A server cookie is a time and a hash of the client's cookie, its address and that time under a
//! secret, so a client that returns a valid one receives packets at its address, and nothing is
//! stored for it. Servers behind one address share secrets from a file, of which the first makes
//! cookies and all are accepted, so that they can be replaced one after the other.
//! Without a file, the secret of each period follows from the secret of the process, which its
//! workers share and which a reload and an upgrade keep; that of the period before is accepted.

use super::message::cookie::{CLIENT_LEN, Cookie, CookieState, SERVER_LEN};
use crate::config::{COOKIE_SECRET_LEN, COOKIE_SECRETS_MAX, Config};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::cell::Cell;
use std::net::IpAddr;

/// Version of server cookies (RFC 9018 §4.1).
const VERSION: u8 = 1;
/// Maximum age of a server cookie in seconds (RFC 9018 §4.3).
const AGE_MAX: i32 = 3_600;
/// Maximum time in seconds by which the clock of another server may be ahead (RFC 9018 §4.3).
const AHEAD_MAX: i32 = 300;
/// Age in seconds from which a valid server cookie is replaced (RFC 9018 §4.3).
const RENEWED_AT: i32 = 1_800;
/// Binary logarithm of the seconds for which a secret of the process makes cookies: 18 h.
const PERIOD_BITS: u32 = 16;
/// First of the streams of random numbers from which secrets are taken. All other numbers come from
/// the stream 0, so that they do not depend on the secrets.
const STREAMS: u64 = 1 << 32;
/// Number of results of the check of a cookie.
pub(crate) const RESULTS: usize = 3;

/// A secret.
type Secret = [u8; COOKIE_SECRET_LEN];

/// Settings of cookies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Replies have server cookies.
    is_on: bool,
    /// Secrets of the configuration.
    secrets: Option<Secrets>,
}

impl Settings {
    /// Returns the settings of the process.
    pub(crate) fn new(config: &Config) -> Self {
        let Some(settings) = config.cookies() else { return Self { is_on: true, secrets: None } };
        let secrets = settings.secrets().collect::<Vec<_>>();
        Self { is_on: settings.is_on, secrets: Secrets::new(&secrets) }
    }
}

/// Server cookies of a worker.
pub(crate) struct Cookies {
    /// Secret of the process.
    root: [u8; 32],
    settings: Settings,
    secrets: Secrets,
    /// Period of the secrets, unless they are those of the configuration.
    period: u32,
    /// Queries with a cookie: without a server cookie, with a valid and with an invalid one.
    counts: [Cell<u64>; RESULTS],
}

impl Cookies {
    /// Creates cookies of a process with the secret `root`.
    pub(crate) fn new(root: [u8; 32], settings: Settings) -> Self {
        let secrets = settings.secrets.unwrap_or_else(|| Secrets::of_period(&root, 0));
        Self { root, settings, secrets, period: 0, counts: Default::default() }
    }

    /// Continues with other settings.
    pub(crate) fn reload(&mut self, root: [u8; 32], settings: Settings) {
        (self.root, self.settings) = (root, settings);
        self.renew(self.period);
    }

    /// Returns the secret of the process.
    pub(crate) fn root(&self) -> [u8; 32] {
        self.root
    }

    /// Changes the secrets if a period has ended. `unix`: seconds since 1970, modulo 2^32.
    #[inline]
    pub(crate) fn on_calendar(&mut self, unix: u32) {
        if unix >> PERIOD_BITS != self.period {
            self.renew(unix >> PERIOD_BITS);
        }
    }

    #[cold]
    fn renew(&mut self, period: u32) {
        self.period = period;
        let secrets = self.settings.secrets;
        self.secrets = secrets.unwrap_or_else(|| Secrets::of_period(&self.root, period));
    }

    /// Checks the cookie of a query, counts it, and makes it that of the reply. `None`: the reply
    /// has none.
    pub(crate) fn answer(&self, mut cookie: Cookie, client: IpAddr, unix: u32) -> Option<Cookie> {
        if !self.settings.is_on {
            return None;
        }
        self.secrets.answer(&mut cookie, client, unix);
        let result = match cookie.state {
            CookieState::Client => 0,
            CookieState::Good => 1,
            CookieState::Presented | CookieState::Bad => 2,
        };
        self.counts[result].set(self.counts[result].get() + 1);
        Some(cookie)
    }

    /// Returns the number of queries by the result of the check.
    pub(crate) fn counts(&self) -> [u64; RESULTS] {
        self.counts.each_ref().map(Cell::get)
    }
}

/// Secrets of server cookies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Secrets {
    /// The first makes cookies, and `count` are accepted.
    all: [Secret; COOKIE_SECRETS_MAX],
    count: usize,
}

impl Secrets {
    /// `None`: there is no secret.
    fn new(secrets: &[Secret]) -> Option<Self> {
        let count = secrets.len().min(COOKIE_SECRETS_MAX);
        let mut all = [[0; COOKIE_SECRET_LEN]; COOKIE_SECRETS_MAX];
        all[..count].copy_from_slice(&secrets[..count]);
        (count > 0).then_some(Self { all, count })
    }

    /// Returns the secrets of a period and of the one before, from the secret of the process.
    fn of_period(root: &[u8; 32], period: u32) -> Self {
        let mut all = [[0; COOKIE_SECRET_LEN]; COOKIE_SECRETS_MAX];
        let periods = [period, period.wrapping_sub(1)];
        for (secret, period) in all.iter_mut().zip(periods) {
            let mut random = ChaCha12Rng::from_seed(*root);
            random.set_stream(STREAMS | u64::from(period));
            random.fill_bytes(secret);
        }
        Self { all, count: periods.len() }
    }

    /// Replaces the server cookie in `cookie`, if there is one, by that of the reply to `client`,
    /// and notes whether it was valid. `unix`: seconds since 1970, modulo 2^32.
    fn answer(&self, cookie: &mut Cookie, client: IpAddr, unix: u32) {
        let client = client.to_canonical();
        let is_presented = cookie.state == CookieState::Presented;
        let age = unix.wrapping_sub(cookie.time()) as i32;
        let is_timely = cookie.server()[0] == VERSION && (-AHEAD_MAX..=AGE_MAX).contains(&age);
        let made_by = match is_presented && is_timely {
            true => self.all[..self.count].iter().position(|secret| made(secret, cookie, client)),
            false => None,
        };
        if is_presented {
            cookie.state = if made_by.is_some() { CookieState::Good } else { CookieState::Bad };
        }
        if made_by != Some(0) || age > RENEWED_AT {
            let mut head = [VERSION, 0, 0, 0, 0, 0, 0, 0];
            head[4..].copy_from_slice(&unix.to_be_bytes());
            let renewed = server_cookie(&self.all[0], cookie.client(), &head, client);
            cookie.set_server(&renewed);
        }
    }
}

/// Returns true if `secret` made the server cookie in `cookie`.
fn made(secret: &Secret, cookie: &Cookie, client: IpAddr) -> bool {
    let expected = server_cookie(secret, cookie.client(), &cookie.server()[..8], client);
    // No byte of the hash can be found by the time that the comparison takes.
    expected.iter().zip(cookie.server()).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

/// Returns the server cookie that begins with `head`: version, reserved octets and time.
fn server_cookie(
    secret: &Secret,
    cookie: &[u8; CLIENT_LEN],
    head: &[u8],
    client: IpAddr,
) -> [u8; SERVER_LEN] {
    let mut hashed = [0; CLIENT_LEN + 8 + 16];
    hashed[..CLIENT_LEN].copy_from_slice(cookie);
    hashed[CLIENT_LEN..CLIENT_LEN + 8].copy_from_slice(head);
    let address = &mut hashed[CLIENT_LEN + 8..];
    let len = match client {
        IpAddr::V4(ip) => {
            address[..4].copy_from_slice(&ip.octets());
            CLIENT_LEN + 8 + 4
        }
        IpAddr::V6(ip) => {
            address.copy_from_slice(&ip.octets());
            hashed.len()
        }
    };
    let mut made = [0; SERVER_LEN];
    made[..8].copy_from_slice(head);
    made[8..].copy_from_slice(&siphash(secret, &hashed[..len]).to_le_bytes());
    made
}

/// Returns SipHash-2-4 of `data`. The standard library has it only under a deprecated name.
fn siphash(key: &Secret, data: &[u8]) -> u64 {
    let low = word(&key[..8]);
    let high = word(&key[8..]);
    let mut state = [
        low ^ 0x736f_6d65_7073_6575,
        high ^ 0x646f_7261_6e64_6f6d,
        low ^ 0x6c79_6765_6e65_7261,
        high ^ 0x7465_6462_7974_6573,
    ];
    let (words, rest) = data.split_at(data.len() & !7);
    let last = word(rest) | (data.len() as u64) << 56;
    for block in words.chunks(8).map(word).chain([last]) {
        state[3] ^= block;
        (0..2).for_each(|_| sip_round(&mut state));
        state[0] ^= block;
    }
    state[2] ^= 0xff;
    (0..4).for_each(|_| sip_round(&mut state));
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

/// Returns the number in at most 8 octets, the least significant first.
fn word(octets: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..octets.len()].copy_from_slice(octets);
    u64::from_le_bytes(word)
}

fn sip_round(state: &mut [u64; 4]) {
    state[0] = state[0].wrapping_add(state[1]);
    state[1] = state[1].rotate_left(13) ^ state[0];
    state[0] = state[0].rotate_left(32);
    state[2] = state[2].wrapping_add(state[3]);
    state[3] = state[3].rotate_left(16) ^ state[2];
    state[0] = state[0].wrapping_add(state[3]);
    state[3] = state[3].rotate_left(21) ^ state[0];
    state[2] = state[2].wrapping_add(state[1]);
    state[1] = state[1].rotate_left(17) ^ state[2];
    state[2] = state[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::{Cookie, CookieState, Cookies, Secrets, Settings, siphash};
    use std::net::IpAddr;

    const SECRET: u128 = 0xe5e9_73e5_a6b2_a43f_48e7_dc84_9e37_bfcf;

    fn secrets(current: u128, previous: Option<u128>) -> Secrets {
        let all: Vec<_> = [current].into_iter().chain(previous).map(u128::to_be_bytes).collect();
        Secrets::new(&all).unwrap()
    }

    fn octets(hex: &str) -> Vec<u8> {
        let octet = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(octet).collect()
    }

    /// The answer to a cookie in hexadecimal, and the verdict on it.
    fn answer(secrets: &Secrets, cookie: &str, client: &str, unix: u32) -> (String, CookieState) {
        let mut cookie = Cookie::read(&octets(cookie)).unwrap();
        let client: IpAddr = client.parse().unwrap();
        secrets.answer(&mut cookie, client, unix);
        let hex = cookie.as_bytes().iter().map(|octet| format!("{octet:02x}"));
        (hex.collect(), cookie.state)
    }

    #[test]
    fn the_vectors_of_rfc_9018_appendix_a() {
        let secret = secrets(SECRET, None);
        let first = "2464c4abcf10c957010000005cf79f111f8130c3eee29480";
        let renewed = "2464c4abcf10c957010000005cf7a871d4a564a1442aca77";
        let client = "198.51.100.100";
        let got = answer(&secret, "2464c4abcf10c957", client, 1_559_731_985);
        assert_eq!(got, (first.into(), CookieState::Client), "A.1");
        let got = answer(&secret, first, client, 1_559_734_385);
        assert_eq!(got, (renewed.into(), CookieState::Good), "A.2");
        // With reserved octets that are not zero.
        let reserved = "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5";
        let got = answer(&secret, reserved, "203.0.113.203", 1_559_727_986);
        assert_eq!(got, (reserved.into(), CookieState::Good), "A.3");
        let (got, _) = answer(&secret, reserved, "203.0.113.203", 1_559_734_700);
        assert_eq!(got, "fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e", "A.3");
        let former = 0xdd3b_df93_44b6_78b1_85a6_f5cb_60fc_a715;
        let rolled = secrets(0x4455_36bc_d251_3298_075a_5d37_9663_c962, Some(former));
        let asked = "22681ab97d52c298010000005cf7c57926556bd0934c72f8";
        let got = answer(&rolled, asked, "2001:db8:220:1:59de:d0f4:8769:82b8", 1_559_741_961);
        let expected = "22681ab97d52c298010000005cf7c609a6bb79d16625507a";
        assert_eq!(got, (expected.into(), CookieState::Good), "A.4");
    }

    #[test]
    fn a_cookie_is_valid_for_an_hour_and_five_minutes_ahead_and_renewed_after_half_an_hour() {
        let secret = secrets(SECRET, None);
        for made in [1_559_731_985_u32, 100, u32::MAX - 100] {
            let (cookie, _) = answer(&secret, "2464c4abcf10c957", "192.0.2.1", made);
            for (age, state, is_same) in [
                (-301_i32, CookieState::Bad, false),
                (-300, CookieState::Good, true),
                (0, CookieState::Good, true),
                (1_800, CookieState::Good, true),
                (1_801, CookieState::Good, false),
                (3_600, CookieState::Good, false),
                (3_601, CookieState::Bad, false),
            ] {
                let unix = made.wrapping_add_signed(age);
                let (again, found) = answer(&secret, &cookie, "192.0.2.1", unix);
                assert_eq!((found, again == cookie), (state, is_same), "{made} {age}");
            }
        }
    }

    #[test]
    fn a_cookie_of_another_client_secret_or_version_is_not_valid() {
        let secret = secrets(SECRET, None);
        let (cookie, _) = answer(&secret, "2464c4abcf10c957", "192.0.2.1", 1_000);
        let mapped = answer(&secret, &cookie, "::ffff:192.0.2.1", 1_000);
        assert_eq!(mapped, (cookie.clone(), CookieState::Good));
        for octet in 0..24 {
            let mut other = octets(&cookie);
            other[octet] ^= 1;
            let other: String = other.iter().map(|octet| format!("{octet:02x}")).collect();
            assert_eq!(answer(&secret, &other, "192.0.2.1", 1_000).1, CookieState::Bad, "{octet}");
        }
        assert_eq!(answer(&secret, &cookie, "192.0.2.2", 1_000).1, CookieState::Bad);
        let other = secrets(SECRET + 1, None);
        assert_eq!(answer(&other, &cookie, "192.0.2.1", 1_000).1, CookieState::Bad);
        // The former secret accepts it, and the reply has one of the current secret.
        let rolled = secrets(SECRET + 1, Some(SECRET));
        let (again, state) = answer(&rolled, &cookie, "192.0.2.1", 1_000);
        assert_eq!((state, again == cookie), (CookieState::Good, false));
        assert_eq!(answer(&other, &again, "192.0.2.1", 1_000).1, CookieState::Good);
    }

    #[test]
    fn a_secret_of_the_process_lasts_for_a_period_and_its_cookies_for_an_hour() {
        let settings = Settings { is_on: true, secrets: None };
        let mut cookies = Cookies::new([7; 32], settings);
        let client: IpAddr = "192.0.2.1".parse().unwrap();
        let asked = Cookie::read(b"12345678").unwrap();
        let presented = |cookie: &Cookie| Cookie::read(cookie.as_bytes()).unwrap();
        let end = 20_000_u32 << 16;
        for unix in [end - 3_000, end - 1, end, end + 1] {
            cookies.on_calendar(unix);
            let first = cookies.answer(asked, client, unix).unwrap();
            let other = Cookies::new([7; 32], settings);
            let of_another_period = other.answer(presented(&first), client, unix).unwrap();
            assert_eq!(of_another_period.state, CookieState::Bad);
            cookies.on_calendar(unix + 3_000);
            let again = cookies.answer(presented(&first), client, unix + 3_000).unwrap();
            assert_eq!(again.state, CookieState::Good, "{unix}");
            // A new process after an upgrade has the same secret, another one has not.
            for (root, state) in [([7; 32], CookieState::Good), ([8; 32], CookieState::Bad)] {
                let mut next = Cookies::new(root, settings);
                next.on_calendar(unix + 3_000);
                let again = next.answer(presented(&first), client, unix + 3_000).unwrap();
                assert_eq!(again.state, state, "{unix}");
            }
        }
        assert_eq!(cookies.counts(), [4, 4, 0]);
        let made = cookies.answer(asked, client, end).unwrap();
        cookies.reload([7; 32], settings);
        let again = cookies.answer(presented(&made), client, end).unwrap();
        assert_eq!(again.state, CookieState::Good, "after a reload");
        cookies.on_calendar(end + (2 << 16));
        let again = cookies.answer(presented(&made), client, end).unwrap();
        assert_eq!(again.state, CookieState::Bad, "two periods later");
        cookies.reload([7; 32], Settings { is_on: false, secrets: None });
        assert_eq!(cookies.answer(asked, client, end), None);
    }

    #[test]
    #[expect(deprecated, reason = "the only SipHash-2-4 of the standard library")]
    fn the_hash_is_that_of_the_standard_library() {
        use std::hash::{Hasher, SipHasher};
        let key = SECRET.to_be_bytes();
        let half = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
        let data: Vec<u8> = (0..100).collect();
        for len in 0..data.len() {
            let mut hasher = SipHasher::new_with_keys(half(&key[..8]), half(&key[8..]));
            hasher.write(&data[..len]);
            assert_eq!(siphash(&key, &data[..len]), hasher.finish(), "{len} octets");
        }
    }
}
