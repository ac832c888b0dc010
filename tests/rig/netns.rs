//! Hosts with networks of their own on one machine: a network namespace each, and the test is the cable between them.
//!
//! Every host has one interface (a TUN device), and what it sends comes to the test, which hands it to the host it is for, or
//! loses it. So each direction can be cut by itself, an answer can be lost at a chosen moment, and a lost packet is an event.
//! The reasons against bridges and `ip`: nothing is left whatever ends the test, SIGKILL included, because a namespace without
//! a name ends with its descriptors and processes; the machine's own interfaces are never touched; and no package is needed.
//!
//! Invariant: what is lost is lost silently, as a broken network loses it; nobody is told "unreachable".

use std::ffi::c_ulong;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::libc;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;
use tokio::sync::watch;

/// Networks of hosts, joined by a switch that ends with this.
#[derive(Debug)]
pub struct Net {
    spaces: Vec<File>,
    switch: Arc<Mutex<Switch>>,
    lost: watch::Receiver<Lost>,
    /// Closed to end the thread.
    end: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

/// What goes through, by sender and receiver.
#[derive(Debug)]
struct Switch {
    ways: Vec<Vec<Way>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Open,
    Cut,
    /// Cut after so many packets with content.
    CutAfter(usize),
}

/// What was lost since the last cut was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Packets with content.
    pub contents: usize,
    /// Answers to those who wanted a connection: somebody has given up the old one and asks anew.
    pub welcomes: usize,
}

/// The address of a host; the same in every test, because nobody else is in its networks.
pub fn ip(host: usize) -> String {
    address(host).to_string()
}

fn address(host: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, 0, u8::try_from(host + 1).unwrap())
}

impl Net {
    /// `None` where this is not possible, and why: it needs root that may make networks.
    pub fn new(hosts: usize) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("it needs root".to_owned());
        }
        let mut spaces = Vec::new();
        let mut cables = Vec::new();
        for host in 0..hosts {
            // The namespace is the thread's alone, and the thread ends here.
            let made = std::thread::spawn(move || make(address(host))).join().unwrap();
            let (space, cable) = match made {
                Ok(made) => made,
                Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::NotFound) => {
                    return Err(format!("this machine allows no networks: {error}"));
                }
                Err(error) => panic!("no network of its own for host {host}: {error}"),
            };
            spaces.push(space);
            cables.push(cable);
        }
        let switch = Arc::new(Mutex::new(Switch { ways: vec![vec![Way::Open; hosts]; hosts] }));
        let (told, lost) = watch::channel(Lost::default());
        let (end, ended) = UnixStream::pair().unwrap();
        let shared = Arc::clone(&switch);
        let thread = std::thread::spawn(move || carry(&cables, &shared, &told, &ended));
        Ok(Self { spaces, switch, lost, end: Some(end), thread: Some(thread) })
    }

    /// Where a process enters the network of a host.
    pub fn space(&self, host: usize) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.spaces[host].as_raw_fd())
    }

    fn switch(&self) -> MutexGuard<'_, Switch> {
        self.switch.lock().unwrap()
    }

    /// Hosts of different groups do not hear each other.
    pub fn split(&self, groups: &[&[usize]]) {
        let group = |host: usize| groups.iter().position(|group| group.contains(&host));
        self.set(|from, to| if group(from) == group(to) { Way::Open } else { Way::Cut });
    }

    pub fn heal(&self) {
        self.set(|_, _| Way::Open);
    }

    /// What `from` says reaches `to` for so many packets with content, and then no more.
    pub fn mute(&self, from: usize, to: usize, after: usize) {
        self.set(|a, b| if (a, b) == (from, to) { Way::CutAfter(after) } else { Way::Open });
    }

    fn set(&self, way: impl Fn(usize, usize) -> Way) {
        let mut switch = self.switch();
        for (from, ways) in switch.ways.iter_mut().enumerate() {
            for (to, known) in ways.iter_mut().enumerate() {
                *known = way(from, to);
            }
        }
    }

    /// Waits until something was lost as wanted, counted from now.
    pub async fn until_lost(&self, is_wanted: impl Fn(Lost) -> bool) {
        let mut lost = self.lost.clone();
        let before = *lost.borrow_and_update();
        let since = |now: Lost| Lost {
            contents: now.contents - before.contents,
            welcomes: now.welcomes - before.welcomes,
        };
        let seen = tokio::time::timeout(super::LIMIT, lost.wait_for(|now| is_wanted(since(*now)))).await;
        drop(seen.expect("something is lost in time").unwrap());
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// A namespace with one interface that is up; the calling thread stays in it.
#[expect(unsafe_code, reason = "one system call without pointers that no crate of ours wraps")]
fn make(ip: Ipv4Addr) -> std::io::Result<(File, File)> {
    Errno::result(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
    let space = File::open("/proc/thread-self/ns/net")?;
    let mut options = File::options();
    let cable = options.read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    let flags = |value: i32| libc::__c_anonymous_ifr_ifru { ifru_flags: i16::try_from(value).unwrap() };
    set(&cable, libc::TUNSETIFF, "host", flags(libc::IFF_TUN | libc::IFF_NO_PI))?;
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    set(&socket, libc::SIOCSIFADDR, "host", sockaddr(ip))?;
    set(&socket, libc::SIOCSIFNETMASK, "host", sockaddr(Ipv4Addr::new(255, 255, 255, 0)))?;
    for name in ["host", "lo"] {
        set(&socket, libc::SIOCSIFFLAGS, name, flags(libc::IFF_UP | libc::IFF_RUNNING))?;
    }
    Ok((space, cable))
}

fn sockaddr(ip: Ipv4Addr) -> libc::__c_anonymous_ifr_ifru {
    let mut data = [0; 14];
    // The port, which has no meaning here, stands before the address.
    for (to, byte) in data[2..].iter_mut().zip(ip.octets()) {
        *to = libc::c_char::from_ne_bytes([byte]);
    }
    let family = libc::sa_family_t::try_from(libc::AF_INET).unwrap();
    libc::__c_anonymous_ifr_ifru { ifru_addr: libc::sockaddr { sa_family: family, sa_data: data } }
}

/// One property of an interface.
#[expect(
    unsafe_code,
    reason = "the request is whole, lives through the call, and is of the kind that these calls take"
)]
fn set(
    through: &impl std::os::fd::AsRawFd,
    what: c_ulong,
    name: &str,
    value: libc::__c_anonymous_ifr_ifru,
) -> std::io::Result<()> {
    let mut request = libc::ifreq { ifr_name: [0; libc::IFNAMSIZ], ifr_ifru: value };
    for (to, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([byte]);
    }
    Errno::result(unsafe { libc::ioctl(through.as_raw_fd(), what, &raw mut request) })?;
    Ok(())
}

/// Hands packets over until the other end of `ended` is closed.
fn carry(cables: &[File], switch: &Mutex<Switch>, told: &watch::Sender<Lost>, ended: &UnixStream) {
    let mut packet = vec![0; 65_536];
    loop {
        let ready: Vec<bool> = {
            let mut fds: Vec<_> =
                cables.iter().map(|cable| PollFd::from_borrowed_fd(cable.as_fd(), PollFlags::IN)).collect();
            fds.push(PollFd::new(ended, PollFlags::IN));
            retry_on_intr(|| poll(&mut fds, None)).unwrap();
            fds.iter().map(|fd| !fd.revents().is_empty()).collect()
        };
        if ready[cables.len()] {
            return;
        }
        for (from, mut cable) in cables.iter().enumerate().filter(|(from, _)| ready[*from]) {
            while let Ok(length) = cable.read(&mut packet) {
                let Some(seen) = Packet::read(&packet[..length]) else { continue };
                let Some(mut other) = seen.to.filter(|to| *to < cables.len()).map(|to| &cables[to]) else {
                    continue;
                };
                if passes(switch, from, &seen) {
                    // A full queue loses it, as networks do.
                    drop(other.write(&packet[..length]));
                } else {
                    told.send_modify(|lost| {
                        lost.contents += usize::from(seen.has_content);
                        lost.welcomes += usize::from(seen.is_welcome);
                    });
                }
            }
        }
    }
}

fn passes(switch: &Mutex<Switch>, from: usize, packet: &Packet) -> bool {
    let Some(to) = packet.to else { return false };
    let way = &mut switch.lock().unwrap().ways[from][to];
    match *way {
        Way::Open => true,
        Way::Cut | Way::CutAfter(0) => false,
        Way::CutAfter(left) => {
            *way = Way::CutAfter(left - usize::from(packet.has_content));
            true
        }
    }
}

/// What matters of a packet of TCP over IPv4; there is no other traffic between hosts.
#[derive(Debug)]
struct Packet {
    to: Option<usize>,
    has_content: bool,
    is_welcome: bool,
}

impl Packet {
    fn read(bytes: &[u8]) -> Option<Self> {
        const TCP: u8 = 6;
        const SYN_ACK: u8 = 0x12;
        let head = usize::from(bytes.first()? & 0xf) * 4;
        if bytes[0] >> 4 != 4 || *bytes.get(9)? != TCP {
            return None;
        }
        let to = usize::from(*bytes.get(19)?).checked_sub(1);
        let tcp = bytes.get(head..)?;
        let content = tcp.get(usize::from(tcp.get(12)? >> 4) * 4..)?;
        Some(Self { to, has_content: !content.is_empty(), is_welcome: tcp.get(13)? & SYN_ACK == SYN_ACK })
    }
}
