//! Meaning of zone files and their errors, case by case.
//!
//! The `domain` crate is the oracle for the syntax that it supports, and no text causes a panic.

use super::{Consumer, Record, read};
use crate::config::{Name, RecordType};
use domain::base::Message;
use domain::rdata::AllRecordData;
use domain::zonefile::inplace::{Entry, Zonefile};
use proptest::prelude::{ProptestConfig, any, prop_assert, proptest};
use std::collections::HashMap;
use std::path::Path;

/// Records as text, and files that can be included.
#[derive(Default)]
struct Texts {
    records: Vec<String>,
    files: HashMap<String, Vec<u8>>,
}

impl Consumer for Texts {
    fn record(&mut self, record: &Record<'_>) -> Result<(), String> {
        self.records.push(text_of(record));
        Ok(())
    }

    fn include(&mut self, file: &Path) -> Result<Vec<u8>, String> {
        self.files.get(&*file.to_string_lossy()).cloned().ok_or("no such file".into())
    }
}

/// Formats a record with another reader of the wire format.
fn text_of(record: &Record<'_>) -> String {
    let Record { owner, rtype, ttl, data, .. } = *record;
    let mut message = vec![0, 0, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    message.extend_from_slice(owner);
    message.extend([rtype, 1].map(u16::to_be_bytes).as_flattened());
    message.extend(ttl.to_be_bytes());
    message.extend((data.len() as u16).to_be_bytes());
    message.extend_from_slice(data);
    let message = Message::from_octets(&message).unwrap();
    let record = message.answer().unwrap().next().unwrap().unwrap();
    let record = record.to_any_record::<AllRecordData<_, _>>().unwrap();
    let (owner, ttl) = (record.owner(), record.ttl().as_secs());
    format!("{owner} {ttl} {} {}", RecordType(rtype), record.data())
}

fn records_with(text: &[u8], files: &[(&str, &str)]) -> Result<Vec<String>, String> {
    let files = files.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec()));
    let mut texts = Texts { records: Vec::new(), files: files.collect() };
    let origin = Name::parse("z.test").unwrap();
    let outcome = read(Path::new("d/db"), text, origin.as_wire(), &mut texts);
    outcome.map(|_| texts.records).map_err(|error| error.to_string())
}

fn records(text: &str) -> Result<Vec<String>, String> {
    records_with(text.as_bytes(), &[])
}

#[track_caller]
fn means(text: &str, expected: &[&str]) {
    assert_eq!(
        records(text),
        Ok(expected.iter().map(|text| (*text).to_owned()).collect()),
        "{text}"
    );
}

#[test]
fn records_and_directives_follow_rfc_1035() {
    for (text, expected) in [
        ("a 60 A 192.0.2.1", &["a.z.test 60 A 192.0.2.1"][..]),
        ("@ 60 IN A 192.0.2.1\n", &["z.test 60 A 192.0.2.1"]),
        ("a IN 60 A 192.0.2.1\n", &["a.z.test 60 A 192.0.2.1"]),
        ("a CLASS1 1h30m TYPE1 192.0.2.1", &["a.z.test 5400 A 192.0.2.1"]),
        ("a m A 192.0.2.1", &["a.z.test 0 A 192.0.2.1"]),
        ("a. 1W A 192.0.2.1", &["a 604800 A 192.0.2.1"]),
        (
            "a 60 A 192.0.2.1\n   AAAA ::1 ; more\n\tTXT x\r\n",
            &["a.z.test 60 A 192.0.2.1", "a.z.test 60 AAAA ::1", "a.z.test 60 TXT \"x\""],
        ),
        (
            "$TTL 5\na 60 A 192.0.2.1\nb A 192.0.2.2\n",
            &["a.z.test 60 A 192.0.2.1", "b.z.test 5 A 192.0.2.2"],
        ),
        (
            "a 60 A 192.0.2.1\nb 7 A 192.0.2.2\nc A 192.0.2.3",
            &["a.z.test 60 A 192.0.2.1", "b.z.test 7 A 192.0.2.2", "c.z.test 7 A 192.0.2.3"],
        ),
        (
            "$ttl 5\n$Origin x\na NS @\n$ORIGIN @\nb NS c\n$ORIGIN y.\nc NS a.b",
            &["a.x.z.test 5 NS x.z.test.", "b.x.z.test 5 NS c.x.z.test.", "c.y 5 NS a.b.y."],
        ),
        (
            "@ 5 SOA ( ns h ; mail\n 1\n 2h ) 3 (4\n5)",
            &["z.test 5 SOA ns.z.test. h.z.test. 1 7200 3 4 5"],
        ),
        ("a 5 TXT \"x\ny\" z", &["a.z.test 5 TXT \"x\\010y\" \"z\""]),
        ("a\\.b 5 MX 10 c\\046d", &["a\\.b.z.test 5 MX 10 c\\.d.z.test."]),
        ("\u{feff}a 5 A 192.0.2.1", &["a.z.test 5 A 192.0.2.1"]),
        ("a 5 TYPE65300 \\# 3 ab cdef", &["a.z.test 5 TYPE65300 \\# 3 ab cd ef"]),
        ("a 5 A \\# 4 c0000201", &["a.z.test 5 A 192.0.2.1"]),
        (
            "$GENERATE 8-10/2 h${-8,3,d} MX ${0,2,d} m$\n",
            &["h000.z.test 3600 MX 8 m8.z.test.", "h002.z.test 3600 MX 10 m10.z.test."],
        ),
        (
            "$TTL 9\n$GENERATE 26-27 ${0,3,n} PTR \\$${1,0,N}.x.\n",
            &["a.1.z.test 9 PTR $B.1.x.", "b.1.z.test 9 PTR $C.1.x."],
        ),
        ("", &[]),
        ("; nothing\n\n   \n", &[]),
    ] {
        means(text, expected);
    }
}

#[test]
fn bytes_that_are_not_utf8_are_kept() {
    let texts = records_with(b"\xffa 5 A 192.0.2.1", &[]).unwrap();
    assert_eq!(texts, ["\\255a.z.test 5 A 192.0.2.1"]);
}

#[test]
fn mistakes_are_refused_with_their_place() {
    let long = format!("{} 5 A 192.0.2.1", "x".repeat(64));
    let longer = format!("{}x 5 A 192.0.2.1", "a.".repeat(126));
    for (text, error) in [
        ("a A 192.0.2.1", "d/db:1:3: missing TTL with no previous value near \"A\""),
        (
            "\n\n 5 A 192.0.2.1",
            "d/db:3:2: the first record of a file must name its owner near \"5\"",
        ),
        ("a 5 A", "d/db:1:6: the record ends before its data"),
        ("a 5 A\nb 5 A 192.0.2.1", "d/db:1:6: the record ends before its data"),
        ("a 5", "d/db:1:4: the record ends before its type"),
        ("a 5 CH A 192.0.2.1", "d/db:1:5: only records of class IN are supported near \"CH\""),
        ("a 5 FOO x", "d/db:1:5: expected a TTL, class or record type near \"FOO\""),
        ("a 5 A 192.0.2.1 x", "d/db:1:17: unexpected word after the end near \"x\""),
        (
            "a 5 A \\# 3 c00002",
            "d/db:1:7: the bytes are not valid data of this type near \"\\\\#\"",
        ),
        ("a 5 TYPE65300 \\# 4 ABCDEF", "d/db:1:18: the number of bytes is not LENGTH near \"4\""),
        ("a 5 TXT \\256", "d/db:1:9: an escape must not be above \\255 near \"\\\\256\""),
        ("a 2147483648 A 192.0.2.1", "d/db:1:3: a TTL is at most 2147483647 near \"2147483648\""),
        ("a 5 TYPE0 \\# 0", "d/db:1:5: a zone cannot contain records of this type near \"TYPE0\""),
        ("a 5 AXFR \\# 0", "d/db:1:5: a zone cannot contain records of this type near \"AXFR\""),
        ("a 5 OPT \\# 0", "d/db:1:5: a zone cannot contain records of this type near \"OPT\""),
        (
            "a 5 NSEC3PARAM 1 0 0 -",
            "d/db:1:5: NSEC3 zone is not supported: sign the zone with NSEC near \"NSEC3PARAM\"",
        ),
        ("$FOO x", "d/db:1:1: expected $ORIGIN, $TTL, $INCLUDE or $GENERATE near \"$FOO\""),
        ("$ORIGIN a..b", "d/db:1:9: the name has an empty label near \"a..b\""),
        ("$TTL 5 6", "d/db:1:8: unexpected word after the end near \"6\""),
        ("a 5 TXT \"x\n\n", "d/db:1:9: a quote is not closed near \"\\\"x\""),
        ("a 5 SOA n h (1 2\n3 4 x)", "d/db:2:5: expected a time such as 300 or 1h30m near \"x)\""),
        (
            "a 5 HTTPS 1 . port=1 port=2",
            "d/db:1:22: the service parameter is given twice near \"port=2\"",
        ),
        ("$INCLUDE no", "d/db:1:10: cannot include: no such file near \"no\""),
        (&long, "d/db:1:1: the name has a label of more than 63 bytes near"),
        (&longer, "d/db:1:1: the name has more than 255 bytes near"),
        (
            "$GENERATE 5-1 a A 192.0.2.$",
            "d/db:1:11: expected a range such as 1-254 or 0-100/2 near \"5-1\"",
        ),
        ("$GENERATE 0-65536 a A 192.0.2.$", "d/db:1:11: a range has at most 65536 steps near"),
        (
            "$GENERATE 254-256 a A 192.0.2.$",
            "d/db:1:11: expected an IPv4 address (generated with 256) near \"254-256\"",
        ),
        (
            "$GENERATE 1-2 a${-9223372036854775808} A 192.0.2.$",
            "d/db:1:11: expected ${OFFSET,WIDTH,BASE}",
        ),
        ("$GENERATE 1-2 a${0,0,q} A 192.0.2.$", "d/db:1:11: expected one of the bases d, o, x"),
    ] {
        let found = records(text).unwrap_err();
        assert!(found.starts_with(error), "{text}\n{found}");
    }
}

#[test]
fn included_files_are_relative_to_their_includer_and_keep_their_defaults_to_themselves() {
    let files = [
        ("d/sub/one", "$TTL 7\n$ORIGIN o\na A 192.0.2.1\n$INCLUDE two x\n"),
        ("d/sub/two", "@ A 192.0.2.2\n"),
        ("d/sub/blank", " A 192.0.2.3\n"),
    ];
    let text = b"$TTL 5\nb A 192.0.2.9\n$include sub/one q\n  A 192.0.2.8\nc A 192.0.2.7\n";
    let found = records_with(text, &files).unwrap();
    assert_eq!(
        found,
        [
            "b.z.test 5 A 192.0.2.9",
            "a.o.q.z.test 7 A 192.0.2.1",
            "x.o.q.z.test 7 A 192.0.2.2",
            "b.z.test 5 A 192.0.2.8",
            "c.z.test 5 A 192.0.2.7",
        ]
    );
    let error = records_with(b"$TTL 5\na A 192.0.2.1\n$INCLUDE sub/blank\n", &files).unwrap_err();
    assert!(error.starts_with("d/sub/blank:1:2: the first record of a file"), "{error}");
}

#[test]
fn files_that_include_themselves_end() {
    let files = [("d/db", "$INCLUDE db\n")];
    let error = records_with(b"$INCLUDE db\n", &files).unwrap_err();
    assert_eq!(error, "d/db:1:10: $INCLUDE is nested more than 7 levels deep near \"db\"");
}

#[test]
fn rare_types_are_read() {
    let nsec = "a 5 NSEC b A MX RRSIG NSEC TYPE1234";
    let loc = "a 5 LOC 52 22 23.5 N 4 53 32 E -2.00m 0.00m 10000m 10m";
    for (text, data) in [
        (nsec, "a.z.test 5 NSEC b.z.test. A MX RRSIG NSEC TYPE1234"),
        ("a 5 EUI48 00-00-5e-00-53-2a", "a.z.test 5 EUI48 \\# 6 00 00 5e 00 53 2a"),
        ("a 5 EUI64 00-00-5e-ef-10-00-00-2a", "a.z.test 5 EUI64 \\# 8 00 00 5e ef 10 00 00 2a"),
        ("a 5 NID 10 0014:4fff:ff20:ee64", "a.z.test 5 NID \\# 10 00 0a 00 14 4f ff ff 20 ee 64"),
        ("a 5 L32 10 10.1.2.0", "a.z.test 5 L32 \\# 6 00 0a 0a 01 02 00"),
        (
            "a 5 APL 1:192.168.32.0/21 !1:192.168.38.0/28",
            "a.z.test 5 APL \\# 14 00 01 15 03 c0 a8 20 00 01 1c 83 c0 a8 26",
        ),
        (loc, "a.z.test 5 LOC \\# 16 00 00 16 13 8b 3c f2 0c 81 0c bc e0 00 98 95 b8"),
        ("a 5 CERT PKIX 1 0 AAEC", "a.z.test 5 CERT \\# 8 00 01 00 01 00 00 01 02"),
        ("a 5 IPSECKEY 10 1 2 192.0.2.38 AQID", "a.z.test 5 IPSECKEY 10 1 2 192.0.2.38 ( AQID )"),
        ("a 5 HIP 2 0a0b AQID b.", "a.z.test 5 HIP \\# 12 02 02 00 03 0a 0b 01 02 03 01 62 00"),
        ("a 5 CSYNC 66 3 A NS", "a.z.test 5 CSYNC \\# 9 00 00 00 42 00 03 00 01 60"),
        ("a 5 URI 10 1 \"ftp://x\"", "a.z.test 5 URI \\# 11 00 0a 00 01 66 74 70 3a 2f 2f 78"),
        (
            "a 5 RRSIG A 13 3 60 20260131000000 20260101000000 7 z.test. AAEC",
            "a.z.test 5 RRSIG A 13 3 60 1769817600 1767225600 7 z.test. AAEC",
        ),
    ] {
        means(text, &[data]);
    }
}

/// Returns the records that the `domain` crate reads from a text.
fn oracle(text: &str) -> Option<Vec<String>> {
    let mut file = Zonefile::from(text.as_bytes());
    file.set_origin("z.test".parse().unwrap());
    let mut records = Vec::new();
    loop {
        match file.next_entry() {
            Ok(Some(Entry::Record(record))) => {
                let (owner, ttl, data) = (record.owner(), record.ttl().as_secs(), record.data());
                records
                    .push(format!("{owner} {ttl} {} {data}", RecordType(record.rtype().to_int())));
            }
            Ok(Some(Entry::Include { .. })) => return None,
            Ok(None) => return Some(records),
            Err(_) => return None,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn no_text_causes_a_panic(
        text in "[a-c0-9.\\\\\"();=,#@$/{} \n:INAMXTSRVHPCEO-]{0,80}",
        bytes in any::<Vec<u8>>(),
    ) {
        for text in [text.as_bytes(), &bytes] {
            if let Err(error) = records_with(text, &[("d/a", "a 5 A 192.0.2.1")]) {
                prop_assert!(!error.is_empty());
            }
        }
    }

    #[test]
    fn the_domain_crate_reads_the_same_records(
        lines in proptest::collection::vec(
            "(a|b\\.c|x\\.|\\*|\\\\097) (60|IN 60|60 IN) (A 192\\.0\\.2\\.1|MX 10 m|\
             TXT \"q;r\" \\(s\n\\)|NS n\\.x\\.|SRV 1 2 80 h|CNAME c|CAA 0 issue \"ca\\.test\"|\
             DS 1 8 2 \\( ab\n cd \\)|NAPTR 1 2 \"u\" \"s\" \"\" r|PTR p|HINFO a b|\
             AAAA ::1)( ; c)?\n",
            0..12,
        ),
    ) {
        let text = lines.concat();
        if let Some(expected) = oracle(&text) {
            prop_assert!(records(&text) == Ok(expected), "{text}");
        }
    }
}

#[test]
fn a_file_truncated_anywhere_causes_no_panic() {
    let text = "$TTL 1h\n@ SOA n h (1 2 3\n 4 5) ; x\n\t NS n\n$ORIGIN \"x\"\n\
                a\\.b\\065 TXT \"a\\\"b\nc\" d\n$GENERATE 1-3 $ A 192.0.2.${0,1,d}\n\
                b HTTPS 1 . alpn=\"h2,h3\" port=1\n\
                c TYPE300 \\# 2 abcd\n$INCLUDE a b\nd LOC 1 2 3 N 4 5 6 E 7m\n";
    for end in 0..=text.len() {
        let _ = records_with(&text.as_bytes()[..end], &[("d/a", "a A 192.0.2.1")]);
    }
    let whole = records_with(text.as_bytes(), &[("d/a", "a A 192.0.2.1")]).unwrap();
    assert_eq!(whole.len(), 10, "{whole:?}");
}
