//! ICMP errors about known connections: both directions, redirected and through the stack.

use std::net::{IpAddr, SocketAddr};

use ftp_nat_common::counter::Counter::{
    self, ActiveOpened, EditAdjusted, PassiveOpened, Rewrote227, RewrotePort,
};

use crate::{
    fixture::Fixture,
    loaded::{Datapath, Hook, on_router},
    packet::{self, ETHERNET, Packet},
    scene::{Ends, control_v4, control_v6, masqueraded_v4},
    talk::{Client, Server, Talk},
};

const ICMP: u8 = 1;
const ICMP_V6: u8 = 58;

/// An ICMP error, built from scratch: about `quoted`, of which `len` bytes are there.
#[derive(Clone)]
struct Error {
    from: IpAddr,
    to: IpAddr,
    kind: [u8; 2],
    /// The MTU of a fragmentation that is needed, or nothing.
    rest: [u8; 4],
    quoted: Packet,
    len: usize,
    ttl: u8,
}

impl Error {
    fn frame(&self) -> Vec<u8> {
        let mut content = vec![self.kind[0], self.kind[1], 0, 0];
        content.extend(self.rest);
        let quoted = self.quoted.bytes();
        let end = (ETHERNET + self.len).min(quoted.len());
        content.extend(&quoted[ETHERNET..end]);
        let protocol = if self.from.is_ipv4() {
            let check = packet::checksum(&content);
            content[2..4].copy_from_slice(&check.to_be_bytes());
            ICMP
        } else {
            let check = packet::transport_checksum(self.from, self.to, ICMP_V6, &content);
            content[2..4].copy_from_slice(&check.to_be_bytes());
            ICMP_V6
        };
        packet::ip(self.from, self.to, protocol, self.ttl, &[], &content)
    }

    fn hop(mut self) -> Self {
        self.ttl -= 1;
        self
    }
}

/// Unreachable, fragmentation needed, time exceeded, parameter problem; as its family numbers them.
fn kinds(v4: bool) -> [([u8; 2], [u8; 4]); 4] {
    let mtu = [0, 0, 5, 20];
    if v4 {
        [
            ([3, 1], [0; 4]),
            ([3, 4], mtu),
            ([11, 0], [0; 4]),
            ([12, 0], [0; 4]),
        ]
    } else {
        [
            ([1, 3], [0; 4]),
            ([2, 0], mtu),
            ([3, 0], [0; 4]),
            ([4, 0], [0; 4]),
        ]
    }
}

/// Ports kept and changed, over both families.
fn connections() -> [Ends; 4] {
    [
        control_v4().data(50_111, 50_000, 50_000),
        control_v4().data(50_112, 61_000, 50_001),
        control_v6().data(50_111, 50_000, 50_000),
        control_v6().data(50_112, 61_000, 50_001),
    ]
}

fn connect(datapath: &mut Datapath, data: &Ends) {
    data.announce_passive(datapath);
    datapath.run(Hook::WanIngress, &data.inbound().syn().bytes());
    assert!(data.flows(datapath).is_some(), "{data:?}");
}

/// What we sent to the outside came back as an error: before and behind the gateway.
fn from_outside(data: &Ends, kind: ([u8; 2], [u8; 4]), len: usize) -> (Error, Error) {
    let sent = data.outbound().payload([7; 64]).seq(77);
    let error = Error {
        from: router_outside(data.outside),
        to: data.public.ip(),
        kind: kind.0,
        rest: kind.1,
        quoted: data.outwards(&sent),
        len,
        ttl: 60,
    };
    let inside = Error {
        to: data.inside.ip(),
        quoted: sent,
        ..error.clone()
    };
    (error, inside)
}

/// What the outside sent came back as an error from the inside: before and behind the gateway.
fn from_inside(data: &Ends, from: IpAddr, kind: ([u8; 2], [u8; 4]), len: usize) -> (Error, Error) {
    let sent = data.inbound().payload([7; 64]).seq(77);
    let error = Error {
        from,
        to: data.outside.ip(),
        kind: kind.0,
        rest: kind.1,
        quoted: data.inwards(&sent),
        len,
        ttl: 60,
    };
    let outside = Error {
        from: data.public.ip(),
        quoted: sent,
        ..error.clone()
    };
    (error, outside)
}

/// Some router on the way.
fn router_outside(of: SocketAddr) -> IpAddr {
    if of.is_ipv4() {
        "192.0.2.77".parse().unwrap()
    } else {
        "2001:db8:77::1".parse().unwrap()
    }
}

/// How much is quoted: the eight bytes of TCP that RFC 792 wants, and all.
fn lengths(data: &Ends) -> [usize; 2] {
    let header = if data.outside.is_ipv4() { 20 } else { 40 };
    [header + 8, header + 20 + 64]
}

#[test]
fn errors_about_redirected_connections_go_the_same_way() {
    on_router(|datapath| {
        for data in connections() {
            connect(datapath, &data);
            for kind in kinds(data.outside.is_ipv4()) {
                for len in lengths(&data) {
                    let name = format!("{kind:?}, {len} bytes of {data:?}");
                    let (error, inside) = from_outside(&data, kind, len);
                    Fixture::new(&name, Hook::WanIngress, error.frame())
                        .sent_straight(inside.hop().frame())
                        .counting(&[Counter::IcmpInbound])
                        .check(datapath);
                    let (error, outside) = from_inside(&data, data.inside.ip(), kind, len);
                    Fixture::new(&name, Hook::LanIngress, error.frame())
                        .sent_straight(outside.hop().frame())
                        .counting(&[Counter::IcmpOutbound])
                        .check(datapath);
                }
            }
        }
    });
}

#[test]
fn an_error_about_a_packet_that_nobody_can_have_sent_goes_no_further() {
    on_router(|datapath| {
        for (ends, reach) in [
            (control_v4(), 1 << 16),
            (control_v6(), 1 << 16),
            (control_v4().data(50_111, 50_000, 50_000), 1 << 26),
            (control_v6().data(50_111, 50_000, 50_000), 1 << 26),
        ] {
            const ACKED: u32 = 7;
            if ends.public.port() == 21 {
                ends.publish(datapath, 0);
                ends.connect(datapath, [1, ACKED - 1]);
            } else {
                connect(datapath, &ends);
                datapath.run(Hook::WanIngress, &ends.inbound().ack(ACKED).bytes());
            }
            let kind = kinds(ends.outside.is_ipv4())[1];
            for (by, passes) in [
                (0, true),
                (reach, true),
                (-reach, true),
                (reach + 1, false),
                (-reach - 1, false),
                (1 << 30, false),
            ] {
                let (mut error, mut inside) = from_outside(&ends, kind, lengths(&ends)[0]);
                let seq = ACKED.wrapping_add_signed(by);
                error.quoted = error.quoted.seq(seq);
                inside.quoted = inside.quoted.seq(seq);
                let name = format!("{by} of {ends:?}");
                let fixture = Fixture::new(name, Hook::WanIngress, error.frame());
                if passes {
                    fixture
                        .sent_straight(inside.hop().frame())
                        .counting(&[Counter::IcmpInbound])
                } else {
                    fixture.counting(&[Counter::PassedOutOfWindow])
                }
                .check(datapath);
            }
        }
    });
}

/// A control connection of which one text has grown: a reply, or a masqueraded client's command.
fn grown(datapath: &mut Datapath, ends: Ends, is_published: bool) -> Talk<'_> {
    if is_published {
        let mut talk = Talk::begin(datapath, ends, [1000, 2000]);
        talk.passes(Client, "PASV\r\n");
        let (reply, out) = ("227 10,0,0,5,195,80\r\n", "227 198,51,100,1,195,80\r\n");
        let counted = [PassiveOpened, Rewrote227, EditAdjusted];
        talk.says(Server, reply, out, &counted);
        return talk;
    }
    let mut talk = Talk::begin_masqueraded(datapath, ends, [1000, 2000]);
    let (line, out) = ("PORT 10,0,0,105,195,80\r\n", "PORT 198,51,100,1,195,80\r\n");
    let counted = [ActiveOpened, RewrotePort, EditAdjusted];
    talk.says(Client, line, out, &counted);
    talk
}

#[test]
fn the_quoted_sequence_number_is_its_senders_own() {
    on_router(|datapath| {
        let ends = control_v4();
        let talk = grown(datapath, ends, true);
        let (seq, ahead) = (talk.next[1], talk.ahead[1]);
        assert_ne!(ahead, 0);
        for len in lengths(&ends) {
            for (number, quoted) in [(seq, seq + ahead), (2003, 2003)] {
                let (mut error, mut inside) = from_outside(&ends, kinds(true)[1], len);
                error.quoted = error.quoted.seq(quoted);
                inside.quoted = inside.quoted.seq(number);
                Fixture::new(format!("{number}"), Hook::WanIngress, error.frame())
                    .sent_straight(inside.hop().frame())
                    .counting(&[Counter::IcmpInbound])
                    .check(talk.datapath);
            }
        }
        // The kernel's own NAT translates the rest of this one.
        let ends = masqueraded_v4();
        let talk = grown(datapath, ends, false);
        let (seq, ahead) = (talk.next[0], talk.ahead[0]);
        assert_ne!(ahead, 0);
        for len in lengths(&ends) {
            let about = |seq| {
                let quoted = Packet::new(ends.public, ends.outside)
                    .payload([7; 64])
                    .seq(seq);
                Error {
                    quoted,
                    ..from_outside(&ends, kinds(true)[1], len).0
                }
            };
            Fixture::new("masqueraded", Hook::WanIngress, about(seq + ahead).frame())
                .rewritten_as(about(seq).frame())
                .check(talk.datapath);
        }
    });
}

#[test]
fn errors_of_the_gateway_itself_name_the_public_address() {
    on_router(|datapath| {
        for data in connections() {
            connect(datapath, &data);
            let gateway: IpAddr = if data.outside.is_ipv4() {
                "10.0.0.1".parse().unwrap()
            } else {
                "fd00:10::1".parse().unwrap()
            };
            for kind in kinds(data.outside.is_ipv4()) {
                let (error, outside) = from_inside(&data, gateway, kind, lengths(&data)[1]);
                Fixture::new(format!("{kind:?}"), Hook::WanEgress, error.frame())
                    .marked(outside.frame())
                    .counting(&[Counter::IcmpOutbound])
                    .check(datapath);
            }
        }
    });
}

#[test]
fn errors_about_what_the_stack_forwards_go_through_the_stack() {
    on_router(|datapath| {
        datapath.redirect_nothing();
        for data in connections() {
            connect(datapath, &data);
            for kind in kinds(data.outside.is_ipv4()) {
                let len = lengths(&data)[1];
                let (error, inside) = from_outside(&data, kind, len);
                Fixture::new(format!("{kind:?}"), Hook::WanIngress, error.frame())
                    .marked(inside.frame())
                    .counting(&[Counter::IcmpInbound])
                    .check(datapath);
                let (error, outside) = from_inside(&data, data.inside.ip(), kind, len);
                Fixture::new(format!("{kind:?}"), Hook::LanIngress, error.frame()).check(datapath);
                Fixture::new(format!("{kind:?}"), Hook::WanEgress, error.frame())
                    .marked(outside.frame())
                    .counting(&[Counter::IcmpOutbound])
                    .check(datapath);
            }
        }
    });
}

#[test]
fn errors_about_nothing_of_ours_pass_as_they_are() {
    on_router(|datapath| {
        for data in connections() {
            connect(datapath, &data);
            let v4 = data.outside.is_ipv4();
            let kind = kinds(v4)[0];
            let len = lengths(&data)[1];
            let other_port = Ends {
                outside: SocketAddr::new(data.outside.ip(), 4),
                ..data
            };
            let (about_another, _) = from_outside(&other_port, kind, len);
            let (mut to_somebody_else, _) = from_outside(&data, kind, len);
            to_somebody_else.to = data.inside.ip();
            let (mut a_redirection, _) = from_outside(&data, kind, len);
            a_redirection.kind = if v4 { [5, 1] } else { [137, 0] };
            let (without_ports, _) = from_outside(&data, kind, if v4 { 22 } else { 42 });
            let (mut about_udp, _) = from_outside(&data, kind, len);
            about_udp.ttl = 9;
            let mut about_udp = about_udp.frame();
            let protocol = if v4 {
                ETHERNET + 20 + 8 + 9
            } else {
                ETHERNET + 40 + 8 + 6
            };
            about_udp[protocol] = 17;
            for (name, frame) in [
                ("another connection", about_another.frame()),
                ("to somebody else", to_somebody_else.frame()),
                ("a redirection", a_redirection.frame()),
                ("cut before the ports", without_ports.frame()),
                ("UDP", about_udp),
            ] {
                Fixture::new(name, Hook::WanIngress, frame).check(datapath);
            }
        }
    });
}
