"""Tests of the parts that need no namespaces: figures, answers, tables, missing requirements.

    python3 benches/card/tests.py
"""

import sys

sys.dont_write_bytecode = True

import os
import socket
import subprocess
import tempfile
import threading
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "peers"))

import forwarders
import lab
import play
import queries
import report

STAT = """\
cpu  999 0 999 999 0 999 999 0 0 0
cpu0 100 20 30 9000 500 4 6 700 0 0
cpu10 1 1 1 1 1 1 1 1 0 0
cpu1 7 0 0 0 0 0 0 0 0 0
intr 1
"""
QUERY = queries.query("a.example", queries.TYPE_A)


def answered(query, flags=0x8180, records=1):
    """A response with an address record, and the OPT record that loadgen's upstream adds."""
    head, question = play.HEADER.pack(0, flags, 1, records, 0, 1)[2:], query[12:-queries.OPT_LEN]
    return query[:2] + head + question + b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\2\1" * records


def slot(core, lost=0):
    return {"core_us": core, "cpu_us": core / 2, "thread_us": core / 4, "rate": 1000.0,
            "p50_us": core, "p99_us": 2 * core, "sent": 100, "lost": lost}


def case(mode, closed):
    return {"name": "a case", "what": "what", "mode": mode, "notes": ["a note"], "closed": closed,
            "names": list(closed[0]), "floor": next(iter(closed[0]))}


class Lab(unittest.TestCase):
    def test_a_core_is_busy_unless_it_is_idle_waits_or_is_not_there(self):
        self.assertEqual(lab.busy_seconds(STAT, 0, 100), 1.6)
        self.assertEqual(lab.busy_seconds(STAT, 1, 100), 0.07)
        self.assertRaises(ValueError, lab.busy_seconds, STAT, 2, 100)

    def test_threads_are_told_apart_by_their_whole_device(self):
        names = {1: "napi/f12-8", 2: "napi/f123-8", 3: "napi/f12-9", 4: "f12-8", 5: "napi/o12-8"}
        self.assertEqual(lab.threads_of("f12", names), [1, 3])

    def test_what_a_host_lacks_is_said(self):
        both = (0, 1)
        self.assertIsNone(lab.lacking(0, lambda name: name, both))
        self.assertIn("run it as root", lab.lacking(1000, lambda name: name, both))
        lacking = lab.lacking(0, {"ip": "/sbin/ip"}.get, both)
        self.assertEqual(lacking, "not installed: ethtool, taskset")
        self.assertIn("two cores", lab.lacking(0, lambda name: name, (0, 0)))

    def test_two_labs_share_no_name(self):
        one = lab.Lab((0, 1))
        names = [end.namespace for end in one.ends] + [end.device for end in one.ends]
        self.assertEqual(len(set(names)), 4)
        longest = max(len(end.device) for end in one.ends)
        self.assertLessEqual(longest, 15, "Linux takes no longer name of a device")
        self.assertTrue(all(str(os.getpid()) in name for name in names))


class Play(unittest.TestCase):
    def test_work_is_shared_among_the_answers(self):
        found = play.per_answer((1.0, 0.5), (1.5, 0.6), 50_000)
        self.assertAlmostEqual(found["core_us"], 10.0)
        self.assertAlmostEqual(found["thread_us"], 2.0)
        self.assertEqual(play.per_answer((1, 1), (2, 2), 0), {"core_us": None, "thread_us": None})

    def test_percentiles_are_of_what_was_measured(self):
        found = play.percentiles([number / 1e6 for number in range(100, 0, -1)])
        self.assertAlmostEqual(found["p50_us"], 51)
        self.assertAlmostEqual(found["p99_us"], 100)
        self.assertEqual(play.percentiles([]), {"p50_us": None, "p99_us": None})

    def test_an_answer_has_the_id_and_the_question_and_a_record(self):
        query = play.with_id(QUERY, 7)
        good = answered(query)
        self.assertTrue(play.is_answer(query, good))
        self.assertFalse(play.is_answer(play.with_id(QUERY, 8), good))
        self.assertFalse(play.is_answer(play.with_id(queries.query("b.example", 1), 7), good))
        self.assertFalse(play.is_answer(query, query))
        self.assertFalse(play.is_answer(query, answered(query, 0x8182)))
        self.assertFalse(play.is_answer(query, answered(query, records=0)))
        self.assertFalse(play.is_answer(query, b""))
        self.assertFalse(play.is_answer(query, good[:20]))

    def test_who_asks_counts_answers_and_whatever_is_none(self):
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("127.0.0.1", 0))

        def serve():
            served = 0
            while (packet := server.recvfrom(4096))[0] != b"end":
                flags = 0x8182 if served % 4 == 3 else 0x8180
                server.sendto(answered(packet[0], flags), packet[1])
                served += 1

        thread = threading.Thread(target=serve)
        thread.start()
        latencies, lost = play.ask(server.getsockname(), [QUERY], 0.05)
        server.sendto(b"end", server.getsockname())
        thread.join()
        server.close()
        self.assertEqual(lost, (len(latencies) + lost) // 4)
        self.assertGreater(len(latencies), 0)
        self.assertTrue(all(0 < latency < 1 for latency in latencies))

    def test_the_forwarders_are_told_both_ends(self):
        with tempfile.TemporaryDirectory() as directory:
            setting = forwarders.Setting(
                "udp", 5300, [5301], Path(directory), address="198.18.0.1",
                upstream_address="198.18.0.2")
            taking_part = play.contestants("onward", "floor")
            told = {name: starter(setting) for name, starter in taking_part.items()}
            text = (Path(directory) / "Corefile").read_text()
        self.assertEqual(told["floor"], ["floor", "relay", "198.18.0.1:5300", "198.18.0.2:5301"])
        self.assertEqual(told["onward --gso off"][-2:], ["--gso", "off"])
        self.assertNotIn("--gso", told["onward"])
        self.assertIn("bind 198.18.0.1\n", text)
        self.assertIn("forward . 198.18.0.2:5301\n", text)


class Report(unittest.TestCase):
    def test_the_ratio_is_of_the_core_in_the_same_round(self):
        costs = [(10.0, 8.0), (30.0, 24.0), (10.0, 9.0)]
        closed = [{"floor": slot(floor), "onward": slot(own)} for floor, own in costs]
        [floor, own] = report.summary(case("udp", closed))
        self.assertEqual((floor["ratio"], own["ratio"], own["ratio_high"]), (1.0, 0.8, 0.9))
        self.assertEqual((own["core_us"], own["cpu_us"], own["thread_us"]), (9.0, 4.5, 2.25))

    def test_everything_is_in_the_tables(self):
        closed = [{"floor": slot(10.0), "onward": slot(8.0, lost=1)}]
        polls = [{"busy-poll 0": slot(100.0) | {"busy": 0.3},
                  "busy-poll 9": slot(50.0) | {"busy": 1.0}}]
        result = {"title": "t", "command": "benches/card/run", "date": "today", "host": "here",
                  "versions": "v", "cases": [case("udp", closed), case("poll", polls)]}
        text = report.markdown(result)
        own = "| onward | 8.00 | 0.800 (0.80 … 0.80) | 4.00 | 2.00 | 1,000 | 1 of 100 | 1 |"
        self.assertIn(own, text)
        polled = "| busy-poll 9 | 50.0 | 100.0 | 0.500 (0.50 … 0.50) | 1,000 | 100 % |"
        self.assertIn(polled, text)
        self.assertIn("* a note", text)
        self.assertFalse(report.nothing_lost(result["cases"]))
        self.assertTrue(report.nothing_lost(result["cases"][1:]))


class Run(unittest.TestCase):
    def run_it(self, *words, **how):
        return subprocess.run([sys.executable, str(HERE / "run"), *words], capture_output=True,
                              text=True, timeout=60, check=False, **how)

    def test_what_is_not_known_is_refused(self):
        for words in (["--modes", "tcp"], ["--lengths", "odd"], ["--handed-over", "x"],
                      ["--rounds", "0"], ["--keep", "a/b"]):
            self.assertEqual(self.run_it(*words).returncode, 2, words)


if __name__ == "__main__":
    unittest.main()
