//! Host names that stand for upstreams, looked up while the configuration is read.
//!
//! The sockets are blocking, because the calling thread serves no queries. If the operator names
//! resolvers, each is queried for A and then AAAA over UDP, and the first that returns an address
//! wins, whatever its response code; otherwise the system's resolver is used, which does not reveal
//! the TTL of its answers. The use of the addresses is decided in `config`, which opens no socket
//! itself and gets [`addresses`] as a part of its host.

use crate::clock::Clock;
use crate::config::{Name, Resolved};
use crate::sys::random;
use domain::base::iana::{Class, Rcode};
use domain::base::{Message, MessageBuilder, Rtype, Ttl};
use domain::rdata::{A, Aaaa};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::Duration;

/// Time-out of one query.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum length of a response without EDNS (RFC 1035 §4.2.1).
const RESPONSE_LEN_MAX: usize = 512;
/// A larger TTL counts as zero (RFC 2181 §8).
const TTL_SECONDS_MAX: u32 = 0x7FFF_FFFF;

/// Contents of one response.
struct Answer {
    addresses: Vec<IpAddr>,
    /// The shortest TTL of all records of the answer: an alias may change before the address does.
    ttl: Option<Duration>,
    rcode: Rcode,
}

/// Returns the addresses of `host` from `resolvers`, queried in order, or from the system if there
/// are none.
///
/// # Errors
/// Text for the operator: no address was found, and why.
pub fn addresses(host: &str, resolvers: &[SocketAddr]) -> Result<Resolved, String> {
    if resolvers.is_empty() { of_system(host) } else { of_resolvers(host, resolvers, TIMEOUT) }
}

fn of_system(host: &str) -> Result<Resolved, String> {
    let found = (host, 0).to_socket_addrs().map_err(|error| error.to_string())?;
    let addresses: Vec<_> = found.map(|address| address.ip()).collect();
    if addresses.is_empty() {
        Err("no address".into())
    } else {
        Ok(Resolved { addresses, ttl: None, incomplete: None })
    }
}

fn of_resolvers(
    host: &str,
    resolvers: &[SocketAddr],
    timeout: Duration,
) -> Result<Resolved, String> {
    let name = Name::parse(host).map_err(|error| error.to_string())?;
    let mut reasons = Vec::new();
    for resolver in resolvers {
        let (mut addresses, mut ttl, mut reason) = (Vec::new(), None, String::new());
        let mut incomplete = None;
        for rtype in [Rtype::A, Rtype::AAAA] {
            match ask(*resolver, &name, rtype, timeout) {
                Ok(answer) if answer.addresses.is_empty() => {
                    reason = format!("{} without address", answer.rcode);
                    if ![Rcode::NOERROR, Rcode::NXDOMAIN].contains(&answer.rcode) {
                        incomplete = Some(format!("{resolver}: {rtype}: {reason}"));
                    }
                }
                Ok(answer) => {
                    addresses.extend(answer.addresses);
                    ttl = [ttl, answer.ttl].into_iter().flatten().min();
                }
                Err(error) => {
                    reason = error.to_string();
                    incomplete = Some(format!("{resolver}: {rtype}: {reason}"));
                }
            }
        }
        if !addresses.is_empty() {
            return Ok(Resolved { addresses, ttl, incomplete });
        }
        reasons.push(format!("{resolver}: {reason}"));
    }
    Err(reasons.join("; "))
}

/// Queries one resolver and returns its answer.
fn ask(resolver: SocketAddr, name: &Name, rtype: Rtype, timeout: Duration) -> io::Result<Answer> {
    let clock = Clock::start();
    let query = query(name, rtype)?;
    let any: IpAddr = match resolver {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(resolver)?;
    socket.send(query.as_slice())?;
    let deadline = clock.now().plus(timeout);
    let mut buffer = [0; RESPONSE_LEN_MAX];
    loop {
        let left = deadline.since(clock.now());
        if left.is_zero() {
            let message = format!("no answer within {} s", timeout.as_secs_f32());
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        socket.set_read_timeout(Some(left))?;
        let len = match socket.recv(&mut buffer) {
            Ok(len) => len,
            Err(error) if is_passing(&error) => continue,
            Err(error) => return Err(error),
        };
        match Message::from_slice(&buffer[..len]) {
            Ok(response) if response.is_answer(&query) => return Ok(read(response, rtype)),
            // Not a response to this query, perhaps forged: the response may still come.
            _ => {}
        }
    }
}

/// Returns true for an interrupted call or a timed-out read; the caller checks the deadline.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

/// Builds a query with a random ID and RD set.
fn query(name: &Name, rtype: Rtype) -> io::Result<Message<Vec<u8>>> {
    let seed = random::seed()?;
    let name = domain::base::Name::from_octets(name.as_wire()).map_err(io::Error::other)?;
    let mut builder = MessageBuilder::new_vec().question();
    builder.header_mut().set_id(u16::from_be_bytes([seed[0], seed[1]]));
    builder.header_mut().set_rd(true);
    builder.push((name, rtype)).map_err(io::Error::other)?;
    Ok(builder.into_message())
}

/// Reads the addresses of a response. Records after one that does not parse are lost, as in a
/// truncated response; those before it count.
fn read(response: &Message<[u8]>, rtype: Rtype) -> Answer {
    let rcode = response.header().rcode();
    let mut answer = Answer { addresses: Vec::new(), ttl: None, rcode };
    let Ok(records) = response.answer() else { return answer };
    let records = records.map_while(Result::ok).filter(|record| record.class() == Class::IN);
    for record in records {
        let address: Option<IpAddr> = if rtype == Rtype::A {
            record.to_record::<A>().ok().flatten().map(|a| a.data().addr().into())
        } else {
            record.to_record::<Aaaa>().ok().flatten().map(|aaaa| aaaa.data().addr().into())
        };
        answer.addresses.extend(address);
        let ttl = Some(lifetime(record.ttl()));
        answer.ttl = [answer.ttl, ttl].into_iter().flatten().min();
    }
    answer
}

fn lifetime(ttl: Ttl) -> Duration {
    let seconds = ttl.as_secs();
    Duration::from_secs(if seconds > TTL_SECONDS_MAX { 0 } else { seconds.into() })
}

#[cfg(test)]
mod tests {
    use super::{TTL_SECONDS_MAX, addresses, lifetime, of_resolvers, query, read};
    use crate::config::{Name, Resolved};
    use domain::base::iana::Rcode;
    use domain::base::{Message, MessageBuilder, Rtype, Ttl};
    use domain::rdata::{A, Aaaa, Cname};
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
    use std::thread::JoinHandle;
    use std::time::Duration;

    const TIMEOUT: Duration = Duration::from_secs(20);

    /// Reaction of a scripted resolver to one query.
    #[derive(Clone, Copy)]
    enum Act {
        Addresses(u32),
        Alias(u32, u32),
        NameError,
        Silence,
    }

    /// Replies to successive queries as `acts` says; returns the rtypes that it was queried for.
    fn resolver(acts: &'static [Act]) -> (SocketAddr, JoinHandle<Vec<Rtype>>) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        let address = socket.local_addr().unwrap();
        let answering = std::thread::spawn(move || {
            let mut asked = Vec::new();
            let mut buffer = [0; 512];
            for act in acts {
                let (len, from) = socket.recv_from(&mut buffer).unwrap();
                let query = Message::from_octets(buffer[..len].to_vec()).unwrap();
                let rtype = query.sole_question().unwrap().qtype();
                assert!(query.header().rd());
                asked.push(rtype);
                // First a response with another ID, one with another question, and bytes that are
                // no message.
                let mut forged = answer(&query, Act::Addresses(9)).unwrap();
                forged[1] ^= 1;
                socket.send_to(&forged, from).unwrap();
                forged[1] ^= 1;
                forged[13] ^= 1;
                socket.send_to(&forged, from).unwrap();
                socket.send_to(b"no message", from).unwrap();
                if let Some(answer) = answer(&query, *act) {
                    socket.send_to(&answer, from).unwrap();
                }
            }
            asked
        });
        (address, answering)
    }

    fn answer(query: &Message<Vec<u8>>, act: Act) -> Option<Vec<u8>> {
        let rcode = match act {
            Act::Silence => return None,
            Act::NameError => Rcode::NXDOMAIN,
            _ => Rcode::NOERROR,
        };
        let mut builder = MessageBuilder::new_vec().start_answer(query, rcode).unwrap();
        let question = query.sole_question().unwrap();
        let name = question.qname();
        let (Act::Addresses(ttl) | Act::Alias(_, ttl)) = act else {
            return Some(builder.finish());
        };
        if let Act::Alias(ttl, _) = act {
            builder.push((name, Ttl::from_secs(ttl), Cname::new(name))).unwrap();
        }
        let ttl = Ttl::from_secs(ttl);
        for last in [7, 8] {
            if question.qtype() == Rtype::A {
                builder.push((name, ttl, A::new(Ipv4Addr::new(127, 0, 0, last)))).unwrap();
            } else {
                let ip = Ipv6Addr::from(u128::from(last));
                builder.push((name, ttl, Aaaa::new(ip))).unwrap();
            }
        }
        Some(builder.finish())
    }

    fn found(addresses: &[&str], ttl: u64) -> Resolved {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Resolved { addresses, ttl: Some(Duration::from_secs(ttl)), incomplete: None }
    }

    #[test]
    fn addresses_of_both_families_come_in_the_order_of_the_answers() {
        let (address, asked) = resolver(&[Act::Addresses(300), Act::Alias(40, 50)]);
        let expected = found(&["127.0.0.7", "127.0.0.8", "::7", "::8"], 40);
        assert_eq!(addresses("Up.test", &[address]), Ok(expected));
        assert_eq!(asked.join().unwrap(), [Rtype::A, Rtype::AAAA]);
    }

    #[test]
    fn one_family_is_enough_and_the_first_resolver_with_an_address_wins() {
        let (nothing, asked) = resolver(&[Act::NameError, Act::NameError]);
        let (half, _) = resolver(&[Act::NameError, Act::Addresses(3)]);
        let never = "127.0.0.1:1".parse().unwrap();
        assert_eq!(addresses("m", &[nothing, half, never]), Ok(found(&["::7", "::8"], 3)));
        assert_eq!(asked.join().unwrap().len(), 2);
    }

    #[test]
    fn a_family_without_a_response_is_reported() {
        let (half, _) = resolver(&[Act::Silence, Act::Addresses(3)]);
        let found = of_resolvers("m", &[half], Duration::from_millis(50)).unwrap();
        assert_eq!(found.addresses.len(), 2);
        let expected = format!("{half}: A: no answer within 0.05 s");
        assert_eq!(found.incomplete, Some(expected));
    }

    #[test]
    fn without_an_address_each_resolver_has_its_reason() {
        let (silent, _) = resolver(&[Act::Silence, Act::Silence]);
        let error = of_resolvers("m", &[silent], Duration::from_millis(50)).unwrap_err();
        assert_eq!(error, format!("{silent}: no answer within 0.05 s"));
        let (one, _) = resolver(&[Act::NameError, Act::NameError]);
        let (other, _) = resolver(&[Act::NameError, Act::NameError]);
        let expected =
            format!("{one}: NXDOMAIN without address; {other}: NXDOMAIN without address");
        assert_eq!(addresses("m", &[one, other]), Err(expected));
    }

    #[test]
    fn the_system_resolves_this_host_without_a_ttl() {
        let found = addresses("localhost", &[]).unwrap();
        assert!(found.addresses.iter().all(|address| address.is_loopback()), "{found:?}");
        assert_eq!(found.ttl, None);
    }

    #[test]
    fn records_before_a_cut_count() {
        let query = query(&Name::parse("m").unwrap(), Rtype::A).unwrap();
        let whole = answer(&query, Act::Addresses(60)).unwrap();
        for (len, count) in [(whole.len(), 2), (whole.len() - 1, 1), (whole.len() - 18, 0)] {
            let response = Message::from_slice(&whole[..len]).unwrap();
            assert_eq!(read(response, Rtype::A).addresses.len(), count);
        }
        let other = Message::from_slice(&whole).unwrap();
        assert_eq!(read(other, Rtype::AAAA).addresses.len(), 0);
    }

    #[test]
    fn a_ttl_with_its_highest_bit_set_is_zero() {
        let seconds = |seconds| lifetime(Ttl::from_secs(seconds)).as_secs();
        assert_eq!(seconds(TTL_SECONDS_MAX), u64::from(TTL_SECONDS_MAX));
        assert_eq!(seconds(TTL_SECONDS_MAX + 1), 0);
    }
}
