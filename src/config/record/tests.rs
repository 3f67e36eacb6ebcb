//! Records as the `domain` crate reads them, which reads the wire format that is written here.
//!
//! And that no text makes the reader panic, allocate or write more than it may.

use super::{RECORD_MAX, Record, read};
use domain::base::Message;
use domain::rdata::AllRecordData;
use proptest::prelude::{ProptestConfig, any, prop_assert, proptest};

/// `OWNER TTL CLASS TYPE DATA` as another reader has it, or the error.
fn shown(text: &str) -> String {
    let mut out = Vec::new();
    let Record { owner_len, rtype, class, ttl, more } = match read(text.as_bytes(), &mut out) {
        Ok(record) => record,
        Err(error) => return error.to_string(),
    };
    let (owner, data) = out.split_at(owner_len);
    let mut message = vec![0, 0, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    message.extend_from_slice(owner);
    message.extend([rtype, class].map(u16::to_be_bytes).as_flattened());
    message.extend(ttl.to_be_bytes());
    message.extend((data.len() as u16).to_be_bytes());
    message.extend_from_slice(data);
    let message = Message::from_octets(&message).unwrap();
    let record = message.answer().unwrap().next().unwrap().unwrap();
    let record = record.to_any_record::<AllRecordData<_, _>>().unwrap();
    let (owner, ttl, class) = (record.owner(), record.ttl().as_secs(), record.class());
    let more = if more { " ..." } else { "" };
    format!("{owner} {ttl} {class} {} {}{more}", record.rtype(), record.data())
}

#[test]
fn records_mean_what_another_reader_says() {
    for (text, meaning) in [
        ("a.test. 60 IN A 192.0.2.1", "a.test 60 IN A 192.0.2.1"),
        ("a.test IN 60 AAAA 2001:DB8::1", "a.test 60 IN AAAA 2001:db8::1"),
        ("rel A 192.0.2.1", "rel 3600 IN A 192.0.2.1"),
        ("  r 1h30m ch txt x", "r 5400 CH TXT \"x\""),
        ("a. NS .", "a 3600 IN NS ."),
        ("a. 2147483648 IN A 192.0.2.1", "a 0 IN A 192.0.2.1"),
        ("a. NS b.", "a 3600 IN NS b."),
        ("a. CNAME b\\.c.d", "a 3600 IN CNAME b\\.c.d."),
        ("a. 5 MX 10 m.", "a 5 IN MX 10 m."),
        ("a. 5 SRV 1 2 80 m.", "a 5 IN SRV 1 2 80 m"),
        ("a. 5 SOA n. h. (1 1m ; one\n 2 3\n 4) ; end", "a 5 IN SOA n. h. 1 60 2 3 4"),
        ("a. 5 TXT \"x y\" z \"\"", "a 5 IN TXT \"x y\" \"z\" \"\""),
        ("a. 5 TXT \"q\\\"r\\065;\" (b)", "a 5 IN TXT \"q\\\"rA;\" \"b\""),
        ("a. 5 HINFO \"c p\" os", "a 5 IN HINFO \"c p\" \"os\""),
        ("a. 5 CAA 0 issue \"ca.test\"", "a 5 IN CAA 0 issue \"ca.test\""),
        ("a. 5 HTTPS 1 .", "a 5 IN HTTPS 1 . "),
        ("a. 5 TYPE1 \\# 4 c0000201", "a 5 IN A 192.0.2.1"),
        ("a. 5 TYPE65280 \\# 2 ab cd", "a 5 IN TYPE65280 \\# 2 ab cd"),
        ("a. 5 TYPE65280 \\# 0", "a 5 IN TYPE65280 \\# 0"),
        ("a. 5 TLSA 3 1 1 00 ff", "a 5 IN TLSA 3 1 1 ( 00FF )"),
        ("a. 5 OPENPGPKEY Zm9v YmE=", "a 5 IN OPENPGPKEY ( Zm9vYmE= )"),
        ("a. A 192.0.2.1\n; end\n", "a 3600 IN A 192.0.2.1"),
        ("a. A 192.0.2.1\nb. A 192.0.2.2", "a 3600 IN A 192.0.2.1 ..."),
    ] {
        assert_eq!(shown(text), meaning, "{text}");
    }
}

#[test]
fn what_is_no_record_is_refused_where_it_is_wrong() {
    let long = format!("{}.", "x".repeat(64));
    let longer = "a.".repeat(128);
    for (text, error) in [
        ("", "column 1: the record is empty"),
        ("; x", "column 4: the record is empty"),
        ("a.", "column 3: the record ends before its type"),
        ("a. 60 IN", "column 9: the record ends before its type"),
        ("a. 60 IN A", "column 11: the record ends before its data"),
        ("a. 60 IN A 10.0.0.999", "column 12: expected an IPv4 address"),
        ("a. 60 IN A <no value>", "column 12: expected an IPv4 address"),
        ("a. 60 IN A 192.0.2.1 x", "column 22: unexpected word after the end"),
        ("a. 60 60 A 192.0.2.1", "column 7: expected a TTL, class or record type"),
        ("a. 6x A 192.0.2.1", "column 4: expected a time such as 300 or 1h30m"),
        ("a. MX 70000 m.", "column 7: expected a number in range"),
        ("a. MX 10", "column 9: the record ends within its data"),
        ("a. NS b..c", "column 7: the name has an empty label"),
        ("a. NS \\300.", "column 7: an escape must not be above \\255"),
        ("a. NS b\\", "column 7: the text ends in an escape"),
        ("a. TXT \"b", "column 8: a quote is not closed"),
        ("a. SOA n. h. (1 2 3 4 5", "column 24: ')' is missing"),
        ("a. NULL x", "column 9: data of this type must be written as \\# LENGTH HEX"),
        ("a. TYPE9999 \\# 2 ab", "column 16: the number of bytes is not LENGTH"),
        ("a. HTTPS 1 . alpn=h2 alpn=h3", "column 22: the service parameter is given twice"),
        (&format!("{long} A 192.0.2.1"), "column 1: the name has a label of more than 63 bytes"),
        (&format!("{longer} A 192.0.2.1"), "column 1: the name has more than 255 bytes"),
    ] {
        assert_eq!(shown(text), error, "{text}");
    }
}

#[test]
fn service_parameters_ascend_by_key() {
    let mut out = Vec::new();
    let text = b"a. HTTPS 1 . key700=x ipv4hint=192.0.2.1,192.0.2.2 alpn=\"h2,h\\\\,3\" \
                 mandatory=port,alpn port=443 ech=AAE= ipv6hint=::1 no-default-alpn";
    let record = read(text, &mut out).unwrap();
    let data = &out[record.owner_len + 3..];
    let expected = [
        &b"\0\0\0\x04\0\x01\0\x03"[..],
        b"\0\x01\0\x07\x02h2\x03h,3",
        b"\0\x02\0\0\0\x03\0\x02\x01\xbb\0\x04\0\x08\xc0\0\x02\x01\xc0\0\x02\x02",
        b"\0\x05\0\x02\0\x01\0\x06\0\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x02\xbc\0\x01x",
    ];
    assert_eq!(data, expected.concat(), "{data:02x?}");
}

#[test]
fn a_record_longer_than_the_bound_is_refused() {
    let string = format!("\"{}\" ", "x".repeat(250));
    assert!(shown(&format!("a. TXT {}", string.repeat(32))).starts_with("a 3600 IN TXT"));
    assert!(shown(&format!("a. TXT {}", string.repeat(33))).contains("too long"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn no_text_does_harm(
        text in "[a-c0-9.\\\\\"();=,# \n:INAMXTSRVHPCE-]{0,60}",
        bytes in any::<Vec<u8>>(),
        rtype in "(A|AAAA|NS|MX|TXT|SRV|SOA|HTTPS|CAA|NAPTR|TLSA|DNSKEY|TYPE9)",
    ) {
        let mut out = Vec::with_capacity(RECORD_MAX);
        let whole = format!("a. {rtype} {text}").into_bytes();
        for text in [text.as_bytes(), &bytes, &whole] {
            if let Ok(record) = read(text, &mut out) {
                prop_assert!(record.owner_len <= out.len());
            }
            prop_assert!(out.len() <= RECORD_MAX && out.capacity() == RECORD_MAX);
        }
    }
}
