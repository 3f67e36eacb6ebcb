"""What is asked: names, the query files that loadgen reads, and the zone of the upstream.

Names end in ZONE. With the lengths `spread` they are as long as names are in the wild, 24 different
lengths; with `equal` all are of one. Each query ends with an OPT record without options: the bare
responder relies on that. Pure but for `write`.
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
# Digits of a name's number: room for 33 million names, always written whole.
DIGITS = "abcdefghijklmnopqrstuvwxyz234567"
DIGITS_COUNT = 5
# Letters that are put before the number, and how often of a hundred: most names are short, a few
# are long.
SPREAD = (
    (0, 3), (1, 4), (2, 5), (3, 6), (4, 7), (5, 8), (6, 8), (7, 8), (8, 7), (9, 7), (10, 6), (11, 5),
    (12, 5), (13, 4), (14, 3), (15, 3), (16, 2), (18, 2), (20, 2), (23, 1), (26, 1), (30, 1), (36, 1),
    (44, 1),
)
EQUAL = ((7, 100),)
LENGTHS = {"spread": SPREAD, "equal": EQUAL}
# Every so manieth question is for an AAAA record where lengths are spread.
AAAA_EVERY = 4
# Steps from one name's length, and from one file's place, to the next: prime to what they divide.
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
    """How many letters stand before the number: by share, and so that neighbours differ."""
    place = number * STRIDE % 100
    for letters, share in LENGTHS[lengths]:
        if place < share:
            return letters
        place -= share
    raise AssertionError("the shares are a hundred")


def name(number, lengths, zone=ZONE):
    return f"{'n' * letters_before(number, lengths)}{number_label(number)}.{zone}"


def query(qname, qtype):
    """A message as clients send it; whoever sends it chooses the id."""
    header = struct.pack("!6H", 0, RECURSION_DESIRED, 1, 0, 0, 1)
    opt = struct.pack("!BHHIH", 0, TYPE_OPT, UDP_SIZE, 0, 0)
    return header + wire(qname) + struct.pack("!2H", qtype, CLASS_IN) + opt


def queries(count, lengths, types="mixed", zones=(ZONE,)):
    """`count` queries for as many names; those of several zones in turn."""
    for number in range(count):
        mixed = types == "mixed" and number % AAAA_EVERY == AAAA_EVERY - 1
        zone = zones[number * STRIDE % len(zones)]
        yield query(name(number, lengths, zone), TYPE_AAAA if mixed else TYPE_A)


def framed(messages):
    """The file that `loadgen run --queries-binary` reads: each message behind its length."""
    return b"".join(struct.pack("!H", len(message)) + message for message in messages)


def write(path, count, lengths, types="mixed", zones=(ZONE,)):
    path.write_bytes(framed(queries(count, lengths, types, zones)))


def write_rotated(path, messages, part, parts):
    """The same messages, begun at another place: a run is too short to ask all of many."""
    start = len(messages) * part // parts
    path.write_bytes(framed(messages[start:] + messages[:start]))


def shuffled(messages):
    """In an order that no processor guesses, the same every time. Steps of one width would do for
    that, but give neighbours lengths that have to do with each other."""
    return random.Random(0).sample(messages, len(messages))


def zone_file():
    """One address for all names, which the bare responder knows, and for a day: nothing expires."""
    return (
        f"$ORIGIN {ZONE}.\n$TTL 86400\n"
        "@ IN SOA ns admin 1 3600 600 604800 3600\n@ IN NS ns\n* IN A 192.0.2.1\n"
    )
