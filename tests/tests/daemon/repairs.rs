//! What others remove from under the daemon, it puts back.

use std::{
    ffi::CString,
    fs,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use ftp_nat_tests::{
    control::Control,
    gateway::{Gateway, START_LIMIT},
    lab::{HOST_INTERFACE, Lab},
    link::like_hardware,
    process::{self, Running},
    scratch::Scratch,
    tools::Tools,
};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::{CONTENT, ConfigFile, ONE_SERVER, PUBLIC, SMALL, fetch, vsftpd, wait_for};

const LISTEN: &str = "127.0.0.1:9810";

/// Where clients find the server by IPv6.
const PUBLIC6: SocketAddr = SocketAddr::new(
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1)),
    21,
);

/// The gateway's own folder: the only one three below the folder of all pins.
fn gateway_folder(state_dir: &Path) -> PathBuf {
    (0..3).fold(state_dir.to_owned(), |folder, _| {
        fs::read_dir(folder)
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path()
    })
}

/// What the daemon has put back, by what it was.
fn repairs(lab: &Lab) -> [u64; 3] {
    let mut curl = lab.router.command("curl").unwrap();
    curl.args(["-s", "http://127.0.0.1:9810/metrics"]);
    let text = process::run(&mut curl, Duration::from_secs(10))
        .unwrap()
        .text();
    ["attachment", "program", "map"].map(|what| {
        let name = format!("ftp_nat_repairs_total{{what=\"{what}\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&name));
        value
            .unwrap_or_else(|| panic!("{name}: {text}"))
            .parse()
            .unwrap()
    })
}

fn programs(gateway: &Gateway<'_>) -> usize {
    let Ok(status) = gateway.json(&["status"]) else {
        return 0;
    };
    status["gateways"][0]["programs"].as_array().unwrap().len()
}

/// Something that is removed: how, and what must be counted as put back (programs attached, pins
/// of programs, pins of maps), at least.
type Fault = (&'static str, fn(&Path), [u64; 3]);

/// As many as there are programs attached.
const ALL: u64 = u64::MAX;

fn remove_all(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
}

/// bpf(2) with an attribute of two words.
fn bpf(command: libc::c_int, attribute: [u64; 2]) -> i32 {
    // SAFETY: the kernel reads the attribute, which has as many bytes as it is told; what it points at
    // is the caller's and lives as long.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            &raw const attribute,
            size_of_val(&attribute),
        )
    };
    assert!(result >= 0, "{}", std::io::Error::last_os_error());
    i32::try_from(result).unwrap()
}

/// Detaches a link, whose pin stays: what `bpftool link detach pinned PIN` does.
fn detach(pin: &Path) {
    /// `BPF_OBJ_GET` and `BPF_LINK_DETACH` of linux/bpf.h.
    const OBJ_GET: libc::c_int = 7;
    const LINK_DETACH: libc::c_int = 34;
    let pin = CString::new(pin.as_os_str().as_bytes()).unwrap();
    let descriptor = bpf(OBJ_GET, [pin.as_ptr().expose_provenance() as u64, 0]);
    // SAFETY: the kernel has just given it, and nobody else knows it.
    let link = unsafe { OwnedFd::from_raw_fd(descriptor) };
    // The descriptor is a field of 32 bits.
    let first = u64::from_ne_bytes(concat(link.as_raw_fd().to_ne_bytes()));
    bpf(LINK_DETACH, [first, 0]);
}

/// Four bytes, and four zeros behind them.
fn concat(bytes: [u8; 4]) -> [u8; 8] {
    let mut all = [0; 8];
    all[..4].copy_from_slice(&bytes);
    all
}

const FAULTS: [Fault; 8] = [
    (
        "a link, whose pin stays",
        |folder| detach(&folder.join("links/wan:wan_egress")),
        [1, 0, 0],
    ),
    (
        "a link's pin, and with it the link",
        |folder| fs::remove_file(folder.join("links/wan:wan_ingress")).unwrap(),
        [1, 0, 0],
    ),
    (
        "all links",
        |folder| remove_all(&folder.join("links")),
        [ALL, 0, 0],
    ),
    (
        "the folder of links",
        |folder| fs::remove_dir_all(folder.join("links")).unwrap(),
        [ALL, 0, 0],
    ),
    (
        "a map's pin",
        |folder| fs::remove_file(folder.join("maps/FLOWS4")).unwrap(),
        [0, 0, 1],
    ),
    (
        "all programs' pins",
        |folder| remove_all(&folder.join("programs")),
        [0, ALL, 0],
    ),
    (
        "all maps' pins",
        |folder| remove_all(&folder.join("maps")),
        [0, 0, 10],
    ),
    (
        "everything",
        |folder| fs::remove_dir_all(folder.parent().unwrap().parent().unwrap()).unwrap(),
        [ALL, ALL, 10],
    ),
];

/// With a server that is published by IPv4 and by IPv6.
fn puts_back_what_is_removed(datapath: &str, attached: usize) {
    let lab = Lab::new().unwrap();
    for host in [lab.client(), lab.server()] {
        like_hardware(&host.namespace, HOST_INTERFACE).unwrap();
    }
    let server = vsftpd(lab.server(), CONTENT);
    let second = "[[publish]]\npublic = \"[2001:db8:1::1]:21\"\nserver = \"[fd00:10::5]:21\"\n";
    let config = ONE_SERVER.replace("[gateway]\n", &format!("[gateway]\n{datapath}\n"));
    let file = ConfigFile::new(&format!("{config}{second}"));
    let gateway = file.run_with(&lab, &["--metrics-listen", LISTEN]);
    assert_eq!(programs(&gateway), attached, "{datapath}");
    let folder = gateway_folder(gateway.state_dir());
    let mut faults = FAULTS.to_vec();
    if folder.join("links/wan:wan_xdp").exists() {
        faults.push((
            "XDP's link, whose pin stays",
            |folder| detach(&folder.join("links/wan:wan_xdp")),
            [1, 0, 0],
        ));
    }
    for (what, remove, counted) in faults {
        let before = repairs(&lab);
        remove(&folder);
        let counted = counted.map(|it| if it == ALL { attached as u64 } else { it });
        wait_for(what, || {
            let after = repairs(&lab);
            let is_counted = (0..3).all(|at| after[at] >= before[at] + counted[at]);
            (is_counted && programs(&gateway) == attached).then_some(())
        });
        for (public, verb) in [(PUBLIC, "PASV"), (PUBLIC, "EPSV"), (PUBLIC6, "EPSV")] {
            let mut control = Control::log_in(lab.client(), &server.target_at(public)).unwrap();
            let fetched = control.fetch(lab.client(), verb, SMALL);
            assert_eq!(
                fetched.unwrap(),
                CONTENT,
                "{datapath}: {what}, {verb} of {public}"
            );
        }
    }
    // A reload waits for nothing.
    remove_all(&folder.join("links"));
    gateway.ask(&["reload"]).unwrap().expect_success().unwrap();
    assert_eq!(programs(&gateway), attached, "{datapath}");
    let log = gateway.log();
    for told in [
        "wan_ingress was detached from wan",
        "the pins of maps were removed by another program and are there again: FLOWS4",
        "the pins of programs were removed by another program: they are loaded again",
    ] {
        assert!(log.contains(told), "{datapath}: {told} is not in:\n{log}");
    }
}

#[test]
fn what_is_removed_is_put_back_told_and_counted() {
    puts_back_what_is_removed("", 4);
}

#[test]
fn what_is_removed_from_a_gateway_of_the_stack_is_put_back() {
    puts_back_what_is_removed("lan = \"none\"", 2);
}

#[test]
fn what_is_removed_from_a_gateway_with_xdp_is_put_back() {
    puts_back_what_is_removed("datapath = \"xdp\"", 6);
}

#[test]
fn filters_that_are_removed_are_put_back_and_a_reload_does_not_wait_for_it() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(lab.server(), CONTENT);
    let file = ConfigFile::new(ONE_SERVER);
    let gateway = file.run_with(&lab, &["--attach", "clsact"]);
    for remove in [
        &["filter", "del", "dev", "wan", "ingress"][..],
        &["qdisc", "del", "dev", "wan", "clsact"],
        &["qdisc", "del", "dev", "lan", "clsact"],
    ] {
        let mut tc = lab.router.command("tc").unwrap();
        tc.args(remove);
        process::run(&mut tc, Duration::from_secs(10))
            .unwrap()
            .expect_success()
            .unwrap();
        let reloaded = gateway
            .ask(&["reload"])
            .unwrap()
            .expect_success()
            .unwrap()
            .text();
        assert!(
            reloaded.contains("it is attached again"),
            "{remove:?}: {reloaded}"
        );
        assert_eq!(fetch(&lab, &server, "PASV").unwrap(), CONTENT, "{remove:?}");
    }
}

#[test]
fn an_interface_that_is_made_anew_at_once_with_the_same_number_is_attached_to_again() {
    let lab = Lab::new().unwrap();
    let make =
        "link add spare index 4242 type veth peer name other\nlink set other up\nlink set spare up";
    lab.router.ip(make).unwrap();
    let text = ONE_SERVER.replace("wan = [\"wan\"]", "wan = [\"wan\", \"spare\"]");
    let gateway = ConfigFile::new(&text).run(&lab);
    let all = programs(&gateway);
    assert_eq!(all, 6);
    lab.router.ip(&format!("link del spare\n{make}")).unwrap();
    wait_for("the new interface's programs", || {
        let log = gateway.log();
        (log.contains("wan_ingress was detached from spare") && programs(&gateway) == all)
            .then_some(())
    });
}

/// A BPF file system of a test's own.
struct OwnBpffs(Scratch);

impl OwnBpffs {
    fn new() -> Self {
        let folder = Self(Scratch::new().unwrap());
        folder.mount();
        folder
    }

    fn mount(&self) {
        mount("bpf", self.0.path(), "bpf", MountFlags::empty(), None).unwrap();
    }

    fn unmount(&self) {
        unmount(self.0.path(), UnmountFlags::DETACH).unwrap();
    }
}

impl Drop for OwnBpffs {
    fn drop(&mut self) {
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

#[test]
fn an_unmounted_file_system_is_told_and_all_is_put_back_once_it_is_mounted_again() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(lab.server(), CONTENT);
    let file = ConfigFile::new(ONE_SERVER);
    let bpffs = OwnBpffs::new();
    let mut command = lab.router.command(Tools::get().unwrap().binary).unwrap();
    command
        .args(["run", "--config"])
        .arg(file.path())
        .arg("--state-dir")
        .arg(bpffs.0.path().join("pins"));
    let mut daemon = Running::start(&mut command).unwrap();
    daemon.wait_for("ready", START_LIMIT).unwrap();
    assert_eq!(fetch(&lab, &server, "PASV").unwrap(), CONTENT);
    bpffs.unmount();
    wait_for("the loss to be told", || {
        daemon
            .log()
            .contains("is on no BPF file system any more")
            .then_some(())
    });
    bpffs.mount();
    wait_for("the repair", || {
        daemon
            .log()
            .contains("wan_egress was detached from wan")
            .then_some(())
    });
    assert_eq!(fetch(&lab, &server, "PASV").unwrap(), CONTENT);
    daemon.stop(Duration::from_secs(10)).unwrap();
}

#[test]
fn maps_that_are_gone_when_a_daemon_takes_over_are_named() {
    let lab = Lab::new().unwrap();
    let file = ConfigFile::new(ONE_SERVER);
    let mut gateway = file.run(&lab);
    gateway.kill().unwrap();
    fs::remove_file(gateway_folder(gateway.state_dir()).join("maps/SESSIONS")).unwrap();
    gateway.restart().unwrap();
    let log = gateway.log();
    assert!(
        log.contains("some of its maps had been removed and are empty now: SESSIONS"),
        "{log}"
    );
    assert!(!log.contains("its connections go on"), "{log}");
}
