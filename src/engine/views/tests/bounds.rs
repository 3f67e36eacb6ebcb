//! Bounds of memory and work of expressions, whatever a query contains.
//!
//! An expression beyond a limit is false, and an expression of sensible size is not: most tests
//! have rows of both. No element that a query chooses makes a sort panic.

use super::{chosen, holds, load, views, with_facts};
use crate::config::{Config, Host};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

#[test]
fn memory_and_work_of_one_expression_are_bounded() {
    for (expression, expected) in [
        ("len(1..4000) == 4000", true),
        ("len(1..size() * 200) > 0", false),
        ("len(1..size() * 99999999999) > 0", false),
        ("any(1..4000, # == 4000)", true),
        ("none(1..4000, any(1..size() * 3, # == 99))", false),
        ("len(repeat('ab', 1000)) == 2000", true),
        ("len(repeat('ab', 9223372036854775807)) > 0", false),
        ("len(repeat('', 9223372036854775807)) == 0", true),
        ("reduce(1..200, #acc + #acc, 'ab') == ''", false),
        // Memory used by tests of elements is released.
        ("count(1..2000, repeat('ab', 200) != '') == 2000", true),
        ("all(1..2000, name() + repeat('a', 200) != name()) && name() == 'q.t.'", true),
    ] {
        assert_eq!(holds(&format!("\"{expression}\""), "q.t A"), expected, "{expression}");
    }
}

#[test]
fn the_depth_of_expressions_is_limited_but_not_the_length_of_chains() {
    let nets: Vec<String> = (0..1_000)
        .map(|net| format!("incidr(client_ip(), '10.{}.{}.0/24')", net / 250, net % 250))
        .collect();
    assert!(holds(&nets.join(" || "), "q.t A +src=10.3.249.7"));
    assert!(!holds(&nets.join(" or "), "q.t A +src=10.4.0.7"));
    let host = Host::plain();
    for deep in [
        format!("{}do(){}", "(".repeat(20_000), ")".repeat(20_000)),
        format!("{}do()", "!".repeat(20_000)),
        format!("size() == {}1", "1+".repeat(20_000)),
        format!("size() == {}1", "-".repeat(20_000)),
        format!("{}name(){} == ''", "lower(".repeat(5_000), ")".repeat(5_000)),
        format!("{}do()", "do() ? do() : ".repeat(4_000)),
        format!("name(){} == ''", "[0]".repeat(20_000)),
        // A condition at the depth limit, nested further.
        format!("(do() && do() && {}1 == 9){}", "1+".repeat(61), " == do()".repeat(4_000)),
    ] {
        let text = format!(". {{\n view v {{\n expr {deep}\n}}\n any\n}}\n");
        let error = Config::load(text.as_bytes(), "f", &host).unwrap_err().to_string();
        let what = "more than 64 expressions nested in each other";
        assert!(error.contains(what), "{}", &error[..error.len().min(200)]);
    }
    // Each level would be twice as large as the one before.
    let doubled = "any([#+#],".repeat(30);
    let doubled = format!("any([name()],{doubled}#=='x'{})", ")".repeat(30));
    for many in [vec!["do()"; 5_000].join(" && "), doubled] {
        let text = format!(". {{\n view v {{\n expr \"{many}\"\n}}\n any\n}}\n");
        let error = Config::load(text.as_bytes(), "f", &host).unwrap_err().to_string();
        assert!(error.contains("more than 4096 parts"), "{}", &error[..error.len().min(200)]);
    }
}

#[test]
fn texts_have_a_bound() {
    let text = format!("lower('{}')", "a".repeat(30_000));
    assert!(holds(&format!("len({text}) == 30000"), "q.t A"));
    assert!(!holds(&format!("len({text} + {text}) > 0"), "q.t A"));
}

/// Elements of two kinds have no order; the sort itself would panic for some of them.
#[test]
fn texts_and_numbers_in_one_list_have_no_order() {
    // The numbers are between the labels, where the sort meets them.
    let mixed = "concat(s[:9], [1], s[9:19], [2], s[19:], [3])";
    let mut random = ChaCha8Rng::seed_from_u64(5);
    for _ in 0..300 {
        let labels = 20 + random.next_u32() % 100;
        let label = |_| char::from(b'a' + (random.next_u32() % 26) as u8).to_string();
        let name = (0..labels).map(label).collect::<Vec<_>>().join(".");
        let expression = format!("\"let s = split(name(), '.'); len(sort({mixed})) > 0\"");
        assert!(!holds(&expression, &format!("{name} A")), "{name}");
    }
    assert!(holds("\"len(sort(concat(split(name(), '.'), ['1']))) == 4\"", "a.b A"));
}

/// A whole number that a fraction cannot represent is ordered by its exact value.
#[test]
fn numbers_of_both_types_have_one_order() {
    for (numbers, sorted) in [
        (
            "9007199254740993, 9007199254740994.0, 9007199254740992.0, id()",
            "7 9007199254740992 9007199254740993 9007199254740994",
        ),
        (
            "9223372036854775808.0, 9223372036854775807, id()",
            "7 9223372036854775807 9223372036854776000",
        ),
        ("2.5, 2, 3, 1.5, -1, -1.5, id()", "-1.5 -1 1.5 2 2.5 3 7"),
        ("0, -0.5, 0.0, 0.5 - id()", "-6.5 -0.5 0 0"),
    ] {
        let expression = format!("join(map(sort([{numbers}]), string(#)), ' ') == '{sorted}'");
        assert!(holds(&format!("\"{expression}\""), "q.t A"), "{expression}");
    }
    for (expression, expected) in [
        ("max(9007199254740993, 9007199254740992.0)", "9007199254740993"),
        ("min(9007199254740994.0, 9007199254740993)", "9007199254740993"),
        ("median(2.5, 2, 3, 1.5, -1, -1.5, id())", "2"),
    ] {
        let expression = format!("string({expression}) == '{expected}'");
        assert!(holds(&expression, "q.t A"), "{expression}");
    }
    // Elements around 2^53, so that rounding would make the order contradict itself.
    for first in 0..40 {
        let number = |place: u64| 9_007_199_254_740_980 + (place * 17 + first) % 60;
        let written = |place: u64| match number(place) {
            even if place.is_multiple_of(2) => format!("{}.0", even & !1),
            number => number.to_string(),
        };
        let list = (0..50).map(written).collect::<Vec<_>>();
        let mut sorted: Vec<_> = list.iter().map(|number| number.trim_end_matches(".0")).collect();
        sorted.sort_unstable();
        let (list, sorted) = (list.join(", "), sorted.join(" "));
        let found = format!("join(map(sort([{list}, id()])[1:], string(#)), ' ')");
        assert!(holds(&format!("\"{found} == '{sorted}'\""), "q.t A"), "{list}");
    }
}

/// One step is one element, or a few dozen bytes of a text, so that an expression costs
/// milliseconds at most.
#[test]
fn work_on_texts_is_bounded() {
    for expression in [
        "none(1..2000, any(1..14, repeat('a', 30000) contains repeat('a', 10000) + 'b'))",
        "none(1..2000, lastIndexOf(repeat('a', 30000), repeat('a', 15000)) < 0)",
        "none(1..2000, replace(repeat('a', 20000), 'a', 'b') == '')",
        "none(1..2000, len(split(repeat('a.', 20000), '.')) < 0)",
        "none(1..2000, join([repeat('a', 30000), name()], '.') == '')",
        "none(1..2000, upper(repeat('a', 30000)) == '')",
        "none(1..2000, trim(repeat('a', 30000), 'a') != '')",
        "let t = repeat('a', 9999); none(1..2000, t + 'a' != t + 'a')",
        "let t = repeat('a', 30000); none(1..4000, t < t)",
        "let l = concat([repeat('a', 30000)]); none(1..4000, l == concat([l[0] + '']) && do())",
        "let t = repeat('a', 30000); none(1..4000, t in [t, name()] && id() == 0)",
        "let t = repeat('a', 30000); none(1..4000, not hasSuffix(t, t))",
        "let t = repeat('a', 30000); none(1..4000, trim(t) == '')",
        "let t = repeat('a', 30000); none(1..4000, t matches '[b-d]$')",
        "let t = repeat('1', 30000); none(1..4000, float(t) == 1)",
        "let t = repeat('1', 30000); none(1..4000, incidr(t, '10.0.0.0/8'))",
        "let l = 1..2000; none(1..2000, sum(l) == 0)",
        "let l = map(1..1000, true); none(1..2000, count(l) == 0)",
        "let l = map(1..100, repeat('a', 300)); none(1..900, sort(l)[0] == '')",
    ] {
        assert!(!holds(&format!("\"{expression}\""), "q.t A"), "{expression}");
    }
    // The same in sensible sizes.
    for expression in [
        "none(1..2000, name() contains 'x' || upper(name()) == '' || name() matches '^x')",
        "none(1..100, replace(name(), 'q', 'rr') == '' || len(split(name(), '.')) == 0)",
        "let l = 1..100; none(1..1000, sum(l) == 0)",
    ] {
        assert!(holds(&format!("\"{expression}\""), "q.t A"), "{expression}");
    }
}

/// The cost of a long test of each element counts, too.
#[test]
fn work_of_long_closures_is_bounded() {
    let long = vec!["size() + # == 0"; 700].join(" || ");
    assert!(!holds(&format!("\"none(1..2000, {long})\""), "q.t A"));
    assert!(holds(&format!("\"none(1..100, {long})\""), "q.t A"));
    // A list of names for each of many labels.
    let names: Vec<String> = (0..1_300).map(|name| format!("'n{name}'")).collect();
    let listed = format!("\"any(split(name(), '.'), # in [{}])\"", names.join(","));
    assert!(holds(&listed, &format!("{}n7 A", "a.".repeat(120))));
    assert!(!holds(&listed, &format!("{}m7 A", "a.".repeat(120))));
}

/// All views of a query share one budget; the next query has its own.
#[test]
fn the_views_of_a_query_share_its_budget() {
    let blocks = |count: usize| {
        let view = |name: String, expression| format!("any\n view {name} {{\n {expression}\n}}");
        let costly = |number| view(format!("n{number}"), "expr \"any(1..4000, # + id() == 0)\"");
        let mut blocks: Vec<String> = (0..count).map(costly).collect();
        blocks.push(view("closure".into(), "expr \"any(1..4000, # == 4000)\""));
        blocks.push(view("cheap".into(), "expr name() == 'q.t.'"));
        blocks
    };
    let chosen_of = |count| {
        let blocks = blocks(count);
        let blocks: Vec<_> = blocks.iter().map(|block| (".", &**block)).collect();
        chosen(&blocks, "q.t A")
    };
    assert_eq!(chosen_of(5), Some(5));
    assert_eq!(chosen_of(200), Some(201), "no budget is left for the closure");
    let block = |block: &String| format!(". {{\n bind 127.0.0.1\n {block}\n}}\n");
    let config = load(&blocks(5).iter().map(block).collect::<String>());
    let views = views(&config);
    for _ in 0..100 {
        assert_eq!(with_facts("q.t A", |facts| views.choose(facts)), Some(5));
    }
}
