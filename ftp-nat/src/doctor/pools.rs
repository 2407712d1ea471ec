//! Pools: which of their servers get sessions, as the running gateway has it.

use ftp_nat_common::{
    abi::{Pool, PublishKey, health, pool_mode},
    wire::addr::Endpoint,
};

use super::{finding::Findings, subject::Subject};
use crate::model::pool::why_down;

pub(super) fn check(subject: &Subject, findings: &mut Findings) {
    let Some(loaded) = &subject.loaded else {
        return;
    };
    match loaded.maps.pools.all() {
        Ok(pools) => {
            for (public, pool) in &pools {
                judge(public, pool, findings);
            }
        }
        Err(error) => findings.unread("the pools", &error.into()),
    }
}

fn judge(public: &PublishKey, pool: &Pool, findings: &mut Findings) {
    let public = Endpoint::new(public.addr, public.port);
    for it in pool.all() {
        let server = it.server;
        if let Some(why) = why_down(it) {
            findings.error(
                "pool-server-down",
                None,
                format!("the server {server} of {public} is down: {why}"),
                "repair it: it gets sessions again by itself, once it passes its checks ([health])",
            );
        }
        if it.draining != 0 {
            findings.note(
                "pool-server-draining",
                None,
                format!("the server {server} of {public} is drained: it gets no new sessions"),
                "`ftp-nat pool undrain` ends that",
            );
        }
    }
    match pool.mode {
        pool_mode::UNCHECKED => findings.error(
            "pool-unchecked",
            None,
            format!(
                "no server of {public} passes its checks: sessions go to all of them, as if nothing \
                 were checked"
            ),
            "if they work for clients, it is the checks that fail: they come from this gateway's own \
             address, which the servers' firewalls and lists of addresses must let in",
        ),
        pool_mode::CLOSED => findings.error(
            "pool-closed",
            None,
            format!("all servers of {public} are drained: new sessions are refused"),
            "`ftp-nat pool undrain` one of them",
        ),
        _ if pool.all().iter().any(|it| it.health == health::UNKNOWN) => findings.note(
            "pool-not-checked-yet",
            None,
            format!("not all servers of {public} have been checked yet"),
            "wait some seconds; only the daemon (`ftp-nat run`) checks them",
        ),
        _ => {}
    }
}
