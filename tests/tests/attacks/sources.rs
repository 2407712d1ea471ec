//! Sources that cannot be outside (RFC 1812 section 5.3.7, RFC 2827): they reach no server, and no
//! answer to them goes anywhere.

use ftp_nat_tests::{
    attack::segment::{ACK, PSH, Segment},
    capture::Capture,
    lab::{HOST_INTERFACE, LAN_ADDRESS, LAN_ADDRESS_V6, WAN_ADDRESS_V6},
};

use super::*;

/// In the lab's own network, but nobody there.
const NOBODY: &str = "10.0.0.88";

#[test]
fn packets_from_addresses_that_cannot_be_outside_reach_no_server() {
    let lab = lab();
    let server = vsftpd(&lab);
    let v6 = ["--publish", "[2001:db8:1::1]:21=[fd00:10::5]:21"];
    let publisher = publish(&lab, if attacks_kernel() { &[] } else { &v6 });
    let wire = attackers_wire(&lab);
    // Port 21 of this machine's sources is nobody's own.
    let capture = |host: &Host| {
        let filter = "tcp and (src port 31337 or dst port 31337)";
        Capture::start(&host.namespace, HOST_INTERFACE, filter).unwrap()
    };
    let captures = [capture(lab.server()), capture(neighbour(&lab))];
    let mut sources: Vec<IpAddr> = [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "127.9.9.9",
        "127.255.255.255",
        "169.254.7.7",
        "224.0.0.5",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        NOBODY,
        "::",
        "::1",
        "ff02::1",
        "::ffff:198.51.100.20",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.5",
        "fe80::7",
        "febf::7",
        "fd00:10::88",
    ]
    .map(|source| source.parse().unwrap())
    .to_vec();
    sources.extend([IpAddr::from(lab.server().v4), lab.server().v6.into()]);
    sources.extend([IpAddr::from(neighbour(&lab).v4), neighbour(&lab).v6.into()]);
    sources.extend([IpAddr::from(LAN_ADDRESS), LAN_ADDRESS_V6.into()]);
    sources.extend([IpAddr::from(WAN_ADDRESS), WAN_ADDRESS_V6.into()]);
    for source in &sources {
        let from = SocketAddr::new(*source, 31337);
        let to = match source {
            IpAddr::V4(_) => PUBLIC,
            IpAddr::V6(_) => (WAN_ADDRESS_V6, 21).into(),
        };
        wire.send(&Segment::syn(from, to, 1)).unwrap();
        wire.send(&Segment::new(from, to, PSH | ACK, 2, 1).with("PASV\r\n"))
            .unwrap();
    }
    let mut control = log_in(&lab, &server);
    fetch(&lab, &mut control).unwrap();
    for (capture, whose) in captures.into_iter().zip(["the server", "its neighbour"]) {
        let frames = capture.stop().unwrap();
        let seen: Vec<_> = frames.iter().map(|frame| source_of(frame)).collect();
        assert!(seen.is_empty(), "{whose} sees packets from or to {seen:?}");
    }
    publisher.assert_count("sessions", 1);
}

/// The source and the destination of a frame, for messages.
fn source_of(frame: &[u8]) -> String {
    match etherparse::SlicedPacket::from_ethernet(frame).map(|packet| packet.net) {
        Ok(Some(etherparse::NetSlice::Ipv4(ip))) => {
            format!(
                "{} > {}",
                ip.header().source_addr(),
                ip.header().destination_addr()
            )
        }
        Ok(Some(etherparse::NetSlice::Ipv6(ip))) => {
            format!(
                "{} > {}",
                ip.header().source_addr(),
                ip.header().destination_addr()
            )
        }
        other => format!("{other:?}"),
    }
}
