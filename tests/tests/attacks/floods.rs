//! Floods with a crowd of legitimate clients beside: each gets in, logs in and fetches while it
//! lasts.
//!
//! A flood lasts 5 seconds here, beside other tests; with [`SECONDS_VARIABLE`] it lasts longer, and
//! must reach its rate. The rate is what the flooder's wire really carried.

use std::{
    fs,
    sync::{Mutex, PoisonError},
};

use ftp_nat_tests::attack::{
    crowd,
    flood::Flood,
    segment::{ACK, Checksum, FIN, SYN, Segment},
};

use super::{
    handshakes::{invented, one_source, syn, then},
    *,
};

/// Names how many seconds each flood lasts.
const SECONDS_VARIABLE: &str = "FTP_NAT_LAB_FLOOD_SECONDS";

/// Packets a second at least.
const RATE: u64 = 50_000;
/// Legitimate clients.
const CLIENTS: usize = 200;
/// The kernel's memory for objects and the maps' own may grow by no more, in KiB.
const GROWTH: u64 = 64 * 1024;

/// What a client fetches.
const FILE: &str = "/download/medium.bin";

fn duration() -> Duration {
    let seconds = std::env::var(SECONDS_VARIABLE).ok();
    Duration::from_secs(seconds.map_or(5, |seconds| seconds.parse().unwrap()))
}

/// Packets a second that must have left. The kernel's helper takes so much of the machine that
/// flooder and clients get the rest; beside other tests, and on a busy machine, it is the same for
/// ftp-nat.
fn least_rate() -> f64 {
    if std::env::var(SECONDS_VARIABLE).is_ok() && !attacks_kernel() {
        RATE as f64
    } else {
        RATE as f64 / 10.0
    }
}

/// What the kernel uses for its objects, in KiB (`Slab` of /proc/meminfo).
fn slab() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Slab:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap()
}

/// What the daemon's maps take, in KiB (`memlock` of their descriptors' fdinfo).
fn maps(publisher: &Publisher) -> u64 {
    let Some(pid) = publisher.gateway.as_ref().and_then(Gateway::pid) else {
        return 0;
    };
    let files = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    let bytes: u64 = files
        .flatten()
        .filter_map(|file| fs::read_to_string(file.path()).ok())
        .filter_map(|text| {
            let memlock = text
                .lines()
                .find_map(|line| line.strip_prefix("memlock:"))?;
            memlock.trim().parse::<u64>().ok()
        })
        .sum();
    bytes / 1024
}

/// The crowd's visits beside a flood of what `packet` makes of each number.
fn assert_all_get_in(packet: impl Fn(u64) -> Segment + Send + 'static) {
    // One flood is all that this machine can make.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = lab();
    let server = vsftpd(&lab);
    let content: Vec<u8> = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
    server.offer("medium.bin", &content).unwrap();
    crowd::settle(&lab, client(&lab), CLIENTS).unwrap();
    let publisher = publish(&lab, &[]);
    let mut old = log_in(&lab, &server);
    fetch(&lab, &mut old).unwrap();
    let before = slab() + maps(&publisher);

    let flood = Flood::start(attackers_wire(&lab), RATE + RATE / 10, move |number| {
        packet(number).packet()
    });
    // The tables are as full as they will be before the first client comes.
    flood.wait_for(RATE);
    let lasts = duration();
    let visits = crowd::visit(client(&lab), PUBLIC, CLIENTS, lasts, FILE, &content);
    fetch(&lab, &mut old).unwrap();
    let sent = flood.stop().unwrap();
    let after = slab() + maps(&publisher);

    let failed: Vec<_> = visits
        .iter()
        .filter_map(|visit| visit.as_ref().err())
        .collect();
    let mut visits: Vec<_> = visits
        .iter()
        .filter_map(|visit| visit.as_ref().ok())
        .collect();
    visits.sort_by_key(|visit| visit.repetitions);
    println!(
        "{:.0} packets a second for {:.1} s; {} of {CLIENTS} clients served; memory grew by {} KiB",
        sent.rate(),
        sent.took.as_secs_f64(),
        visits.len(),
        after.saturating_sub(before)
    );
    if let Some(median) = visits.get(visits.len() / 2) {
        let most = visits[visits.len() - 1].repetitions;
        let slowest = visits.iter().map(|visit| visit.took).max().unwrap();
        println!(
            "repetitions of the first SYN: {} in the median, {most} at most; the slowest visit \
             took {slowest:.1?}",
            median.repetitions
        );
    }
    assert!(
        failed.is_empty(),
        "{} failed, the first: {:#}",
        failed.len(),
        failed[0]
    );
    assert!(visits[CLIENTS / 2].repetitions <= 1);
    let least = least_rate();
    assert!(sent.rate() >= least, "only {:.0} a second", sent.rate());
    assert!(
        after.saturating_sub(before) < GROWTH,
        "{before} KiB, then {after} KiB"
    );
    let sessions = publisher.count("sessions").unwrap_or_default();
    assert!(sessions <= CLIENTS + 2, "{sessions} sessions");
    // The session from before the flood is still read.
    use_session(&lab, &mut old).unwrap();
}

/// Numbers that begin anew after 4 million: there are no more addresses.
fn number(number: u64) -> u32 {
    number as u32 % (1 << 22)
}

#[test]
fn a_flood_of_syns_of_invented_sources_keeps_nobody_out() {
    assert_all_get_in(|n| syn(invented(number(n)), number(n)));
}

#[test]
fn a_flood_of_syns_of_one_source_keeps_nobody_out() {
    assert_all_get_in(|n| syn(one_source(number(n)), number(n)));
}

#[test]
fn a_flood_of_syn_acks_keeps_nobody_out() {
    assert_all_get_in(|n| then(invented(number(n)), number(n), SYN | ACK));
}

#[test]
fn a_flood_of_syn_fins_keeps_nobody_out() {
    assert_all_get_in(|n| then(invented(number(n)), number(n), SYN | FIN));
}

#[test]
fn a_flood_of_syns_each_with_an_ack_of_a_wrong_checksum_keeps_nobody_out() {
    assert_all_get_in(|n| {
        let half = number(n / 2);
        match n % 2 {
            0 => syn(invented(half), half),
            _ => Segment {
                checksum: Checksum::Wrong(0x5555),
                ..then(invented(half), half, ACK)
            },
        }
    });
}

#[test]
fn a_flood_of_syns_each_with_an_ack_of_a_guessed_number_keeps_nobody_out() {
    assert_all_get_in(|n| {
        let half = number(n / 2);
        match n % 2 {
            0 => syn(invented(half), half),
            _ => then(invented(half), half, ACK),
        }
    });
}

#[test]
fn a_flood_of_acks_without_syns_keeps_nobody_out() {
    assert_all_get_in(|n| then(invented(number(n)), number(n), ACK));
}

#[test]
fn a_flood_of_syns_to_ports_that_nobody_announced_keeps_nobody_out() {
    assert_all_get_in(|n| {
        let to = (WAN_ADDRESS, 1024 + (n % 60_000) as u16).into();
        Segment {
            to,
            ..syn(invented(number(n)), number(n))
        }
    });
}
