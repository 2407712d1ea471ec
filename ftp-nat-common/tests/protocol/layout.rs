//! The small types of the maps: keys of flows, ports, checksums of addresses.

use crate::conversation::addr;
use bytemuck::Zeroable as _;
use ftp_nat_common::abi::{Flow, FlowKey, FlowKey4, FlowKey6, flow_flag, port, side};
use ftp_nat_common::wire::addr::{Endpoint, Port, PortPair};
use ftp_nat_common::wire::checksum;

fn ends(first: &str, second: &str) -> [Endpoint; 2] {
    [
        Endpoint::new(addr(first), Port::new(40_000)),
        Endpoint::new(addr(second), Port::new(21)),
    ]
}

#[test]
fn a_flows_key_gives_back_the_ends_that_it_was_made_of() {
    fn check<K: FlowKey>(v4: bool, [source, destination]: [Endpoint; 2]) {
        let key = K::new(&source, &destination);
        assert_eq!((key.source(), key.destination()), (source, destination));
        assert_eq!(K::V4, v4);
    }
    check::<FlowKey4>(true, ends("198.51.100.7", "203.0.113.10"));
    check::<FlowKey6>(false, ends("2001:db8:2::7", "2001:db8::10"));
}

#[test]
fn ports_lie_in_a_word_as_in_a_packet() {
    let pair = PortPair::new(Port::new(0x1234), Port::new(0x5678));
    assert_eq!(bytemuck::bytes_of(&pair), [0x12, 0x34, 0x56, 0x78]);
    let other = pair.from(Port::new(1)).to(Port::new(2));
    assert_eq!(
        (other.source().number(), other.destination().number()),
        (1, 2)
    );
    assert_eq!(Port::new(0x1234).place(), Port::new(0x1234).0 as usize);
}

#[test]
fn a_flow_is_of_the_side_that_its_packets_come_by() {
    let mut flow = Flow::zeroed();
    assert_eq!(flow.side(), side::INBOUND);
    flow.flags = flow_flag::OUTBOUND;
    assert_eq!(flow.side(), side::OUTBOUND);
}

#[test]
fn an_end_is_shown_as_people_write_it() {
    let [v4, v6] = ends("198.51.100.7", "2001:db8::10");
    assert_eq!(
        (v4.to_string(), v6.to_string()),
        ("198.51.100.7:40000".into(), "[2001:db8::10]:21".into())
    );
}

#[test]
fn an_addresss_sum_is_that_of_its_words() {
    let words = |text: &str| addr(text).0;
    let bytes = |octets: &[u8]| {
        octets.iter().enumerate().fold(0, |sum, (at, byte)| {
            checksum::add_byte(sum, *byte, at % 2 == 1)
        })
    };
    let v4 = checksum::of_addr(&words("198.51.100.7"), true);
    assert_eq!(
        checksum::fold(v4),
        checksum::fold(bytes(&[198, 51, 100, 7]))
    );
    let v6: std::net::Ipv6Addr = "2001:db8::10".parse().unwrap();
    let sum = checksum::of_addr(&words("2001:db8::10"), false);
    assert_eq!(checksum::fold(sum), checksum::fold(bytes(&v6.octets())));
}

#[test]
fn epochs_are_numbered_from_one_and_begin_anew() {
    let seconds = |seconds: u64| port::epoch(seconds * 250, 250);
    assert_eq!((seconds(0), seconds(31), seconds(32)), (1, 1, 2));
    let round = u64::from(port::EPOCH) * port::EPOCH_SECONDS;
    assert_eq!((seconds(round - 1), seconds(round)), (port::EPOCH, 1));
    assert_eq!(port::epoch(5, 0), 1);
}
