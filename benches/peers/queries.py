"""Queries: names, the query files of loadgen, and the zone of the upstream.

Names end in ZONE. The lengths `spread` are 24 different lengths, distributed as in real traffic;
with `equal` all lengths are the same. Each query ends with an OPT record without options, on which
the bare responder relies. Pure except for `write`.
"""

import random
import struct

ZONE = "bench.example"
TYPE_A, TYPE_AAAA, TYPE_OPT = 1, 28, 41
CLASS_IN = 1
UDP_SIZE = 1232
RECURSION_DESIRED = 0x0100
# An OPT record without options.
OPT_LEN = 11
# Digits of a name's number: room for 33 million names, always of full length.
DIGITS = "abcdefghijklmnopqrstuvwxyz234567"
DIGITS_COUNT = 5
# Letters in front of the number, with percentages: most names are short, a few are long.
SPREAD = (
    (0, 3), (1, 4), (2, 5), (3, 6), (4, 7), (5, 8), (6, 8), (7, 8), (8, 7), (9, 7), (10, 6), (11, 5),
    (12, 5), (13, 4), (14, 3), (15, 3), (16, 2), (18, 2), (20, 2), (23, 1), (26, 1), (30, 1), (36, 1),
    (44, 1),
)
EQUAL = ((7, 100),)
LENGTHS = {"spread": SPREAD, "equal": EQUAL}
# With spread lengths one question in this many is for AAAA.
AAAA_EVERY = 4
# Steps between the lengths of names, and between offsets of files: coprime to the totals.
STRIDE = 37


def wire(name):
    labels = name.rstrip(".").split(".")
    return b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"


def number_label(number):
    digits = ""
    for _ in range(DIGITS_COUNT):
        digits = DIGITS[number & 31] + digits
        number >>= 5
    return digits


def letters_before(number, lengths):
    """Number of letters before the number: by share, and different for neighbours."""
    place = number * STRIDE % 100
    for letters, share in LENGTHS[lengths]:
        if place < share:
            return letters
        place -= share
    raise AssertionError("the shares are a hundred")


def name(number, lengths, zone=ZONE):
    return f"{'n' * letters_before(number, lengths)}{number_label(number)}.{zone}"


def query(qname, qtype):
    """A client's message, whose ID is set by the sender."""
    header = struct.pack("!6H", 0, RECURSION_DESIRED, 1, 0, 0, 1)
    opt = struct.pack("!BHHIH", 0, TYPE_OPT, UDP_SIZE, 0, 0)
    return header + wire(qname) + struct.pack("!2H", qtype, CLASS_IN) + opt


def queries(count, lengths, types="mixed", zones=(ZONE,)):
    """`count` queries for as many names; several zones are used in turn."""
    for number in range(count):
        mixed = types == "mixed" and number % AAAA_EVERY == AAAA_EVERY - 1
        zone = zones[number * STRIDE % len(zones)]
        yield query(name(number, lengths, zone), TYPE_AAAA if mixed else TYPE_A)


def framed(messages):
    """The format of `loadgen run --queries-binary`: each message behind its length."""
    return b"".join(struct.pack("!H", len(message)) + message for message in messages)


def write(path, count, lengths, types="mixed", zones=(ZONE,)):
    path.write_bytes(framed(queries(count, lengths, types, zones)))


def write_rotated(path, messages, part, parts):
    """The same messages from another start: a run is too short for all of a large file."""
    start = len(messages) * part // parts
    path.write_bytes(framed(messages[start:] + messages[:start]))


def shuffled(messages):
    """The messages in a fixed order that no processor can predict. Steps of one width would also be
    unpredictable, but correlate the lengths of neighbours."""
    return random.Random(0).sample(messages, len(messages))


def served_zone(count, lengths):
    """A zone for servers with a record for each name: the answers are those of `zone_file`."""
    head = zone_file().rsplit("*", 1)[0]
    names = (name(number, lengths).removesuffix(f".{ZONE}") for number in range(count))
    return head + "ns A 192.0.2.1\n" + "".join(f"{each} A 192.0.2.1\n" for each in names)


def zone_file():
    """One address for all names, as from the bare responder, with a TTL of a day: nothing expires."""
    return (
        f"$ORIGIN {ZONE}.\n$TTL 86400\n"
        "@ IN SOA ns admin 1 3600 600 604800 3600\n@ IN NS ns\n* IN A 192.0.2.1\n"
    )
