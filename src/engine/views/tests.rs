//! Results of expressions, and the choice of server blocks.
//!
//! Rows with a number are the reference's behaviour (V: views, R: routing); all expressions are
//! written as in a Corefile and parsed by its reader.

mod bounds;

use super::{Candidate, Facts, Views};
use crate::config::{Config, Host, Name};
use crate::engine::exchange::Client;
use crate::engine::key::{ConnectionKey, Key, Via};
use crate::engine::message::query::{Asked, Edns};
use crate::engine::zones::LowercaseName;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::net::IpAddr;

/// A query in words: name, type, and its differences from a plain one over UDP from 127.0.0.1.
fn with_facts<T>(query: &str, look: impl FnOnce(&Facts<'_>) -> T) -> T {
    let mut words = query.split(' ');
    let name = Name::parse(words.next().unwrap()).unwrap();
    let rtype = match words.next().unwrap() {
        "A" => 1,
        "MX" => 15,
        "TXT" => 16,
        "AAAA" => 28,
        "DS" => 43,
        other => other.strip_prefix("TYPE").unwrap().parse().unwrap(),
    };
    let mut client = Client { peer: "127.0.0.1:5353".parse().unwrap(), ..Client::NOBODY };
    let mut asked = Asked { id: 7, flags: 0x0100, edns: None };
    let edns = |udp_size, dnssec_ok| {
        let (keepalive, nsid, padding) = (false, false, false);
        let (compact_ok, cookie) = (false, None);
        Some(Edns { udp_size, dnssec_ok, compact_ok, keepalive, nsid, padding, cookie })
    };
    let mut class = 1;
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("+tcp", _) => {
                client.via = Via::Connection(ConnectionKey(Key { index: 1, generation: 1 }))
            }
            ("+e", _) => asked.edns = edns(1_232, false),
            ("+do", _) => asked.edns = edns(1_232, true),
            ("+size", size) => asked.edns = edns(size.parse().unwrap(), false),
            ("+src", address) => client.peer.set_ip(address.parse().unwrap()),
            ("+v6", _) => client.peer = "[::1]:5353".parse().unwrap(),
            ("+to", address) => client.local = Some((address.parse().unwrap(), 0)),
            ("CH", _) => class = 3,
            (other, _) => panic!("{other}"),
        }
    }
    let folded = LowercaseName::new(&name.as_wire().to_ascii_uppercase());
    let size = (12 + name.as_wire().len() + 4) as u16;
    look(&Facts { client: &client, asked: &asked, name: &folded, rtype, class, size })
}

fn load(text: &str) -> Config {
    let host = Host::plain();
    let loaded = Config::load(text.as_bytes(), "f", &host);
    loaded.unwrap_or_else(|error| panic!("{error}\n{text}")).0
}

/// The views of all blocks, in their order.
fn views(config: &Config) -> Views {
    let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
    let listener = &config.listeners[0];
    let candidates = listener.zones.iter().map(|(zone, block)| {
        let stages = &config.blocks[*block].stages;
        Candidate { zone, view: stages.view.as_ref(), refuses: !stages.can_answer() }
    });
    Views::new(candidates, listener.address, &hasher)
}

/// Returns true if a view with this expression, as written in a Corefile, matches a query.
fn holds(expression: &str, query: &str) -> bool {
    let (before, expression) = match expression.split_once(" <- ") {
        Some((expression, before)) => (before, expression),
        None => ("", expression),
    };
    let text =
        format!(". {{\n bind 127.0.0.1\n {before}\n view v {{\n expr {expression}\n}}\n any\n}}\n");
    let config = load(&text);
    with_facts(query, |facts| views(&config).choose(facts).is_some())
}

#[test]
fn expressions_have_the_results_of_the_reference() {
    for (row, expression, query, expected) in [
        ("V1", "type() == 'A' && name() == 'q.t.'", "q.t A", true),
        ("V1", "type() == 'A' && name() == 'q.t.'", "q.t AAAA", false),
        ("V2", "type() == 'A' && name() == 'q.t.'", "Q.T A", true),
        ("V3", "client_ip() == '127.0.0.2'", "q.t A +src=127.0.0.2", true),
        ("V4", "client_ip() == '127.0.0.2'", "q.t A", false),
        ("V5", "incidr(client_ip(), '127.0.0.0/30')", "q.t A +src=127.0.0.3", true),
        ("V6", "incidr(client_ip(), '127.0.0.0/30')", "q.t A +src=127.0.0.5", false),
        ("V7", "incidr(client_ip(), '::1/128')", "q.t A +v6", true),
        ("V8", "incidr(client_ip(), '::1/128')", "q.t A", false),
        ("V8", "incidr(client_ip(), '::/0')", "q.t A", false),
        ("V9", "incidr(client_ip(), '::ffff:127.0.0.0/104')", "q.t A", true),
        ("V10", "incidr('zz', '10.0.0.0/8') || true", "q.t A", true),
        ("V12", "client_ip() == '::1'", "q.t A +v6", true),
        ("V13", "proto() == 'tcp'", "q.t A +tcp", true),
        ("V14", "proto() == 'tcp'", "q.t A", false),
        ("V15", "do() && bufsize() == 1232", "q.t A +do", true),
        ("V16", "do() && bufsize() == 1232", "q.t A +e", false),
        ("V17", "bufsize() == 512", "q.t A", true),
        ("V18", "bufsize() == 512", "q.t A +size=512", true),
        ("V18", "bufsize() == 512", "q.t A +size=100", true),
        (
            "V19",
            "class() == 'IN' && opcode() == 0 && id() >= 0 && port() matches '^[0-9]+$' && \
             size() > 10",
            "q.t A",
            true,
        ),
        ("V20", "server_port() == '53' && server_ip() == '127.0.0.1'", "q.t A", true),
        ("V21", "server_port() == '53' && server_ip() == '127.0.0.1'", "q.t A +to=::1", false),
        ("V22", "name() in ['q.t.', 'r.t.']", "q.t A", true),
        ("V22", "name() in ['q.t.', 'r.t.']", "s.t A", false),
        ("V23", "name() endsWith '.t.' and not (type() in ['AAAA','MX'])", "q.t A", true),
        ("V24", "name() endsWith '.t.' and not (type() in ['AAAA','MX'])", "q.t AAAA", false),
        ("V25", "name() matches '^Q'", "q.t A", false),
        ("V26", "name()", "q.t A", false),
        ("V27", "1 == 1\n expr 1 == 2", "q.t A", false),
        ("V27", "1 == 1\n expr name() == 'q.t.'", "q.t A", true),
        ("V29", "len(split(name(), '.')) == 3", "q.t A", true),
        ("V30", "metadata('x/y') == ''", "q.t A", true),
        ("V40", "metadata('forward/upstream') == '' <- metadata", "q.t A", true),
        ("V44", "incidr('zz', '10.0.0.0/8') || name() != ''", "q.t A", false),
        ("V45", "name() != '' || incidr('zz', '10.0.0.0/8')", "q.t A", true),
        ("V46", "incidr(client_ip(), 'b' + 'ad') || name() != ''", "q.t A", false),
        ("V47", "not incidr(client_ip(), 'b' + 'ad')", "q.t A", false),
        ("V48", "name() contains 'q'", "q.t A", true),
        ("V49", "\"name() == 'q.t.' && type() in ['A', 'AAAA']\"", "q.t A", true),
        ("V50", "name() == `q.t.`", "q.t A", true),
        ("V51", "name() startsWith 'q' ? true : false", "q.t A", true),
        ("V53", "bufsize() >= 1232", "q.t A +e", true),
        ("V54", "bufsize() >= 1232", "q.t A +tcp", true),
        ("V55", "size() == 21", "q.t A", true),
        (
            "V56",
            "type() == 'AAAA' and incidr(client_ip(), '127.0.0.0/8') or type() == 'TXT'",
            "q.t A",
            false,
        ),
        (
            "V57",
            "type() == 'AAAA' and incidr(client_ip(), '127.0.0.0/8') or type() == 'TXT'",
            "q.t TXT",
            true,
        ),
        ("V58", "type() == 'TYPE65300'", "q.t TYPE65300", true),
        ("V58", "type() == ''", "q.t TYPE65300", false),
    ] {
        assert_eq!(holds(expression, query), expected, "{row}: {expression}, {query}");
    }
}

#[test]
fn numbers_may_have_fractions_and_values_may_be_piped() {
    for (expression, query, expected) in [
        ("size() / 2 == 10.5 && 1 / 2 == 0.5", "q.t A", true),
        ("size() > 20.9 && size() < 2.11e1 && 21.0 == size()", "q.t A", true),
        ("size() > 21.5 || 1.5 > size()", "q.t A", false),
        ("2 ** 3 ** 2 == 512 && 2 ^ -1 == 0.5 && -2 ** 2 == -4", "q.t A", true),
        ("1 / 0 > 10 && 0 / 0 != 0 / 0", "q.t A", true),
        ("-1.5 + size() * 2 - 0.5 == 40", "q.t A", true),
        ("(do() ? 1.5 : 2) == 2", "q.t A", true),
        ("1_0.5 == 10.5 && 1e2 == 100 && 0xe == 14", "q.t A", true),
        ("name() | upper() == 'Q.T.'", "q.t A", true),
        ("name() | trimSuffix('.') | split('.') | len() == 2", "q.t A", true),
        (
            "(name() | split('.')[0]) in ['q'] && (client_ip() | incidr('127.0.0.0/8'))",
            "q.t A",
            true,
        ),
    ] {
        assert_eq!(holds(expression, query), expected, "{expression}, {query}");
    }
}

#[test]
fn every_function_and_operator_does_what_it_says() {
    for (expression, query, expected) in [
        ("class() == 'CH'", "q.t TXT CH", true),
        ("id() == 7 and opcode() != 1", "q.t A", true),
        ("port() == '5353'", "q.t A", true),
        ("client_ip() != '127.0.0.1'", "q.t A", false),
        ("client_ip() in ['10.0.0.1', '127.0.0.1', '::1']", "q.t A +v6", true),
        ("client_ip() not in ['10.0.0.1', '127.0.0.1']", "q.t A", false),
        ("client_ip() == '10.0.0.0/8'", "q.t A +src=10.0.0.1", false),
        ("client_ip() startsWith '127.'", "q.t A", true),
        ("client_ip() == '127.0.0.1'", "q.t A +src=::ffff:127.0.0.1", true),
        ("type() in ['A', 'AAAA']", "q.t MX", false),
        ("type() != 'A'", "q.t MX", true),
        ("lower('QT') == 'qt' && upper(name()) == 'Q.T.'", "q.t A", true),
        ("trim('  a ') == 'a'", "q.t A", true),
        ("trimPrefix(name(), 'q.') == 't.' && trimSuffix(name(), '.') == 'q.t'", "q.t A", true),
        ("trimPrefix(name(), 'x') == name()", "q.t A", true),
        ("hasPrefix(name(), 'q') and hasSuffix(name(), 't.')", "q.t A", true),
        ("indexOf(name(), '.') == 1 && lastIndexOf(name(), '.') == 3", "q.t A", true),
        ("indexOf(name(), 'z') == -1", "q.t A", true),
        ("len(name()) == 4", "q.t A", true),
        ("split(name(), '.')[0] == 'q' && split(name(), '.')[-2] == 't'", "q.t A", true),
        ("split(name(), '.')[9] == 'q' || true == false", "q.t A", false),
        ("'t' in split(name(), '.')", "q.t A", true),
        ("['a', 'q.t.'][1] == name()", "q.t A", true),
        ("\"any(['10.0.0.0/8', '127.0.0.0/8'], incidr(client_ip(), #))\"", "q.t A", true),
        ("\"none(['10.0.0.0/8', '127.0.0.0/8'], incidr(client_ip(), #))\"", "q.t A", false),
        ("\"all(['q', 't'], name() contains #)\"", "q.t A", true),
        ("\"any([1, 7], id() == #)\"", "q.t A", true),
        ("id() in [1, 7] && id() in 5..9 && id() not in 8..9", "q.t A", true),
        ("size() % 2 == 1 && size() + 1 == 22 && size() * 2 - 2 == 40", "q.t A", true),
        ("size() % (id() - 7) == 0", "q.t A", false),
        ("-1 < 0 and -size() == -21", "q.t A", true),
        ("0x10 == 16 && 1_000 == 1000", "q.t A", true),
        ("name() + 'x' == 'q.t.x'", "q.t A", true),
        ("'a' < 'b' && name() >= 'q'", "q.t A", true),
        ("do() == false && true != do()", "q.t A", true),
        ("(do() ? 'a' : 'b') == 'b' && (do() ? 1 : 2) == 2", "q.t A", true),
        ("do() ? proto() == 'tcp' : proto() == 'udp'", "q.t A", true),
        ("!do() && not do()", "q.t A", true),
        ("name() matches '^[a-q][.]t[.]$'", "q.t A", true),
        ("name() not matches 'q' or name() not endsWith 't.'", "q.t A", false),
        ("name() == 'a\\\\.b.t.'", "a\\.b.t A", true),
        ("metadata('view/name') == 'v' <- metadata", "q.t A", true),
        ("metadata('view/name') == 'v' <- metadata t", "q.t A", true),
        ("metadata('view/name') == 'v' <- metadata u", "q.t A", false),
        ("metadata('view/name') == ''", "q.t A", true),
        ("incidr(client_ip(), '127.0.0.0/' + '8')", "q.t A", true),
        ("incidr('10.1.2.3', '10.0.0.0/8') && incidr(trim(' ::1'), '::/64')", "q.t A", true),
        (
            "incidr(client_ip(), '127.0.0.1/32') || incidr(client_ip(), '::1/128')",
            "q.t A +v6",
            true,
        ),
        ("incidr(client_ip(), '10.0.0.0/8') or incidr(client_ip(), '127.0.0.0/9')", "q.t A", true),
        ("true", "q.t A", true),
        ("false", "q.t A", false),
        ("name() == '' && incidr('zz', '::/0')", "q.t A", false),
    ] {
        assert_eq!(holds(expression, query), expected, "{expression}, {query}");
    }
}

/// Rows are written as in a Corefile between double quotes, because of `#`.
#[test]
fn closures_look_at_each_element_of_any_list() {
    for (expression, query, expected) in [
        ("any(split(name(), '.'), # == 'ads')", "x.ads.t A", true),
        ("any(split(name(), '.'), # == 'ads')", "x.bads.t A", false),
        ("all(split(name(), '.'), len(#) < 4)", "one.two.t A", true),
        ("all(split(name(), '.'), {len(#) < 4})", "one.three.t A", false),
        ("none(split(name(), '.'), # startsWith 'a')", "b.c A", true),
        ("one(split(name(), '.'), # == 't')", "t.t A", false),
        ("one(split(name(), '.'), # == 't')", "a.t A", true),
        ("count(split(name(), '.'), # matches '^[0-9]+$') >= 2", "1.2.c A", true),
        ("count([true, do(), 1 == 1]) == 2", "q.t A", true),
        ("len(filter(split(name(), '.'), # != '')) == 3", "a.b.c A", true),
        ("map(split(name(), '.'), upper(#))[0] == 'A'", "a.b A", true),
        ("map(1..4, # * size())[3] == 84", "q.t A", true),
        ("find(split(name(), '.'), # endsWith 'x') == 'bx'", "a.bx.cx A", true),
        ("findLast(split(name(), '.'), # endsWith 'x') == 'cx'", "a.bx.cx A", true),
        ("find(split(name(), '.'), # == 'z') == nil", "a.b A", true),
        ("find(split(name(), '.'), # == 'z') != 'a'", "a.b A", true),
        ("find(split(name(), '.'), # == 'z') startsWith 'z'", "a.b A", false),
        ("(find(split(name(), '.'), # == 'z') ?? 'none') == 'none'", "a.b A", true),
        ("findIndex(split(name(), '.'), # == 'b') == 1", "a.b.b A", true),
        ("findLastIndex(split(name(), '.'), # == 'b') == 2", "a.b.b A", true),
        ("findIndex(split(name(), '.'), # == 'z') == -1", "a.b A", true),
        ("sum(split(name(), '.'), len(#)) == 6", "abc.def A", true),
        ("sum([1.5, size()]) == 22.5 && sum([1, 2, 3]) == 6", "q.t A", true),
        ("reduce(1..5, # + #acc) == 15 && reduce(1..3, #acc * #, 2) == 12", "q.t A", true),
        ("reduce(split(name(), '.'), #acc + '-' + #) == 'a-b-'", "a.b A", true),
        ("reduce(split(name(), '.')[9:], #acc + #) == ''", "a.b A", false),
        ("groupBy(split(name(), '.'), len(#))[2][1] == 'cd'", "ab.cd.e A", true),
        ("len(groupBy(split(name(), '.'), len(#))) == 3", "ab.cd.e A", true),
        (
            "join(sortBy(split(name(), '.'), len(#), 'desc'), '.') == 'ccc.bb.a.'",
            "bb.a.ccc A",
            true,
        ),
        ("any(1..3, any(4..6, # == 6))", "q.t A", true),
        ("all(split(name(), '.')[:2], #index < 2)", "a.b.c A", true),
        ("any(['a', 'b'], #index == 1 && # == 'b')", "q.t A", true),
        ("any(map([1, 2], [#, # + 1]), # == [2, 3])", "q.t A", true),
        (
            "any([{'net': '10.0.0.0/8'}, {'net': '127.0.0.0/8'}], incidr(client_ip(), .net))",
            "q A",
            true,
        ),
        ("any([{'net': '10.0.0.0/8'}], incidr(client_ip(), #.net))", "q.t A", false),
    ] {
        let quoted = format!("\"{expression}\"");
        assert_eq!(holds(&quoted, query), expected, "{expression}, {query}");
    }
}

#[test]
fn lists_maps_variables_and_nil_are_part_of_the_language() {
    for (expression, query, expected) in [
        ("{'10.0.0.1': 'a', '127.0.0.1': 'b'}[client_ip()] == 'b'", "q.t A", true),
        ("{'10.0.0.1': 'a'}[client_ip()] == 'b'", "q.t A", false),
        ("{'10.0.0.1': 'a'}[client_ip()] == nil", "q.t A", true),
        ("({'10.0.0.1': 'a'}[client_ip()] ?? 'x') == 'x'", "q.t A", true),
        ("client_ip() in {'127.0.0.1': true}", "q.t A", true),
        ("client_ip() not in {'127.0.0.1': true}", "q.t A", false),
        ("{'127.0.0.1': true}[client_ip()]", "q.t A", true),
        ("{'127.0.0.2': true}[client_ip()]", "q.t A", false),
        ("{a: {b: 1}}.a.b == 1 && {a: {b: 1}}.c?.b == nil", "q.t A", true),
        ("{a: 1}?.b ?? 2 == 2", "q.t A", true),
        ("get({'A': 1}, type()) == 1 && get([5, 6], 1) == 6 && get([5], 7) == nil", "q.t A", true),
        ("len(keys({a: 1, b: 2})) == 2 && sum(values({a: 1, b: 2})) == 3", "q.t A", true),
        ("fromPairs([['a', type()]])['a'] == 'A' && toPairs({a: 1})[0][1] == 1", "q.t A", true),
        ("{a: 1, b: [1, 2]} == {b: [1, 2], a: 1} && {a: 1} != {a: 2}", "q.t A", true),
        ("let ip = client_ip(); incidr(ip, '127.0.0.0/8') && ip != '::1'", "q.t A", true),
        ("let p = split(name(), '.'); p[0] == 'a' && len(p) == 3", "a.b A", true),
        ("let p = split(name(), '.'); let l = p[0]; l + l == 'aa'", "a.b A", true),
        ("let gone = split(name(), '.')[7]; true || gone == ''", "a.b A", false),
        ("if do() { false } else if size() > 9 { type() == 'A' } else { false }", "q.t A", true),
        ("name()[0:1] == 'q' && name()[-2:] == 't.' && name()[:-1] == 'q.t'", "q.t A", true),
        ("name()[2:1] == '' && name()[1:99] == '.t.' && [1, 2, 3][1:] == [2, 3]", "q.t A", true),
        ("split(name(), '.')[size() - 21] == 'q'", "q.t A", true),
        ("[name(), type()][-1] == 'A' && ['a', 'b'][id() - 6] == 'b'", "q.t A", true),
        ("type() in ['A', 28] && 28 in ['A', 28] && size() in [20, 21, id()]", "q.t A", true),
        (
            "first(split(name(), '.')) == 'q' && last([1, 2]) == 2 && first([]) == nil",
            "q.t A",
            true,
        ),
        ("join(reverse(split(trimSuffix(name(), '.'), '.')), '.') == 't.q'", "q.t A", true),
        ("join(take(split(name(), '.'), 2)) == 'qt' && len(take([1], 5)) == 1", "q.t A", true),
        ("concat([1], [2, 3], 4..5) == 1..5 && flatten([[1], [2, 3]]) == [1, 2, 3]", "q.t A", true),
    ] {
        let quoted = format!("\"{expression}\"");
        assert_eq!(holds(&quoted, query), expected, "{expression}, {query}");
    }
}

#[test]
fn lists_are_sorted_and_numbers_computed() {
    for (expression, query, expected) in [
        ("uniq([1, 2, 1]) == [1, 2] && sort([3, 1, 2], 'desc') == [3, 2, 1]", "q.t A", true),
        ("sort(split(name(), '.'))[1] == 'a'", "c.b.a A", true),
        ("min(3, size(), 1.5) == 1.5 && max([1, 5, 3]) == 5 && min(size(), 3) == 3", "q.t A", true),
        ("mean([1, 2, 3, 6]) == 3 && median([5, 1, 2, 3]) == 2.5 && median(7) == 7", "q.t A", true),
        (
            "abs(-size()) == 21 && ceil(1.2) == 2 && floor(-1.2) == -2 && round(2.5) == 3",
            "q.t A",
            true,
        ),
        (
            "int('42') == 42 && int(1.9) == 1 && float('1.5') == 1.5 && int(port()) == 5353",
            "q.t A",
            true,
        ),
        ("int(name()) == 1 || true == false", "q.t A", false),
        (
            "string(size()) == '21' && string(1.5) == '1.5' && string(do()) == 'false'",
            "q.t A",
            true,
        ),
        ("replace(name(), '.', '-') == 'q-t-' && repeat('ab', 2) == 'abab'", "q.t A", true),
        ("trim(name(), 'q.') == 't' && trim('xx', 'x') == ''", "q.t A", true),
        (
            "split(name(), '.', 2)[1] == 'b.c.' && splitAfter(name(), '.')[0] == 'a.'",
            "a.b.c A",
            true,
        ),
        ("split(name(), name()[1:2])[0] == 'q'", "q.t A", true),
        ("bitand(7, id()) == 7 && bitor(8, 1) == 9 && bitxor(3, 1) == 2", "q.t A", true),
        ("bitnand(7, 2) == 5 && bitnot(0) == -1 && bitshl(1, 4) == 16", "q.t A", true),
        ("bitshr(-8, 1) == -4 && bitushr(-1, 63) == 1 && bitshl(1, 64) == 0", "q.t A", true),
        ("len(1..size()) == 21 && 5 in 1..size() && len(5..1) == 0", "q.t A", true),
        ("nil == nil && (nil ?? 'a') == 'a' && name() != nil", "q.t A", true),
        ("(do() ? ['a'] : ['b', 'c'])[1] == 'c'", "q.t A", true),
        ("(do() ? 'a' : nil) == nil && ((do() ? 'a' : nil) ?? 'b') == 'b'", "q.t A", true),
        ("name() | split('.') | first() == 'q'", "q.t A", true),
    ] {
        assert_eq!(holds(&format!("\"{expression}\""), query), expected, "{expression}, {query}");
    }
}

/// Returns the number of the block that gets the query, of blocks with a zone and a view.
fn chosen(blocks: &[(&str, &str)], query: &str) -> Option<usize> {
    let block = |(zone, view): &(&str, &str)| format!("{zone} {{\n bind 127.0.0.1\n {view}\n}}\n");
    let config = load(&blocks.iter().map(block).collect::<String>());
    let number = with_facts(query, |facts| views(&config).choose(facts))?;
    Some(config.listeners[0].zones[number].1)
}

#[test]
fn blocks_are_tried_in_the_order_of_the_file_and_then_shorter_zones() {
    let (no, yes) = ("any\n view n {\n expr false\n}", "any\n view y {\n expr true\n}");
    let local = "any\n view l {\n expr incidr(client_ip(), '127.0.0.2/32')\n}";
    let wide = "any\n view m {\n expr incidr(client_ip(), '127.0.0.0/8')\n}";
    let nets = [(".", local), (".", wide), (".", "any")];
    let only_no = "view n {\n expr false\n}";
    for (row, blocks, query, expected) in [
        ("V31", &[(".", "any\n view none"), (".", "any")][..], "q.t A", Some(0)),
        ("V32", &[(".", "any"), (".", yes)], "q.t A", Some(0)),
        ("V33", &[(".", yes), (".", "any\n view b")], "q.t A", Some(0)),
        ("V34", &[(".", local)], "q.t A", None),
        ("V34", &[(".", local)], "q.t A +src=127.0.0.2", Some(0)),
        ("V35", &[("t", no), (".", "any")], "q.t A", Some(1)),
        ("R14", &[("example.org", no), ("org", "any"), (".", "any")], "example.org A", Some(1)),
        ("R15", &[("example.org", no), ("example.org", "any")], "example.org A", Some(1)),
        ("R16", &[("example.org", "any"), ("example.org", yes)], "example.org A", Some(0)),
        ("R17", &[("example.org", only_no), ("org", "any")], "example.org A", Some(1)),
        ("R18", &[("org", "view y"), (".", "any")], "a.org A", Some(0)),
        ("R21", &[("org", yes), ("org", "any\n view z")], "org A", Some(0)),
        ("R21", &[("org", yes), ("org", "any\n view z")], "org DS", Some(1)),
        ("DS", &[("org", yes), ("a.org", yes), (".", yes)], "a.org DS", Some(0)),
        ("DS", &[("org", no), ("a.org", yes), (".", yes)], "a.org DS", Some(1)),
        ("DS", &[("org", no), (".", yes)], "a.org DS", Some(1)),
        ("DS", &[("org", no), (".", no)], "a.org DS", None),
        ("several networks", &nets, "q.t A", Some(1)),
        ("several networks", &nets, "q.t A +src=127.0.0.2", Some(0)),
        ("several networks", &nets, "q.t A +v6", Some(2)),
        ("nothing answers", &[(".", "debug"), (".", "any\n view y")], "q.t A", Some(1)),
    ] {
        assert_eq!(chosen(blocks, query), expected, "{row}: {blocks:?}, {query}");
    }
}

/// One table of many views' networks decides like the views one after the other.
#[test]
fn one_table_of_networks_decides_like_the_views() {
    let mut random = ChaCha8Rng::seed_from_u64(11);
    for _ in 0..100 {
        // Few bits, so that prefixes overlap.
        let mut word = || random.next_u32();
        let address = |word: u32| match word % 3 {
            0 => format!("0:0:0:{:x}::", word >> 28),
            _ => format!("10.{}.0.{}", word >> 4 & 3, word >> 8 & 7),
        };
        let mut net = || {
            let address = address(word());
            let length = 8 + word() % 25 + if address.contains(':') { 32 } else { 0 };
            format!("incidr(client_ip(), '{address}/{length}')")
        };
        let views: Vec<String> = (0..9).map(|_| format!("{} || {}", net(), net())).collect();
        let blocks = views
            .iter()
            .enumerate()
            .map(|(number, view)| format!("any\n view v{number} {{\n expr {view}\n}}"));
        let blocks: Vec<String> = blocks.collect();
        let blocks: Vec<(&str, &str)> = blocks.iter().map(|block| (".", &**block)).collect();
        for _ in 0..20 {
            let client = address(random.next_u32());
            let query = format!("q.t A +src={}", client.parse::<IpAddr>().unwrap());
            let alone = views.iter().position(|view| holds(view, &query));
            assert_eq!(chosen(&blocks, &query), alone, "{query} in {views:?}");
        }
    }
}
