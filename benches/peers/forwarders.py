"""Configuration, command and limitations of each forwarder and authoritative server.

A `Setting` describes the demands of a case. Each entry of `PEERS` writes its files into a
directory of its own and returns the command, or raises CannotDo with a reason. Each forwarder has
one worker, its largest useful buffers, no cache when forwarding and a large one when hits are
measured, and no extra work: no validation, no log. Over TLS all verify the same certificate for the
same name, and all show the same certificate to clients; a forwarder that cannot is left out. Pure
except for the files.
"""

import shlex
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from queries import ZONE

# Debian packages, by command.
PACKAGES = {
    "dnsdist": ("dnsdist", "dnsdist"),
    "unbound": ("unbound", "unbound"),
    "dnsmasq": ("dnsmasq", "dnsmasq-base"),
    "knot-resolver": ("kresd", "knot-resolver"),
    "bind9": ("named", "bind9"),
    "pdns-recursor": ("pdns_recursor", "pdns-recursor"),
    "nsd": ("nsd", "nsd"),
}
# Directories of daemons on Debian, which are not in every PATH.
PLACES = "/usr/sbin:/sbin:/usr/local/sbin"
# Host name in the upstream's certificate.
SERVER_NAME = "localhost"
# Modes whose clients use an encrypted transport, and its scheme.
FRONTS = {"doh": "https", "doh-handshakes": "https", "doq": "quic", "doq-handshakes": "quic"}
# Queries per connection, for forwarders whose default is too low: more would wait or fail.
IN_FLIGHT = 1000


@dataclass
class Setting:
    """The demands of a case on a contestant."""

    mode: str  # udp, tcp, dot, hit, zone, or one of FRONTS
    port: int
    upstreams: list  # their ports
    directory: Path
    cores: str = "0"
    names: int = 1_000_000
    # For onward alone: more flags, lines of its forward block, and routed zones.
    flags: list = field(default_factory=list)
    lines: list = field(default_factory=list)
    zones: list = field(default_factory=list)
    # The zone's file, for authoritative servers.
    zone_file: Path = Path("served.zone")
    # CA of the upstreams' certificates.
    authority: Path = Path("authority.pem")
    # Port for clients of an encrypted transport; `port` is also for DNS over UDP then.
    front: int = 0
    # Certificate and key that such clients see.
    certificate: Path = Path("certificate.pem")
    key: Path = Path("key.pem")
    # For onward and the floor: listen address, and address of the upstreams.
    address: str = "127.0.0.1"
    upstream_address: str = "127.0.0.1"

    @property
    def caches(self):
        return self.mode == "hit" or bool(self.scheme)

    @property
    def scheme(self):
        """Scheme of the encrypted transport of clients, if they use one."""
        return FRONTS.get(self.mode)

    @property
    def streams(self):
        """True if upstreams are queried over TCP or TLS."""
        return self.mode in ("tcp", "dot")

    @property
    def secure(self):
        """True if upstreams are queried over TLS."""
        return self.mode == "dot"

    def entries(self):
        """Cache entries: room for all names and a reserve."""
        return max(10_000, self.names * 5 // 4)

    def write(self, name, text):
        path = self.directory / name
        path.write_text(text)
        return str(path)

    def addresses(self, between=":"):
        return [f"{self.upstream_address}{between}{port}" for port in self.upstreams]


class CannotDo(Exception):
    """The forwarder does not support the mode."""


def https_alone(setting):
    """Refuses modes of clients that no forwarder of Debian 12 has but onward."""
    if setting.scheme == "quic":
        raise CannotDo("its version in Debian 12 does not serve DNS over QUIC")


def no_fronts(setting):
    if setting.scheme:
        raise CannotDo(f"it does not serve {setting.scheme}://")


def find(command):
    """Path of a command, searched also in administrators' directories."""
    return shutil.which(command) or shutil.which(command, path=PLACES)


def corefile(setting):
    """The Corefile of onward, which other programs may read too."""
    scheme = "tls://" if setting.secure else ""
    forward = ["    forward . " + " ".join(scheme + address for address in setting.addresses())]
    lines = setting.lines
    if setting.secure:
        # While others are queried, connections are idle for longer than the default expire.
        secure = [f"tls {setting.authority}", f"tls_servername {SERVER_NAME}", "expire 600s"]
        lines = secure + lines
    if lines:
        forward[0] += " {"
        forward += [f"        {line}" for line in lines] + ["    }"]
    if setting.mode == "zone":
        forward = [f"    file {setting.zone_file} {ZONE}"]
    cache = [f"    cache {{\n        success {setting.entries()} 86400\n    }}"] if setting.caches else []
    shown = [f"    tls {setting.certificate} {setting.key}"] if setting.scheme else []
    body = "\n".join([f"    bind {setting.address}", *shown, *cache, *forward])
    # All zones share a block and so its connections: only the routing differs.
    keys = " ".join(f"{zone}:{setting.port}" for zone in setting.zones or ["."])
    keys += f" {setting.scheme}://.:{setting.front}" if setting.scheme else ""
    return f"{keys} {{\n{body}\n}}\n"


def onward(setting, program):
    path = setting.write("Corefile", corefile(setting))
    return [program, "--conf", path, "--cores", setting.cores, "--quiet", *setting.flags]


def floor(setting, program, gso=False):
    no_fronts(setting)
    listen = f"{setting.address}:{setting.port}"
    if setting.mode == "hit":
        return [program, "responder", listen]
    if setting.streams:
        raise CannotDo("the floor moves datagrams only")
    joined = ["--gso"] if gso else []
    return [program, "relay", *joined, listen, *setting.addresses()]


def dnsdist(setting):
    https_alone(setting)
    doh = f'addDOHLocal("127.0.0.1:{setting.front}", "{setting.certificate}", "{setting.key}")'
    told = "checkInterval=3600, maxCheckFailures=100"
    # Otherwise a connection has one query at a time, also a client's.
    in_flight = f"maxInFlight={IN_FLIGHT}" if setting.streams else ""
    told += f", {in_flight}" if in_flight else ""
    if setting.secure:
        told += f', tls="openssl", caStore="{setting.authority}", subjectName="{SERVER_NAME}"'
        told += ", validateCertificates=true"
    servers = [f'newServer({{address="{address}", {told}}})' for address in setting.addresses()]
    caching = [
        f"cache = newPacketCache({setting.entries()}, {{maxTTL=86400}})",
        'getPool(""):setCache(cache)',
    ]
    path = setting.write("dnsdist.conf", "\n".join([
        f'setLocal("127.0.0.1:{setting.port}", {{{in_flight}}})',
        'setACL("127.0.0.0/8")',
        'setSecurityPollSuffix("")',
        "setMaxTCPClientThreads(1)",
        "setMaxUDPOutstanding(65535)",
        "setUDPSocketBufferSizes(4194304, 4194304)",
        "setUDPMultipleMessagesVectorSize(64)",
        *servers,
        *(caching if setting.caches else []),
        *([doh] if setting.scheme else []),
        "",
    ]))
    return [find("dnsdist"), "--supervised", "--disable-syslog", "-C", path]


def unbound(setting):
    https_alone(setting)
    doh = f"""  interface: 127.0.0.1@{setting.front}
  https-port: {setting.front}
  tls-service-pem: "{setting.certificate}"
  tls-service-key: "{setting.key}"
""" if setting.scheme else ""
    # It verifies only upstreams with a given name.
    named = f"#{SERVER_NAME}" if setting.secure else ""
    forwards = "".join(f"  forward-addr: {address}{named}\n" for address in setting.addresses("@"))
    trusted = f'  tls-cert-bundle: "{setting.authority}"\n' if setting.secure else ""
    megabytes = max(64, setting.entries() // 2000)
    path = setting.write("unbound.conf", f"""server:
  verbosity: 0
  interface: 127.0.0.1@{setting.port}
{doh}  access-control: 127.0.0.0/8 allow
  do-daemonize: no
  use-syslog: no
  username: ""
  chroot: ""
  directory: "{setting.directory}"
  pidfile: ""
  num-threads: 1
  so-rcvbuf: 4m
  so-sndbuf: 4m
  do-not-query-localhost: no
  module-config: "iterator"
  outgoing-range: 8192
  num-queries-per-thread: 4096
  incoming-num-tcp: 256
  outgoing-num-tcp: 256
  msg-cache-size: {megabytes}m
  rrset-cache-size: {2 * megabytes}m
  tcp-upstream: {"yes" if setting.mode == "tcp" else "no"}
{trusted}remote-control:
  control-enable: no
forward-zone:
  name: "."
{forwards}  forward-no-cache: {"no" if setting.caches else "yes"}
  forward-tls-upstream: {"yes" if setting.secure else "no"}
""")
    return [find("unbound"), "-d", "-c", path]


def dnsmasq(setting):
    no_fronts(setting)
    if setting.secure:
        raise CannotDo("it does not support TLS")
    command = [find("dnsmasq"), "--keep-in-foreground", "--conf-file=/dev/null", "--user=root"]
    command += ["--listen-address=127.0.0.1", "--bind-interfaces", f"--port={setting.port}"]
    command += ["--no-resolv", "--no-hosts", "--pid-file=", "--dns-forward-max=10000"]
    # It accepts more than 10,000, with a warning.
    command.append(f"--cache-size={setting.entries() if setting.caches else 0}")
    return command + [f"--server={address}" for address in setting.addresses("#")]


def knot_resolver(setting):
    https_alone(setting)
    doh = f"""net.tls('{setting.certificate}', '{setting.key}')
net.listen('127.0.0.1', {setting.front}, {{ kind = 'doh2' }})
""" if setting.scheme else ""
    if len(setting.upstreams) > 4:
        raise CannotDo("it forwards to four upstreams at most")
    # Flags disable its cache and select TCP upstreams.
    flags = [] if setting.caches else ["NO_CACHE"]
    flags += ["TCP"] if setting.mode == "tcp" else []
    flagged = "".join(f"policy.add(policy.all(policy.FLAGS('{flag}')))\n" for flag in flags)
    targets = ", ".join(f"'{address}'" for address in setting.addresses("@"))
    action = f"policy.STUB({{ {targets} }})"
    if setting.secure:
        known = f"hostname = '{SERVER_NAME}', ca_file = '{setting.authority}'"
        targets = ", ".join(f"{{ '{address}', {known} }}" for address in setting.addresses("@"))
        action = f"policy.TLS_FORWARD({{ {targets} }})"
    megabytes = max(100, setting.entries() // 1000)
    path = setting.write("kresd.conf", f"""net.listen('127.0.0.1', {setting.port}, {{ kind = 'dns' }})
{doh}log_level('crit')
net.tcp_pipeline({IN_FLIGHT})
trust_anchors.remove('.')
modules.unload('ta_update')
modules.unload('ta_signal_query')
modules.unload('priming')
modules.unload('detect_time_skew')
modules.unload('detect_time_jump')
cache.size = {megabytes} * MB
{flagged}policy.add(policy.all({action}))
""")
    return [find("kresd"), "-n", "-c", path, str(setting.directory)]


def bind9_places(setting):
    """Options of named: its directory and address, and no other files."""
    doh = f"  listen-on port {setting.front} tls shown http default {{ 127.0.0.1; }};\n"
    return (doh if setting.scheme else "") + f"""  directory "{setting.directory}";
  listen-on port {setting.port} {{ 127.0.0.1; }};
  listen-on-v6 {{ none; }};
  pid-file none;
  session-keyfile none;
  lock-file none;
"""


def bind9(setting):
    https_alone(setting)
    shown = f'tls shown {{ cert-file "{setting.certificate}"; key-file "{setting.key}"; }};\n'
    shown = shown if setting.scheme else ""
    if setting.secure:
        raise CannotDo("version 9.18 forwards over UDP and TCP only")
    forwarders = " ".join(f"127.0.0.1 port {port};" for port in setting.upstreams)
    off = "" if setting.caches else "  max-cache-ttl 0;\n  max-ncache-ttl 0;\n"
    over_tcp = "server 127.0.0.1 { tcp-only yes; };\n" if setting.mode == "tcp" else ""
    path = setting.write("named.conf", f"""{shown}options {{
{bind9_places(setting)}  recursion yes;
  allow-query {{ any; }};
  forward only;
  forwarders {{ {forwarders} }};
  dnssec-validation no;
  empty-zones-enable no;
  querylog no;
  minimal-responses yes;
  recursive-clients 20000;
  tcp-clients 1000;
  max-cache-size {max(64, setting.entries() // 1000)}m;
  servfail-ttl 0;
{off}}};
controls {{ }};
logging {{ category default {{ null; }}; }};
{over_tcp}""")
    return [find("named"), "-f", "-n", "1", "-c", path]


def bind9_zone(setting):
    path = setting.write("named.conf", f"""options {{
{bind9_places(setting)}  recursion no;
  allow-query {{ any; }};
  empty-zones-enable no;
  querylog no;
}};
zone "{ZONE}" {{ type primary; file "{setting.zone_file}"; }};
controls {{ }};
logging {{ category default {{ null; }}; }};
""")
    return [find("named"), "-f", "-n", "1", "-c", path]


def nsd(setting):
    path = setting.write("nsd.conf", f"""server:
  ip-address: 127.0.0.1@{setting.port}
  server-count: 1
  username: ""
  pidfile: ""
  zonesdir: "{setting.directory}"
  zonelistfile: "{setting.directory}/zones"
  xfrdfile: ""
  xfrdir: "{setting.directory}"
remote-control:
  control-enable: no
zone:
  name: "{ZONE}"
  zonefile: "{setting.zone_file}"
""")
    return [find("nsd"), "-d", "-c", path]


def pdns_recursor(setting):
    no_fronts(setting)
    if setting.mode == "tcp":
        raise CannotDo("it queries its upstreams over UDP, whatever its clients use")
    if setting.secure:
        raise CannotDo("it would not verify the certificate")
    forwards = ";".join(setting.addresses())
    if setting.caches:
        caching = f"max-packetcache-entries={setting.entries()}\nmax-cache-entries={setting.entries()}"
        # Both would expire queried names too early.
        caching += "\nmax-cache-ttl=86400\npacketcache-ttl=86400"
    else:
        caching = "disable-packetcache=yes\nmax-cache-entries=1\nmax-cache-ttl=15"
    setting.write("recursor.conf", f"""local-address=127.0.0.1
local-port={setting.port}
socket-dir={setting.directory}
daemon=no
threads=1
pdns-distributes-queries=no
reuseport=no
forward-zones-recurse=.={forwards}
dont-query=
dnssec=off
qname-minimization=no
security-poll-suffix=
max-mthreads=4096
loglevel=0
quiet=yes
{caching}
""")
    return [find("pdns_recursor"), f"--config-dir={setting.directory}"]


PEERS = {
    "dnsdist": dnsdist,
    "unbound": unbound,
    "dnsmasq": dnsmasq,
    "knot-resolver": knot_resolver,
    "bind9": bind9,
    "pdns-recursor": pdns_recursor,
}
# Servers of zones.
AUTHORITIES = {"nsd": nsd, "bind9": bind9_zone}


def extra(command):
    """Any other forwarder: its command, in which {port}, {front}, {certificate}, {key}, {upstreams}
    and {config} are filled in."""

    def start(setting):
        path = setting.write("Corefile", corefile(setting))
        words = []
        for word in shlex.split(command):
            if word == "{upstreams}":
                words += setting.addresses()
            else:
                filled = word.replace("{port}", str(setting.port)).replace("{config}", path)
                for place in ("front", "certificate", "key"):
                    filled = filled.replace(f"{{{place}}}", str(getattr(setting, place)))
                words.append(filled.replace("{upstreams}", ",".join(setting.addresses())))
        return words

    return start


def named_value(text):
    """Parses NAME=VALUE of --extra and --variant."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ValueError(f"`{text}`: write NAME='…'")
    return name, value


def variant(text):
    """Parses the value of --variant: flags of onward begin with a dash, any other word, up to a
    semicolon, belongs to a line of its forward block."""
    name, value = named_value(text)
    flags, lines = [], []
    for part in filter(None, (part.strip() for part in value.split(";"))):
        (flags if part.startswith("-") else lines).append(part)
    return name, [word for part in flags for word in shlex.split(part)], lines
