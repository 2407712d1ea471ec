//! Files: every format and link that is read, and those that are none.

use crate::capture::{Format, Link, Scratch, Talk, inspect, run};

fn passive() -> Talk {
    Talk::new("198.51.100.7:40000", "10.0.0.5:21")
        .server("220 Hi\r\n")
        .client("USER anonymous\r\n")
        .server("331 Password\r\n")
        .client("PASS geheim\r\n")
        .server("230 In\r\n")
        .client("PASV\r\n")
        .server("227 Entering Passive Mode (10,0,0,5,195,80).\r\n")
        .syn("198.51.100.7:40001", "10.0.0.5:50000")
        .close()
}

#[test]
fn every_format_and_link_is_read_the_same() {
    let wanted = passive().inspect(&[]);
    let lines = wanted.lines().skip(1).collect::<Vec<_>>();
    assert_eq!(
        lines,
        [
            "",
            "198.51.100.7:40000 to 10.0.0.5:21: the server is behind the gateway (role publish), \
             announced as 192.0.2.1, an example: see --public",
            "     0.002 <- 220 Hi",
            "     0.003 -> USER anonymous",
            "     0.004 <- 331 Password",
            "     0.005 -> PASS ***",
            "     0.006 <- 230 In",
            "     0.007 -> PASV",
            "     0.008 <- 227 Entering Passive Mode (10,0,0,5,195,80).",
            "               arrives as: 227 Entering Passive Mod (192,0,2,1,195,80).",
            "               opens 192.0.2.1:50000 for 198.51.100.7, which leads to \
             10.0.0.5:50000; it came 0.001 s later",
            "               rewritten: the public address and port",
            "               its length stays: no sequence number moves",
        ]
    );
    let formats = [
        Format::Pcap,
        Format::PcapBigEndian,
        Format::PcapNanoseconds,
        Format::PcapNg,
        Format::PcapNgBigEndian,
    ];
    let links = [
        Link::Ethernet,
        Link::Vlan,
        Link::DoubleVlan,
        Link::Raw,
        Link::Cooked,
        Link::Cooked2,
        Link::Null,
        Link::Loop,
    ];
    for format in formats {
        for link in links {
            let output = inspect(&passive().bytes(link, format), &[]);
            let text = String::from_utf8(output.stdout).unwrap();
            let found: Vec<_> = text.lines().skip(1).collect();
            assert_eq!(found, lines, "{link:?}, {format:?}");
        }
    }
    // Simple packets have no time.
    let output = inspect(&passive().bytes(Link::Ethernet, Format::PcapNgSimple), &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("opens 192.0.2.1:50000"), "{text}");
}

#[test]
fn what_is_no_capture_is_said_and_fails() {
    let whole = passive().bytes(Link::Ethernet, Format::Pcap);
    let ng = passive().bytes(Link::Ethernet, Format::PcapNg);
    let radio = passive().bytes(Link::Radio, Format::Pcap);
    let mut long = ng.clone();
    // The second block claims four gigabytes.
    long[32..36].copy_from_slice(&[0xf0, 0xff, 0xff, 0xff]);
    for (bytes, said) in [
        (&b""[..], "is empty"),
        (b"hello, world: this is no capture", "is not a capture"),
        (&whole[..4], "is not a capture|ends within its header"),
        (&whole[..20], "ends within its header"),
        (&whole[..24], "holds no packet"),
        (
            &whole[..whole.len() - 1],
            "ends within a packet, behind packet 11",
        ),
        (&ng[..20], "ends within its header|is not a capture"),
        (
            &ng[..ng.len() - 5],
            "ends within a packet, behind packet 11",
        ),
        (&long, "is broken behind packet 0|ends within a packet"),
        (&radio, "was captured on a link of type 127"),
    ] {
        let output = inspect(bytes, &[]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        let fits = |wanted: &str| error.contains(wanted);
        assert!(said.split('|').any(fits), "{said}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn what_came_before_a_broken_end_is_shown() {
    let whole = passive().bytes(Link::Ethernet, Format::Pcap);
    let output = inspect(&whole[..whole.len() - 1], &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("opens 192.0.2.1:50000"), "{text}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = std::env::temp_dir();
    for (path, said) in [
        (
            "/nowhere/x.pcap",
            "cannot open /nowhere/x.pcap: No such file",
        ),
        (folder.to_str().unwrap(), "is a folder"),
    ] {
        let output = run(&[path]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn bad_usage_is_told_apart() {
    let file = Scratch::new(&passive().bytes(Link::Ethernet, Format::Pcap));
    let path = file.0.to_str().unwrap();
    for arguments in [
        &[][..],
        &[path, "--public", "example.net"],
        &[path, "--role", "both"],
        &[path, "--control-port", "70000"],
        &[path, path],
    ] {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
}
