"""Tests of the parts that need no process: queries, configurations, medians, verdicts, tables.

    python3 benches/peers/tests.py
"""

import sys

sys.dont_write_bytecode = True

import tempfile
import unittest
from pathlib import Path

import forwarders
import judge
import queries
import rounds
import scale
import table


def slot(cpu, lost=0, rate=1000.0):
    return {"cpu_us": cpu, "rate": rate, "p50_us": 1.0, "p99_us": 2.0, "p999_us": 3.0,
            "sent": 1000, "lost": lost, "memory": 5_000_000, "behind": 0}


def case(mode, closed, gso=None, lengths="spread", base=True):
    names = list(closed[0])
    return {"name": "a case", "what": "what", "mode": mode, "lengths": lengths, "is_base": base,
            "gso": gso or {}, "notes": ["a note"], "names": names, "closed": closed, "half": [],
            "floor": "floor" if mode in judge.FLOORS else None}


def measured(cases):
    return [(each["what"], round(each["measured"], 3), each["met"]) for each in judge.verdicts(cases)
            if "memory" not in each["what"]]


class Queries(unittest.TestCase):
    def test_a_query_ends_with_a_plain_opt_record(self):
        message = queries.query("a.example", queries.TYPE_A)
        self.assertEqual(message[12:], b"\x01a\x07example\0\0\1\0\1" + b"\0\0\x29\x04\xd0" + bytes(6))
        self.assertEqual(message[4:12], bytes([0, 1, 0, 0, 0, 0, 0, 1]))
        self.assertEqual(queries.framed([message])[:2], bytes([0, len(message)]))

    def test_names_are_distinct_and_of_as_many_lengths_as_are_said(self):
        spread = [queries.name(number, "spread") for number in range(5_000)]
        self.assertEqual(len(set(spread)), 5_000)
        self.assertGreaterEqual(len({len(name) for name in spread}), 20)
        self.assertEqual(len({len(queries.name(number, "equal")) for number in range(5_000)}), 1)
        for shares in queries.LENGTHS.values():
            self.assertEqual(sum(share for _, share in shares), 100)

    def test_shuffling_and_turning_lose_nothing(self):
        messages = [bytes([number]) for number in range(100)]
        mixed = queries.shuffled(messages)
        self.assertEqual(sorted(mixed), messages)
        self.assertNotEqual(mixed, messages)
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "file"
            queries.write_rotated(path, messages[:4], 1, 4)
            self.assertEqual(path.read_bytes(), queries.framed([b"\1", b"\2", b"\3", b"\0"]))

    def test_neighbours_are_of_one_length_as_often_as_chance_has_it(self):
        by_chance = sum(share * share for _, share in queries.SPREAD) / 10_000
        for count in (1_000, 100_000):
            names = queries.shuffled([queries.name(number, "spread") for number in range(count)])
            equal = sum(len(one) == len(other) for one, other in zip(names, names[1:]))
            self.assertAlmostEqual(equal / count, by_chance, delta=0.02)

    def test_zones_are_asked_for_all_alike(self):
        zones = scale.zone_names(10)
        made = list(queries.queries(1_000, "spread", "mixed", zones))
        for zone in zones:
            self.assertEqual(sum(queries.wire(zone) in message for message in made), 100, zone)


FILES = (".conf", "Corefile")
# Forwarders without a mode.
UNABLE = [("pdns-recursor", "tcp")]
UNABLE += [(name, "dot") for name in ("dnsmasq", "bind9", "pdns-recursor")]
UNABLE += [(name, mode) for name in ("dnsmasq", "pdns-recursor") for mode in forwarders.FRONTS]
UNABLE += [(name, mode) for name in ("dnsdist", "unbound", "knot-resolver", "bind9")
           for mode in ("doq", "doq-handshakes")]


class Forwarders(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)

    def setting(self, mode, upstreams=(5301,)):
        return forwarders.Setting(mode, 5300, list(upstreams), Path(self.directory.name), front=5443)

    def test_each_peer_is_told_port_and_upstreams(self):
        for name, start in forwarders.PEERS.items():
            for mode in ("udp", "tcp", "dot", "hit", *forwarders.FRONTS):
                try:
                    command = start(self.setting(mode, (5301, 5302)))
                except forwarders.CannotDo as reason:
                    self.assertIn((name, mode), UNABLE, reason)
                    continue
                files = [path.read_text() for path in Path(self.directory.name).iterdir()]
                told = " ".join(str(word) for word in command) + "\n".join(files)
                for port in ("5300", "5301", "5302"):
                    self.assertIn(port, told, f"{name} {mode}")

    def test_each_authoritative_server_gets_port_and_zone(self):
        servers = forwarders.AUTHORITIES | {
            "onward": lambda setting: forwarders.onward(setting, "onward")}
        for name, start in servers.items():
            command = start(self.setting("zone"))
            files = [path.read_text() for path in Path(self.directory.name).iterdir()]
            told = " ".join(str(word) for word in command) + "\n".join(files)
            for word in ("5300", "served.zone", queries.ZONE):
                self.assertIn(word, told, name)
            self.assertNotIn("5301", told, name)
            for path in Path(self.directory.name).iterdir():
                path.unlink()

    def test_a_served_zone_has_a_record_for_each_name(self):
        text = queries.served_zone(3, "spread")
        for number in range(3):
            label = queries.name(number, "spread").split(".")[0]
            self.assertIn(f"\n{label} A 192.0.2.1\n", text)
        self.assertNotIn("*", text)

    def test_each_front_has_its_port_and_certificate(self):
        servers = forwarders.PEERS | {"onward": lambda setting: forwarders.onward(setting, "onward")}
        for name, start in servers.items():
            if (name, "doh") in UNABLE:
                continue
            for mode in ("doh", "doh-handshakes", "hit"):
                setting = self.setting(mode)
                setting.certificate, setting.key = Path("/shown.pem"), Path("/kept.key")
                path = Path(next(word for word in start(setting) if str(word).endswith(FILES)))
                for words in ("5443", "/shown.pem", "/kept.key"):
                    self.assertEqual(words in path.read_text(), mode != "hit", f"{name}: {words}")
        self.assertRaises(forwarders.CannotDo, forwarders.floor, self.setting("doh"), "floor")

    def test_fronts_are_asked_over_https_and_cold_ones_anew_each_time(self):
        words = rounds.transport(self.setting("doh"))
        self.assertEqual(words, ["--tcp", "--tls", "--doh", "--tls-ca", "certificate.pem"])
        words = rounds.transport(self.setting("doh-handshakes"))
        self.assertEqual(words[5:], ["--per-connection", "1", "--pipeline", "1", "--no-resumption"])
        self.assertEqual(rounds.transport(self.setting("hit")), [])
        self.assertEqual(rounds.transport(self.setting("doq"))[:2], ["--doq", "--tls-ca"])
        self.assertIn("quic://.:5443", forwarders.corefile(self.setting("doq")))
        self.assertEqual(rounds.transport(self.setting("tcp")), ["--tcp"])

    def test_caches_are_on_for_hits_only(self):
        self.assertIn("cache", forwarders.corefile(self.setting("hit")))
        self.assertNotIn("cache", forwarders.corefile(self.setting("udp")))

    def test_streams_carry_as_many_queries_as_are_asked(self):
        directory = Path(self.directory.name)
        for mode, told in (("tcp", 2), ("dot", 2), ("udp", 0)):
            forwarders.dnsdist(self.setting(mode))
            text = (directory / "dnsdist.conf").read_text()
            self.assertEqual(text.count(f"maxInFlight={forwarders.IN_FLIGHT}"), told, mode)
        forwarders.knot_resolver(self.setting("tcp"))
        text = (directory / "kresd.conf").read_text()
        self.assertIn(f"net.tcp_pipeline({forwarders.IN_FLIGHT})", text)

    def test_everybody_verifies_the_same_over_tls_and_nobody_is_asked_otherwise(self):
        onward = {"onward": lambda setting: forwarders.onward(setting, "onward")}
        told = {
            "onward": ["forward . tls://127.0.0.1:5301 {", "tls /ca.pem", "tls_servername localhost"],
            "dnsdist": ['tls="openssl"', 'caStore="/ca.pem"', 'subjectName="localhost"',
                        "validateCertificates=true"],
            "unbound": ["forward-tls-upstream: yes", 'tls-cert-bundle: "/ca.pem"',
                        "127.0.0.1@5301#localhost"],
            "knot-resolver": ["policy.TLS_FORWARD({ { '127.0.0.1@5301', hostname = 'localhost', "
                              "ca_file = '/ca.pem' } })"],
        }
        for name, start in (onward | forwarders.PEERS).items():
            if (name, "dot") in UNABLE:
                continue
            for mode in ("dot", "tcp"):
                setting = self.setting(mode)
                setting.authority = Path("/ca.pem")
                path = Path(next(word for word in start(setting) if str(word).endswith(FILES)))
                for words in told[name]:
                    self.assertEqual(words in path.read_text(), mode == "dot", f"{name}: {words}")
        self.assertRaises(forwarders.CannotDo, forwarders.floor, self.setting("dot"), "floor")

    def test_variants_stand_beside_what_tls_needs(self):
        setting = self.setting("dot")
        setting.lines = ["max_inflight 16"]
        text = forwarders.corefile(setting)
        self.assertEqual(text.count("forward . "), 1)
        self.assertIn("servername localhost\n        expire 600s\n        max_inflight 16\n    }\n", text)

    def test_variants_have_flags_and_lines(self):
        self.assertEqual(forwarders.variant("x=--a 1; gso auto;-b"), ("x", ["--a", "1", "-b"], ["gso auto"]))
        setting = self.setting("udp")
        setting.lines = ["gso auto"]
        self.assertIn(" {\n        gso auto\n    }\n", forwarders.corefile(setting))
        self.assertRaises(ValueError, forwarders.variant, "nothing")

    def test_an_extra_has_its_places_filled_in(self):
        start = forwarders.extra("x -p {port} {upstreams} --all={upstreams} 'a b' {config}")
        words = start(self.setting("udp", (5301, 5302)))
        self.assertEqual(words[:3], ["x", "-p", "5300"])
        self.assertEqual(words[3:5], ["127.0.0.1:5301", "127.0.0.1:5302"])
        self.assertEqual(words[5:7], ["--all=127.0.0.1:5301,127.0.0.1:5302", "a b"])
        self.assertIn("bind 127.0.0.1", Path(words[7]).read_text())


class Judge(unittest.TestCase):
    def test_a_slot_counts_everything_that_is_no_right_answer(self):
        counts = {"sent": 9, "answered": 5, "wrong": 1, "timed_out": 1, "lost": 1, "unfinished": 1,
                  "unsent": 0, "mismatched": 1, "stray": 0, "behind": 2,
                  "rcodes": {"NOERROR": 3, "SERVFAIL": 2}}
        told = {"counts": counts, "latency": None, "rate_answered": 5.0,
                "server": {"processor_per_answer": 1e-5, "memory_peak": 7}}
        found = judge.slot(told)
        self.assertEqual((found["lost"], found["behind"], found["p50_us"]), (7, 2, None))
        self.assertAlmostEqual(found["cpu_us"], 10.0)
        self.assertIsNone(judge.slot(told | {"server": None})["cpu_us"])

    def test_ratios_are_taken_within_rounds(self):
        # The third round was slow for both.
        costs = [(10.0, 11.0), (10.0, 10.5), (30.0, 33.0)]
        closed = [{"floor": slot(floor), "onward": slot(own)} for floor, own in costs]
        row = judge.row(case("udp", closed), "onward")
        self.assertAlmostEqual(row["ratio"], 1.1)
        self.assertEqual(row["cpu_us"], 11.0)

    def test_each_mode_has_its_limit(self):
        closed = [{"floor": slot(10.0), "onward": slot(10.6), "onward gso auto": slot(9.5)}] * 5
        gso = {"onward gso auto": True}
        udp = measured([case("udp", closed, gso)])
        self.assertEqual([each[1:] for each in udp], [(1.06, True), (0.95, True)])
        equal = measured([case("udp", closed, gso, "equal")])
        self.assertEqual([each[1:] for each in equal], [(1.06, True), (0.95, False)])
        hit = measured([case("hit", closed)])
        self.assertEqual([each[1:] for each in hit], [(1.06, False), (0.95, True)])
        self.assertEqual(measured([case("udp", closed, base=False)]), [])

    def test_streams_are_held_against_the_best_peer_that_loses_nothing(self):
        closed = [{"onward": slot(4.0), "a": slot(9.0), "b": slot(7.0, lost=50)}] * 5
        modes = (("tcp", "TCP to TCP"), ("dot", "UDP to TLS"), ("doh", "cache hits over HTTPS"))
        for mode, named in modes:
            [(what, ratio, met)] = measured([case(mode, closed)])
            self.assertEqual(what, f"{named}, against the best peer (a)")
            self.assertEqual((ratio, met), (0.444, True))
            [(_, ratio, met)] = measured([case(mode, [{"onward": slot(4.0), "a": slot(7.5)}] * 5)])
            self.assertEqual((ratio, met), (0.533, False))

    def test_a_zone_is_held_against_the_best_server_and_the_own_cache(self):
        each = {"onward": slot(6.0), judge.CACHED: slot(4.0), "nsd": slot(5.0), "bind9": slot(9.0)}
        found = measured([case("zone", [each] * 5)])
        self.assertEqual(found, [
            ("answers from a zone, against the best peer (nsd)", 1.2, False),
            ("answer from a zone, against a cache hit", 1.5, False),
        ])

    def test_losses_memory_and_few_rounds_are_told(self):
        closed = [{"floor": slot(10.0), "onward": slot(10.0, lost=1) | {"memory": 11_000_000}}]
        found = judge.verdicts([case("udp", closed)])
        self.assertEqual([each["met"] for each in found], [True, False, False])
        self.assertFalse(any(each["enough"] for each in found))

    def test_few_rounds_condemn_nobody_but_for_losses(self):
        dear = {"floor": slot(10.0), "onward": slot(12.0)}
        self.assertFalse(judge.holds([case("udp", [dear] * 5)]))
        self.assertTrue(judge.holds([case("udp", [dear] * 4)]))
        wrong = {"floor": slot(10.0), "onward": slot(9.0, lost=1)}
        self.assertFalse(judge.holds([case("udp", [wrong])]))

    def test_what_grows_is_told(self):
        grown = case("scale", [{"1 zone": slot(10.0), "2 zones": slot(11.5)}] * 5)
        [(what, ratio, met)] = measured([grown])
        self.assertIn("2 zones against 1 zone", what)
        self.assertEqual((ratio, met), (1.15, False))
        self.assertEqual(list(scale.floors(grown)), [])
        floors = {"floor, 1": slot(10.0), "floor, 2": slot(10.5)}
        grown = case("scale", [{"1": slot(9.0), "2": slot(9.9)} | floors] * 5)
        [(_, ratio, met)] = measured([grown])
        self.assertEqual((ratio, met), (1.1, True))
        [note] = scale.floors(grown)
        self.assertIn("cost is 1.050", note)
        self.assertEqual(judge.verdicts([grown | {"closed": []}]), [])

    def test_a_cache_that_asks_is_told(self):
        closed = [{"floor": slot(1.0) | {"upstream": 0}, "x": slot(1.0) | {"upstream": 500}}]
        [note] = rounds.missed(case("hit", closed))
        self.assertIn("x sent 500 of 1,000 queries to its upstream", note)


    def test_connections_that_do_not_stay_are_told(self):
        closed = [{"x": slot(1.0) | {"upstream": 500, "flows": 250}}] * 2
        self.assertEqual(list(rounds.dialled(case("dot", closed))),
                         ["x opened 500 connections during the measurement, for 1,000 queries."])


class Table(unittest.TestCase):
    def test_everything_is_in_it(self):
        closed = [{"floor": slot(10.0), "onward": slot(12.0), "lazy": slot(None, lost=3)}] * 5
        result = {"title": "t", "command": "benches/peers/run", "date": "today", "host": "here",
                  "versions": "v", "cases": [case("udp", closed)]}
        text = table.markdown(result)
        self.assertIn("| onward | 12.00 | 1.200 (1.20 … 1.20) | 1,000 | 0 | 5.0 | 5 |", text)
        self.assertIn("| lazy | - | - | 1,000 | 15 of 5,000 |", text)
        self.assertIn("* a note", text)
        target = "forward UDP, against the bare relay"
        self.assertIn(f"| {target} | a case | onward | 1.200 | 1.08 | **no** |", text)
        self.assertNotIn("p99", text)


if __name__ == "__main__":
    unittest.main()
