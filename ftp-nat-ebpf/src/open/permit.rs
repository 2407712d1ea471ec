//! Permits: the server has answered inside TLS, so its client may make one data connection to the
//! passive range.

use crate::kernel::helpers::jiffies;
use crate::state::maps;
use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use ftp_nat_common::abi::{Permit, Session, TLS_SESSIONS, TlsClient, TlsClientKey};

/// Grants the session with this number a permit, or renews it, and makes the session one of its
/// client's. Where a table is full, the data connection will be refused and its client asks again.
#[inline(never)]
pub(super) fn grant(session: &mut Session, number: u32) {
    let permit = Permit { granted: jiffies() };
    let _ = maps::PERMITS.insert(number, permit, u64::from(BPF_ANY));
    let key = TlsClientKey {
        client: session.outside.addr,
        public: session.public.addr,
    };
    let entry = match maps::TLS_CLIENTS.get_ptr_mut(key) {
        Some(entry) => entry,
        None => {
            let none = TlsClient::default();
            let _ = maps::TLS_CLIENTS.insert(key, none, u64::from(BPF_NOEXIST));
            match maps::TLS_CLIENTS.get_ptr_mut(key) {
                Some(entry) => entry,
                None => return,
            }
        }
    };
    // SAFETY: the entry stays in its place while the program runs; its fields are aligned, and each
    // is read and written whole. Another CPU may enter another session meanwhile: see `TlsClient`.
    unsafe {
        let sessions = &raw mut (*entry).sessions;
        let own = (session.answered.place as usize) & (TLS_SESSIONS - 1);
        if (*sessions)[own] == number {
            return;
        }
        let entered = (*entry).entered;
        (*entry).entered = entered.wrapping_add(1);
        (*sessions)[entered as usize & (TLS_SESSIONS - 1)] = number;
        session.answered.place = entered & (TLS_SESSIONS as u32 - 1);
    }
}

/// One of a client's sessions, with its number: the one at `index`, counted modulo the places that there
/// are. None: no session has that place now. `client` must be an entry of TLS_CLIENTS.
#[inline(always)]
pub(super) fn session_at(client: *const TlsClient, index: u64) -> Option<(u32, &'static Session)> {
    // SAFETY: the client's entry and the session's stay in their places while the program runs.
    unsafe {
        let number = (*client).sessions[index as usize & (TLS_SESSIONS - 1)];
        let session = maps::SESSIONS.get_ptr(number)?;
        Some((number, &*session))
    }
}
