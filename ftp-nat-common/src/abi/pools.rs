//! POOLS: several servers behind one public end.
//!
//! The daemon computes for each pool which of its servers a client's new sessions go to, as a table
//! that the datapath looks up by the client's address: nothing is searched for a SYN. The table is
//! filled as Maglev's is (Eisenbud et al., NSDI 2016, section 3.4): every server has its own order of
//! preference over all slots, and they take turns. So their shares differ by one slot at most, and a
//! server that comes or goes moves few clients but its own. Only the servers' addresses and ports
//! count, not their order, so all gateways compute the same table.

use crate::masked;
use crate::wire::addr::{Addr, Endpoint};
use bytemuck::{Pod, Zeroable};

/// Slots of a pool's table, a power of two: at least 64 for each server.
pub const POOL_SLOTS: usize = 4096;

/// The most servers that a pool has, a power of two.
pub const POOL_SERVERS: usize = 64;

/// How many bits of [`mix`] choose a slot.
const SLOT_BITS: u32 = POOL_SLOTS.trailing_zeros();

/// [`PoolServer::health`].
pub mod health {
    /// Not checked yet: it counts as one that passes.
    pub const UNKNOWN: u8 = 0;
    /// It passes its checks.
    pub const UP: u8 = 1;
    /// It does not.
    pub const DOWN: u8 = 2;
}

/// [`PoolServer::fault`]: what was wrong with a server at its last check.
pub mod fault {
    /// Nothing.
    pub const NONE: u8 = 0;
    /// The connection was refused.
    pub const REFUSED: u8 = 1;
    /// The connection was not answered in time.
    pub const NO_ANSWER: u8 = 2;
    /// There is no way there: no route, or no neighbour answers.
    pub const UNREACHABLE: u8 = 3;
    /// It accepted the connection and said nothing in time.
    pub const SILENT: u8 = 4;
    /// It closed the connection before it had said anything.
    pub const CLOSED: u8 = 5;
    /// It said something else than 220: [`super::PoolServer::code`].
    pub const GREETING: u8 = 6;
}

/// A server of a pool.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PoolServer {
    /// When its health changed last, or whether it is drained, in jiffies; 0: never.
    pub since: u64,
    /// Where its control connections go.
    pub server: Endpoint,
    /// This machine's address on its network, for clients that it must not see under their own; none:
    /// there is none.
    pub near: Addr,
    /// [`health`].
    pub health: u8,
    /// [`fault`], while it is down.
    pub fault: u8,
    /// The code of what it said instead of 220; 0: no FTP at all.
    pub code: u16,
    /// 1: an operator drains it, no new sessions go there.
    pub draining: u8,
    /// Zero.
    pub pad: [u8; 7],
}

/// Which servers new sessions go to: [`Pool::mode`].
pub mod pool_mode {
    /// Those that pass their checks and are not drained.
    pub const CHECKED: u8 = 0;
    /// None of those that are not drained passes: all of them, as if nothing were checked. A server
    /// that is really gone answers no worse for that.
    pub const UNCHECKED: u8 = 1;
    /// None: all are drained.
    pub const CLOSED: u8 = 2;
}

/// A pool; its key in the map is that of its entry in PUBLISHED. Written by the daemon alone, and
/// always as a whole: the kernel puts a new value in the old one's place, so that a SYN sees one or
/// the other.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Pool {
    /// Its servers; the rest are zeros.
    pub servers: [PoolServer; POOL_SERVERS],
    /// For each slot, the place of its server in `servers`.
    pub slots: [u8; POOL_SLOTS],
    /// How many servers it has.
    pub count: u8,
    /// [`pool_mode`].
    pub mode: u8,
    /// Zero.
    pub pad: [u8; 6],
}

impl Pool {
    /// The server that a client's new sessions go to. Without meaning where [`Pool::mode`] is
    /// [`pool_mode::CLOSED`].
    #[inline(always)]
    pub const fn server_for(&self, client: &Addr) -> &PoolServer {
        let place = *masked::at(&self.slots, slot_of(client));
        masked::at(&self.servers, place as usize)
    }

    /// Its servers.
    pub fn all(&self) -> &[PoolServer] {
        self.servers
            .get(..usize::from(self.count))
            .unwrap_or(&self.servers)
    }

    /// The same, to be changed: [`Pool::fill`] must follow.
    pub fn all_mut(&mut self) -> &mut [PoolServer] {
        let count = usize::from(self.count).min(POOL_SERVERS);
        self.servers.get_mut(..count).unwrap_or_default()
    }

    /// Computes mode and slots from the servers and their states.
    pub fn fill(&mut self) {
        let is_open = |it: &PoolServer| it.draining == 0;
        let passes = |it: &PoolServer| is_open(it) && it.health != health::DOWN;
        self.slots = [0; POOL_SLOTS];
        if self.all().iter().any(passes) {
            self.mode = pool_mode::CHECKED;
            self.share(passes);
        } else if self.all().iter().any(is_open) {
            self.mode = pool_mode::UNCHECKED;
            self.share(is_open);
        } else {
            self.mode = pool_mode::CLOSED;
        }
    }

    /// Gives the slots to the servers that may have them.
    fn share(&mut self, may_have: impl Fn(&PoolServer) -> bool) {
        const FREE: u8 = u8::MAX;
        // A server's place, the slot that it tries next and how far it goes on from there: an odd
        // number, so that it comes past every slot.
        let mut turns = [(0_u8, 0_usize, 0_usize); POOL_SERVERS];
        let mut order = [(0_u64, 0_u8); POOL_SERVERS];
        let mut count = 0;
        for (place, server) in (0..).zip(self.all()) {
            if let Some(entry) = order.get_mut(count)
                && may_have(server)
            {
                *entry = (identity(&server.server), place);
                count = count.wrapping_add(1);
            }
        }
        let order = order.get_mut(..count).unwrap_or_default();
        order.sort_unstable();
        let turns = turns.get_mut(..count).unwrap_or_default();
        for (turn, (number, place)) in turns.iter_mut().zip(order) {
            *turn = (*place, *number as usize, (*number >> 32) as usize | 1);
        }
        self.slots = [FREE; POOL_SLOTS];
        let mut left = POOL_SLOTS;
        while left > 0 && !turns.is_empty() {
            for (place, slot, step) in turns.iter_mut() {
                if left == 0 {
                    break;
                }
                while *masked::at(&self.slots, *slot) != FREE {
                    *slot = slot.wrapping_add(*step);
                }
                *masked::at_mut(&mut self.slots, *slot) = *place;
                left = left.wrapping_sub(1);
            }
        }
    }
}

/// The slot of a client's sessions: by its address, or of IPv6 by its network of 64 bits, within
/// which hosts change their addresses (RFC 8981).
#[inline(always)]
pub const fn slot_of(client: &Addr) -> usize {
    let [first, second, _, last] = client.0;
    let number = if client.is_v4() {
        last as u64
    } else {
        (first as u64) << 32 | second as u64
    };
    (mix(number) >> (u64::BITS - SLOT_BITS)) as usize
}

/// A server's number, from its address and port.
fn identity(server: &Endpoint) -> u64 {
    let [first, second, third, last] = server.addr.0;
    let halves = [
        (u64::from(first) << 32) | u64::from(second),
        (u64::from(third) << 32) | u64::from(last),
    ];
    let [high, low] = halves;
    mix(mix(mix(high) ^ low) ^ u64::from(server.port.0))
}

/// Mixes a number so that each of its bits changes half of the result's: the last step of
/// MurmurHash3 for 64 bits.
#[inline(always)]
const fn mix(mut number: u64) -> u64 {
    number ^= number >> 33;
    number = number.wrapping_mul(0xff51_afd7_ed55_8ccd);
    number ^= number >> 33;
    number = number.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    number ^ (number >> 33)
}

const _: () = assert!(size_of::<PoolServer>() == 56);
const _: () = assert!(POOL_SERVERS <= u8::MAX as usize);
const _: () = assert!(POOL_SLOTS.is_power_of_two() && POOL_SLOTS / POOL_SERVERS >= 64);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::addr::Port;
    use core::net::IpAddr;
    use std::vec::Vec;

    fn server(last: u8) -> PoolServer {
        PoolServer {
            server: Endpoint::new(Addr::from_octets([10, 0, 0, last]), Port::new(21)),
            health: health::UP,
            ..PoolServer::default()
        }
    }

    fn pool(servers: &[PoolServer]) -> Pool {
        let mut pool = Pool::zeroed();
        pool.count = servers.len() as u8;
        pool.all_mut().copy_from_slice(servers);
        pool.fill();
        pool
    }

    fn servers(count: u8) -> Vec<PoolServer> {
        (1..=count).map(server).collect()
    }

    /// 10,000 clients: neighbours, every 256th, and of all the IPv4 Internet.
    fn clients() -> [Vec<Addr>; 3] {
        let of = |step: u32, first: u32| {
            (0..10_000_u32)
                .map(|number| {
                    let ip = first.wrapping_add(number.wrapping_mul(step));
                    Addr::from_octets(ip.to_be_bytes())
                })
                .collect()
        };
        [
            of(1, 0xc633_6400),
            of(256, 0x0b00_0000),
            of(0x9e37_79b1, 0x0100_0000),
        ]
    }

    fn share(pool: &Pool, clients: &[Addr]) -> Vec<usize> {
        let of = |server: &PoolServer| {
            let chosen = clients.iter().map(|it| pool.server_for(it).server);
            chosen.filter(|it| *it == server.server).count()
        };
        pool.all().iter().map(of).collect()
    }

    #[test]
    fn every_server_has_as_many_slots_as_any_other() {
        for count in 1..=POOL_SERVERS as u8 {
            let pool = pool(&servers(count));
            for place in 0..count {
                let its = pool.slots.iter().filter(|it| **it == place).count();
                let fair = POOL_SLOTS / usize::from(count);
                assert!(
                    (fair..=fair + 1).contains(&its),
                    "{place} of {count}: {its}"
                );
            }
        }
    }

    #[test]
    fn ten_thousand_clients_spread_within_five_percent_of_even() {
        for clients in clients() {
            for count in 2..=4 {
                let even = clients.len() as f64 / f64::from(count);
                for its in share(&pool(&servers(count)), &clients) {
                    let off = (its as f64 - even).abs() / even;
                    assert!(off <= 0.05, "{its} of {} for one of {count}", clients.len());
                }
            }
        }
    }

    #[test]
    fn a_server_that_comes_takes_its_share_and_moves_few_others() {
        for count in 1..16 {
            let (before, after) = (pool(&servers(count)), pool(&servers(count + 1)));
            let newcomer = server(count + 1).server;
            let (mut taken, mut moved) = (0, 0);
            for slot in 0..POOL_SLOTS {
                let old = before.servers[usize::from(before.slots[slot])].server;
                let new = after.servers[usize::from(after.slots[slot])].server;
                taken += usize::from(new == newcomer);
                moved += usize::from(new != newcomer && new != old);
            }
            let fair = POOL_SLOTS / usize::from(count + 1);
            assert!((fair..=fair + 1).contains(&taken), "{count}: {taken}");
            assert!(moved * 20 <= POOL_SLOTS, "{count}: {moved} more have moved");
        }
    }

    #[test]
    fn the_servers_order_does_not_matter_and_back_is_as_before() {
        let (all, turned) = (servers(5), servers(5).into_iter().rev().collect::<Vec<_>>());
        let (one, other) = (pool(&all), pool(&turned));
        let mut changed = one;
        changed.all_mut()[2].health = health::DOWN;
        changed.fill();
        for client in clients().concat() {
            assert_eq!(
                one.server_for(&client).server,
                other.server_for(&client).server
            );
            assert_ne!(changed.server_for(&client).server, all[2].server);
        }
        changed.all_mut()[2].health = health::UP;
        changed.fill();
        assert_eq!(changed, one);
    }

    #[test]
    fn hosts_of_one_network_of_64_bits_are_one_client() {
        let addr = |text: &str| Addr::from(text.parse::<IpAddr>().unwrap());
        let slot = |text: &str| slot_of(&addr(text));
        assert_eq!(slot("2001:db8:1:2::1"), slot("2001:db8:1:2:ffff::9"));
        let nets: std::collections::HashSet<_> = (0..64)
            .map(|number| slot(&std::format!("2001:db8:1:{number:x}::1")))
            .collect();
        assert!(nets.len() > 60, "{} slots for 64 networks", nets.len());
    }

    #[test]
    fn who_gets_sessions_depends_on_checks_and_drains() {
        let (up, unknown, down) = (health::UP, health::UNKNOWN, health::DOWN);
        for (states, mode, getting) in [
            (
                [(up, 0), (unknown, 0), (down, 0)],
                pool_mode::CHECKED,
                [true, true, false],
            ),
            (
                [(up, 1), (unknown, 0), (down, 0)],
                pool_mode::CHECKED,
                [false, true, false],
            ),
            (
                [(up, 1), (down, 0), (down, 0)],
                pool_mode::UNCHECKED,
                [false, true, true],
            ),
            (
                [(down, 0), (down, 0), (down, 1)],
                pool_mode::UNCHECKED,
                [true, true, false],
            ),
            (
                [(up, 1), (down, 1), (unknown, 1)],
                pool_mode::CLOSED,
                [false; 3],
            ),
        ] {
            let mut all = servers(3);
            for (server, (health, draining)) in all.iter_mut().zip(states) {
                (server.health, server.draining) = (health, draining);
            }
            let pool = pool(&all);
            assert_eq!(pool.mode, mode, "{states:?}");
            if mode != pool_mode::CLOSED {
                let [clients, ..] = clients();
                let gets: Vec<_> = share(&pool, &clients).iter().map(|it| *it > 0).collect();
                assert_eq!(gets, getting, "{states:?}");
            }
        }
    }
}
