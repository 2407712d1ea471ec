//! Forged ICMP errors about other people's connections (RFC 5927): they end nothing and make no packet
//! smaller.

use etherparse::{
    Icmpv4Header, Icmpv4Type, IpNumber, Ipv4Header,
    icmpv4::{DestUnreachableHeader, TimeExceededCode},
};
use ftp_nat_tests::attack::segment::ACK;

use super::*;

/// What routers say, and whoever wants to be taken for one.
fn errors() -> [(&'static str, Icmpv4Type); 5] {
    let unreachable = Icmpv4Type::DestinationUnreachable;
    [
        ("host unreachable", unreachable(DestUnreachableHeader::Host)),
        ("port unreachable", unreachable(DestUnreachableHeader::Port)),
        (
            "administratively prohibited",
            unreachable(DestUnreachableHeader::FilterProhibited),
        ),
        (
            "fragmentation needed",
            unreachable(DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 296 }),
        ),
        (
            "time exceeded",
            Icmpv4Type::TimeExceeded(TimeExceededCode::TtlExceededInTransit),
        ),
    ]
}

/// An error that the stranger sends about a packet from the public end to the client, with this number.
fn about(lab: &Lab, kind: &Icmpv4Type, from: SocketAddr, to: SocketAddr, seq: u32) -> Vec<u8> {
    let quoted = Segment::new(from, to, ACK, seq, 0).packet();
    let quoted = &quoted[..28];
    let icmp = Icmpv4Header::with_checksum(kind.clone(), quoted).to_bytes();
    let content = [&icmp[..], quoted].concat();
    let mut ip = Ipv4Header::new(
        content.len() as u16,
        64,
        IpNumber::ICMP,
        attacker(lab).v4.octets(),
        WAN_ADDRESS.octets(),
    )
    .unwrap();
    ip.header_checksum = ip.calc_header_checksum();
    [&ip.to_bytes()[..], &content].concat()
}

/// Numbers of which none is the right one, near and far.
fn guesses(right: u32) -> impl Iterator<Item = u32> {
    (1..4096_i64)
        .map(|step| step << 20)
        .chain([-200_000, 200_000])
        .map(move |by| away(right, by))
}

#[test]
fn forged_errors_end_no_session_and_no_transfer() {
    let lab = lab();
    let server = vsftpd(&lab);
    let publisher = publish(&lab, &[]);
    let outside = attackers_wire(&lab);
    let mut failures = Failures::default();
    for (name, kind) in errors() {
        let mut control = log_in(&lab, &server);
        let address = control.announce("PASV").unwrap();
        let data = ftp_nat_tests::control::connect(client(&lab), address).unwrap();
        let known = Known::of(&control);
        let own = data.local_addr().unwrap();
        let (_, ack) = numbers::next(&data).unwrap();
        for (from, to, right) in [(PUBLIC, known.client, known.ack), (address, own, ack)] {
            for seq in guesses(right) {
                let error = about(&lab, &kind, from, to, seq);
                outside.send_packet(&error).unwrap();
            }
        }
        settle();
        let fetched = control.fetch_over(&data, SMALL).and_then(|content| {
            ensure!(content == CONTENT, "another content");
            use_session(&lab, &mut control)
        });
        failures.note(name, fetched);
        // What a host keeps of an error that it believes (ip-route(8)).
        let mut ask = lab.server().namespace.command("ip").unwrap();
        let client = client(&lab).v4.to_string();
        let route = ask.args(["route", "get", &client]).output().unwrap();
        let route = String::from_utf8(route.stdout).unwrap();
        assert!(route.contains(&client), "{route}");
        if route.contains("mtu") {
            failures.note(name, Err(anyhow::anyhow!("the server sends less: {route}")));
        }
    }
    if let Some(gateway) = &publisher.gateway {
        // They have come, nearly all of them.
        let labels = "reason=\"out_of_window\"";
        let passed = gateway.metric("passed_packets_total", labels).unwrap();
        assert!(passed > 30_000, "{passed}");
    }
    failures.assert_none();
}
