//! The lab: a client's network namespace, one of backends, and a virtual address between them.
//!
//! ```text
//! client namespace                                    namespace of the backends
//!   load client ──► forwarder ──► 10.96.0.53:53         10.77.1.2  backend 1
//!        output: conntrack, DNAT at random per flow ──► 10.77.2.2  backend 2
//!        a link for each backend                        10.77.3.2  backend 3 …
//! ```
//!
//! Its rules treat a flow as a ClusterIP does: the first packet draws a backend, conntrack keeps
//! it. A backend that is not ready is removed from the map and its entries are flushed; one that is
//! ready again is put into the map, and existing flows stay where they are. Everything happens in
//! the two namespaces, whose names no other process uses; dropping the lab removes them. Programs
//! inside are started by `ip netns exec`, so this process stays in its own namespace.

use super::nft::{self, Fault};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The virtual address, in the range that clusters use for their services.
pub const VIRTUAL: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 53);
/// The client's own address, on no link, so that replies arrive whichever link is down.
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
/// Address of the forwarder, on the loopback of its namespace.
pub const FORWARDER: &str = "127.0.0.1:5300";
/// Ephemeral ports of the forwarder. With fewer of them a port would often be reused while
/// conntrack still maps it to its old backend, and that would distort the measurement.
const PORTS: &str = "1024 65535";
/// The required commands, and their packages in Debian.
const TOOLS: [(&str, &str); 3] =
    [("ip", "iproute2"), ("nft", "nftables"), ("conntrack", "conntrack")];
/// Directories of tools besides those in PATH.
const PLACES: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// Returns a sentence about a requirement that is missing.
pub fn missing() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if effective_user(&status) != Some(0) {
        return Some("only root can create network namespaces: run loadgen as root".into());
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let places = || path.split(':').chain(PLACES);
    let is_there = |tool: &str| places().any(|place| Path::new(place).join(tool).is_file());
    let missing: Vec<_> = TOOLS.iter().filter(|(tool, _)| !is_there(tool)).collect();
    if missing.is_empty() {
        return None;
    }
    let commands: Vec<&str> = missing.iter().map(|(tool, _)| *tool).collect();
    let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    let (commands, packages) = (commands.join(", "), packages.join(" "));
    Some(format!("not installed: {commands}. On Debian: apt-get install {packages}"))
}

/// Returns the second number after `Uid:`, the effective user.
fn effective_user(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Two namespaces with a virtual address between them. Dropping it removes them.
pub struct Lab {
    client: String,
    backends: String,
    count: usize,
}

impl Lab {
    /// Creates namespaces with `count` backends, none of which is behind the virtual address yet.
    /// Conntrack forgets a silent flow after `memory`. `name` distinguishes labs of one process.
    ///
    /// # Errors
    /// A command failed, with its output. The parts created so far are removed.
    pub fn build(count: usize, memory: Duration, name: &str) -> io::Result<Self> {
        let prefix = format!("incident-{}-{name}", std::process::id());
        let (client, backends) = (format!("{prefix}-client"), format!("{prefix}-backends"));
        run(Command::new(tool("ip")).args(["netns", "add", &client]))?;
        let lab = Self { client, backends, count };
        run(Command::new(tool("ip")).args(["netns", "add", &lab.backends]))?;
        for number in 1..=count {
            let (here, there) = (format!("c{number}"), format!("b{number}"));
            run(Command::new(tool("ip"))
                .args(["link", "add", &here, "netns", &lab.client])
                .args(["type", "veth", "peer", "name", &there, "netns", &lab.backends]))?;
        }
        lab.inside_client(&lab.client_setup(memory))?;
        lab.inside_backends(&lab.backends_setup())?;
        lab.rules(&lab.client, &nft::SERVICE_SETUP.replace("VIRTUAL", &VIRTUAL.to_string()))?;
        lab.rules(&lab.backends, nft::FAULT_SETUP)?;
        Ok(lab)
    }

    fn client_setup(&self, memory: Duration) -> String {
        let memory = memory.as_secs().max(1);
        let links = (1..=self.count).map(|number| {
            format!("ip address add 10.77.{number}.1/30 dev c{number}\nip link set c{number} up\n")
        });
        // Translated packets are routed anew; nothing listens on the virtual address itself.
        format!(
            "ip link set lo up\n{}ip address add {CLIENT}/32 dev lo\n\
             ip route add {VIRTUAL}/32 dev lo src {CLIENT}\n\
             echo {PORTS} > /proc/sys/net/ipv4/ip_local_port_range\n\
             echo {memory} > /proc/sys/net/netfilter/nf_conntrack_udp_timeout\n\
             echo {memory} > /proc/sys/net/netfilter/nf_conntrack_udp_timeout_stream\n",
            links.collect::<String>()
        )
    }

    fn backends_setup(&self) -> String {
        let links = (1..=self.count).map(|number| {
            let address = backend(number).ip();
            format!(
                "ip address add {address}/30 dev b{number}\nip link set b{number} up\n\
                 ip rule add from {address} lookup {}\n{}",
                100 + number,
                way_back(number)
            )
        });
        format!("ip link set lo up\n{}", links.collect::<String>())
    }

    /// Returns the addresses of all backends, from the first.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        (1..=self.count).map(backend).collect()
    }

    /// Puts these backends behind the virtual address: new flows draw one of them.
    ///
    /// # Errors
    /// `nft` failed.
    pub fn serve(&self, numbers: &[usize]) -> io::Result<()> {
        let addresses: Vec<_> = numbers.iter().map(|number| backend(*number)).collect();
        self.rules(&self.client, &nft::service(SocketAddr::from((VIRTUAL, 53)), &addresses))
    }

    /// Flushes the UDP flows of a backend from conntrack, as clusters do for one that is not ready.
    /// TCP connections are left to end by themselves, as in clusters.
    ///
    /// # Errors
    /// `conntrack` failed.
    pub fn forget(&self, number: usize) -> io::Result<()> {
        let address = backend(number).ip().to_string();
        let conntrack = tool("conntrack");
        let outcome = Command::new(tool("ip"))
            .args(["netns", "exec", &self.client, &conntrack, "-D", "-p", "udp"])
            .args(["--reply-src", &address])
            .output()?;
        // It also fails, with a message, when there was nothing to flush.
        let said = String::from_utf8_lossy(&outcome.stderr);
        if outcome.status.success() || said.contains("0 flow entries") {
            return Ok(());
        }
        Err(io::Error::other(format!("conntrack: {}", said.trim())))
    }

    /// Makes a backend fail.
    ///
    /// # Errors
    /// A command failed.
    pub fn fail(&self, number: usize, fault: Fault) -> io::Result<()> {
        match nft::fault(fault, backend(number).ip()) {
            Some(rules) => self.rules(&self.backends, &rules),
            None => self.inside_backends(&format!("ip link set b{number} down\n")),
        }
    }

    /// Ends a failure begun by [`Self::fail`].
    ///
    /// # Errors
    /// A command failed.
    pub fn heal(&self, number: usize, fault: Fault) -> io::Result<()> {
        if fault == Fault::LinkDown {
            let up = format!("ip link set b{number} up\n{}", way_back(number));
            return self.inside_backends(&up);
        }
        self.rules(&self.backends, nft::FAULT_END)
    }

    /// Returns a command that runs in the namespace of the forwarder and its clients.
    pub fn client_command(&self, program: &str) -> Command {
        inside(&self.client, program)
    }

    /// Returns a command that runs in the namespace of the backends.
    pub fn backends_command(&self, program: &str) -> Command {
        inside(&self.backends, program)
    }

    fn inside_client(&self, script: &str) -> io::Result<()> {
        run(self.client_command("sh").args(["-e", "-c", script]))
    }

    fn inside_backends(&self, script: &str) -> io::Result<()> {
        run(self.backends_command("sh").args(["-e", "-c", script]))
    }

    /// Passes rules to `nft`, which applies all of them or none.
    fn rules(&self, namespace: &str, rules: &str) -> io::Result<()> {
        let mut command = inside(namespace, &tool("nft"));
        command.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        child.stdin.take().expect("it was asked for").write_all(rules.as_bytes())?;
        judged("nft", &child.wait_with_output()?)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in [&self.client, &self.backends] {
            // This also removes its links, its rules and its conntrack entries. It may not exist if
            // the lab was not completed.
            let _ = Command::new(tool("ip")).args(["netns", "del", namespace]).output();
        }
    }
}

/// Returns the address of a backend.
fn backend(number: usize) -> SocketAddr {
    let third = u8::try_from(number).expect("there are few backends");
    SocketAddr::from((Ipv4Addr::new(10, 77, third, 2), 53))
}

/// Returns the command for a route that sends replies over the link of the query.
fn way_back(number: usize) -> String {
    let table = 100 + number;
    format!("ip route replace default via 10.77.{number}.1 dev b{number} table {table}\n")
}

/// Returns the path of a tool, because PATH may lack the directories of administrators.
fn tool(name: &str) -> String {
    let found = PLACES.iter().map(|place| Path::new(place).join(name)).find(|path| path.is_file());
    found.map_or_else(|| name.to_owned(), |path| path.display().to_string())
}

fn inside(namespace: &str, program: &str) -> Command {
    let mut command = Command::new(tool("ip"));
    command.args(["netns", "exec", namespace, program]);
    command
}

fn run(command: &mut Command) -> io::Result<()> {
    let name = command.get_args().map(|word| word.to_string_lossy().into_owned());
    let name = name.take(4).collect::<Vec<_>>().join(" ");
    judged(&format!("ip {name}"), &command.output()?)
}

fn judged(name: &str, outcome: &std::process::Output) -> io::Result<()> {
    if outcome.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&outcome.stderr);
    Err(io::Error::other(format!("{name}: {}", said.trim())))
}

#[cfg(test)]
mod tests {
    use super::{Lab, backend, effective_user};
    use std::time::Duration;

    #[test]
    fn the_effective_user_is_the_second() {
        assert_eq!(effective_user("Name:\tx\nUid:\t1000\t0\t0\t0\n"), Some(0));
        assert_eq!(effective_user("Name:\tx\n"), None);
    }

    #[test]
    fn each_backend_has_a_link_and_a_way_back() {
        let lab = Lab { client: "-".into(), backends: "-".into(), count: 2 };
        let (client, backends) = (lab.client_setup(Duration::from_secs(30)), lab.backends_setup());
        assert!(client.contains("10.77.2.1/30 dev c2") && client.contains("echo 30 >"), "{client}");
        assert!(backends.contains("ip rule add from 10.77.2.2 lookup 102\n"), "{backends}");
        assert!(backends.contains("default via 10.77.2.1 dev b2 table 102\n"), "{backends}");
        assert_eq!(lab.addresses(), [backend(1), backend(2)]);
    }
}
