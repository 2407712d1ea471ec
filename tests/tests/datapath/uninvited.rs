//! A server's connection to its client that nobody has announced: told with the session's ends, and left
//! alone.

use std::net::SocketAddr;

use ftp_nat_common::{
    abi::{Event, event, kind},
    counter::Counter::{self, ActiveOpened, ActiveUsed, DeniedUnannounced, DeniedUninvited},
    wire::addr::Endpoint,
};

use crate::{
    fixture::Fixture,
    loaded::{Hook, on_router},
    packet::{ACK, Packet, SYN},
    scene::{control_v4, control_v6, endpoint, hop, masqueraded_v4, masqueraded_v6},
    talk::{Client, Talk},
};

const ISN: [u32; 2] = [1000, 2000];

fn at(end: SocketAddr, port: u16) -> SocketAddr {
    SocketAddr::new(end.ip(), port)
}

fn told(talk: &mut Talk<'_>, hook: Hook, packet: &Packet) -> Vec<Event> {
    talk.datapath.events();
    talk.datapath.run(hook, &packet.bytes());
    talk.datapath.events()
}

#[test]
fn a_published_servers_is_told() {
    on_router(|datapath| {
        for control in [control_v4(), control_v6()] {
            let mut talk = Talk::begin(datapath, control, ISN);
            talk.passes(Client, "EPSV\r\n");
            // From the default data port to the client's end of the control connection, and elsewhere.
            for (from, to) in [(20, control.outside.port()), (45_000, 1024), (20, 65_535)] {
                let [server, client] = [at(control.inside, from), at(control.outside, to)];
                let syn = Packet::new(server, client).syn();
                Fixture::lan("SYN", &syn)
                    .counting(&[DeniedUninvited])
                    .check(talk.datapath);
                let [one] = told(&mut talk, Hook::LanIngress, &syn)[..] else {
                    panic!("not one event");
                };
                assert_eq!(
                    (one.what, one.kind, one.reason),
                    (event::DENIED, kind::ACTIVE, DeniedUninvited as u16)
                );
                assert_eq!(one.peer, endpoint(client));
                assert_eq!(one.inside, endpoint(server));
                assert_eq!(one.public, endpoint(at(control.public, from)));
                assert_ne!(one.session, 0);
            }
            // What is no SYN, of a service of the client's, and of others.
            let server = at(control.inside, 20);
            for (name, packet) in [
                ("ident", Packet::new(server, at(control.outside, 113)).syn()),
                (
                    "an answer",
                    Packet::new(server, at(control.outside, 50_000)).flags(SYN | ACK),
                ),
                (
                    "data",
                    Packet::new(server, at(control.outside, 50_000)).flags(ACK),
                ),
                (
                    "another server",
                    Packet::new(at(control.public, 20), at(control.outside, 50_000)).syn(),
                ),
                (
                    "another client",
                    Packet::new(server, at(control.public, 50_000)).syn(),
                ),
            ] {
                Fixture::lan(name, &packet).check(talk.datapath);
            }
            // What is announced is not.
            let data = control.data(50_001, 20, 20);
            data.announce_active(talk.datapath);
            let syn = data.outbound().syn();
            Fixture::lan("announced", &syn)
                .redirected(&hop(data.outwards(&syn)))
                .counting(&[ActiveUsed])
                .check(talk.datapath);
            // The same port again, which is known by now.
            let again = Packet::new(at(control.inside, 21_000), data.outside).syn();
            Fixture::lan("again", &again)
                .counting(&[DeniedUninvited])
                .check(talk.datapath);
        }
    });
}

/// Where the stack forwards, the WAN's hook sees it, and only there is it told.
#[test]
fn what_the_stack_forwards_is_told_once() {
    on_router(|datapath| {
        let control = control_v4();
        let mut talk = Talk::begin(datapath, control, ISN);
        let syn = Packet::new(at(control.inside, 20), at(control.outside, 50_000)).syn();
        talk.datapath.sender = talk.datapath.lan;
        Fixture::egress("that the inside's hook has seen", &syn).check(talk.datapath);
        talk.datapath.redirect_nothing();
        Fixture::egress("that it has not", &syn)
            .counting(&[DeniedUninvited])
            .check(talk.datapath);
        talk.datapath.redirect_everything();
        talk.datapath.sender = 0;
        // This machine's own server.
        let [one] = told(&mut talk, Hook::WanEgress, &syn)[..] else {
            panic!("not one event");
        };
        assert_eq!(one.reason, DeniedUninvited as u16);
    });
}

#[test]
fn a_server_outside_that_dials_a_client_of_our_own_is_told() {
    on_router(|datapath| {
        for control in [masqueraded_v4(), masqueraded_v6()] {
            let mut talk = Talk::begin_masqueraded(datapath, control, ISN);
            let [server, public] = [at(control.outside, 20), at(control.public, 40_000)];
            let syn = Packet::new(server, public).syn();
            Fixture::wan("SYN", &syn)
                .counting(&[DeniedUninvited])
                .check(talk.datapath);
            let [one] = told(&mut talk, Hook::WanIngress, &syn)[..] else {
                panic!("not one event");
            };
            assert_eq!(one.reason, DeniedUninvited as u16);
            assert_eq!((one.peer, one.public), (endpoint(server), endpoint(public)));
            let inside = at(control.inside, 40_000);
            assert_eq!(one.inside, endpoint(inside));
            let stranger = at(control_v4().outside, 20);
            if public.is_ipv4() {
                Fixture::wan("a stranger", &Packet::new(stranger, public).syn())
                    .check(talk.datapath);
            }
            // The session is over.
            talk.datapath.sessions.clear();
            Fixture::wan("afterwards", &syn).check(talk.datapath);
        }
    });
}

/// The address is a published one, too: the true reason is told, not that a port is closed.
#[test]
fn at_an_address_with_a_server_the_true_reason_is_told() {
    on_router(|datapath| {
        let control = masqueraded_v4();
        let talk = Talk::begin_masqueraded(datapath, control, ISN);
        control_v4().publish(talk.datapath, 0);
        control_v4().publish_range(talk.datapath, 40_000, 40_010);
        for (from, port, reason) in [
            (control.outside, 41_000, DeniedUninvited),
            (control_v4().outside, 41_000, DeniedUnannounced),
            (control.outside, 40_001, Counter::DeniedNoTls),
        ] {
            let syn = Packet::new(at(from, 20), at(control.public, port)).syn();
            Fixture::wan(format!("{from} {port}"), &syn)
                .counting(&[reason])
                .check(talk.datapath);
        }
    });
}

/// PORT announces one connection; a second one is told.
#[test]
fn a_second_connection_for_one_port_is_told() {
    on_router(|datapath| {
        let control = control_v4();
        let mut talk = Talk::begin(datapath, control, ISN);
        let port = "PORT 198,51,100,20,195,80\r\n";
        talk.says(Client, port, port, &[ActiveOpened, Counter::Unchanged]);
        for (from, counter) in [(20, ActiveUsed), (21_000, DeniedUninvited)] {
            let data = control.data(50_000, from, from);
            let syn = data.outbound().syn();
            let fixture = Fixture::lan(format!("from {from}"), &syn).counting(&[counter]);
            if counter == ActiveUsed {
                fixture.redirected(&hop(data.outwards(&syn)))
            } else {
                fixture
            }
            .check(talk.datapath);
        }
        let events = talk.datapath.events();
        let last = events.last().unwrap();
        assert_eq!(
            last.peer,
            Endpoint::new(last.peer.addr, endpoint(at(control.outside, 50_000)).port)
        );
    });
}
