//! The segment size that redirected connections agree on.

use ftp_nat_common::{
    abi::{Settings, mss},
    counter::Counter,
};

use crate::{
    fixture::Fixture,
    loaded::{Datapath, Hook, on_router},
    packet::{ACK, Packet, SYN},
    scene::{Ends, control_v4, control_v6, hop},
};

fn connect(datapath: &mut Datapath, data: &Ends) {
    data.announce_passive(datapath);
    datapath.run(Hook::WanIngress, &data.inbound().syn().bytes());
}

fn clamp(datapath: &mut Datapath, mss_clamp: u16) {
    let settings = Settings {
        mss_clamp,
        ..datapath.settings()
    };
    datapath.set(settings);
}

/// A SYN's options with a segment size in them, at an even and at an odd place.
fn options(size: u16) -> [Vec<u8>; 2] {
    let [high, low] = size.to_be_bytes();
    [
        vec![2, 4, high, low, 4, 2, 1, 1],
        vec![1, 2, 4, high, low, 1, 1, 0],
    ]
}

fn syn_ack(of: Packet, options: &[u8]) -> Packet {
    of.flags(SYN | ACK).tcp_options(options)
}

#[test]
fn a_larger_segment_size_is_cut_to_what_fits_and_a_smaller_one_stays() {
    on_router(|datapath| {
        for ends in [control_v4(), control_v6()] {
            let data = ends.data(50_111, 50_000, 50_000);
            clamp(datapath, mss::OFF);
            connect(datapath, &data);
            // Both interfaces of the lab take 1500 bytes.
            let fits = if data.outside.is_ipv4() { 1460 } else { 1440 };
            for (setting, offered, agreed) in [
                (mss::AUTO, 8960, fits),
                (mss::AUTO, fits + 1, fits),
                (mss::AUTO, fits, fits),
                (mss::AUTO, 536, 536),
                (mss::OFF, 8960, 8960),
                (1200, 1460, 1200),
                (1200, 1000, 1000),
            ] {
                clamp(datapath, setting);
                for (given, taken) in options(offered).iter().zip(options(agreed)) {
                    let cut: &[_] = if offered == agreed {
                        &[]
                    } else {
                        &[Counter::MssClamped]
                    };
                    let name = format!("{setting}: {offered} in {given:?}");
                    let packet = syn_ack(data.outbound(), given);
                    Fixture::lan(name, &packet)
                        .redirected(&hop(data.outwards(&syn_ack(data.outbound(), &taken))))
                        .counting(cut)
                        .check(datapath);
                }
            }
        }
    });
}

#[test]
fn a_syn_without_a_size_or_with_options_that_lie_stays_as_it_is() {
    on_router(|datapath| {
        let data = control_v4().data(50_111, 50_000, 50_000);
        connect(datapath, &data);
        clamp(datapath, 600);
        for given in [
            &[][..],
            &[1, 1, 1, 1],
            &[0, 2, 4, 9],
            &[2, 3, 9, 9],
            &[8, 0, 2, 4],
            &[8, 255, 2, 4],
            &[1, 1, 1, 2],
            &[3, 4, 2, 4, 9, 9, 9, 9],
        ] {
            let packet = syn_ack(data.outbound(), given);
            Fixture::lan(format!("{given:?}"), &packet)
                .redirected(&hop(data.outwards(&packet)))
                .check(datapath);
        }
    });
}

#[test]
fn a_size_is_an_option_of_a_syn_only() {
    on_router(|datapath| {
        let data = control_v4().data(50_111, 50_000, 50_000);
        connect(datapath, &data);
        clamp(datapath, 600);
        let packet = data.outbound().tcp_options(&options(1460)[0]);
        Fixture::lan("an ACK", &packet)
            .redirected(&hop(data.outwards(&packet)))
            .check(datapath);
    });
}
