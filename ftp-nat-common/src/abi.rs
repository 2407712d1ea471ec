//! The layout of everything that kernel and user space both touch: map keys and values, settings
//! and events.
//!
//! Every type is `repr(C)` with its padding spelled out (bytemuck's `Pod` proves that none is
//! left), and holds no enum, bool or Option: two different compilers build the two sides. Times
//! are `jiffies64` (the kernel's tick counter, [`Settings::hz`] a second), because reading them
//! costs a packet nothing. Byte order: [`Addr`](crate::wire::addr::Addr) and
//! [`Port`](crate::wire::addr::Port) lie as in a packet, all else is the
//! machine's own.

mod announced;
mod clients;
mod counters;
mod dialogues;
mod events;
mod flows;
mod half_open;
mod interfaces;
mod layout;
mod lines;
mod lists;
mod mappings;
mod pools;
mod ports;
mod published;
mod sessions;
mod settings;
mod shares;
mod tls_clients;

pub use self::announced::*;
pub use self::clients::*;
pub use self::counters::*;
pub use self::dialogues::*;
pub use self::events::*;
pub use self::flows::*;
pub use self::half_open::*;
pub use self::interfaces::*;
pub use self::layout::*;
pub use self::lines::*;
pub use self::lists::*;
pub use self::mappings::*;
pub use self::pools::*;
pub use self::ports::*;
pub use self::published::*;
pub use self::sessions::*;
pub use self::settings::*;
pub use self::shares::*;
pub use self::tls_clients::*;

/// aya wants its own marker before user space may read or write a type through a map.
#[cfg(feature = "user")]
#[expect(
    unsafe_code,
    reason = "aya's marker is a promise that bytemuck has checked"
)]
mod user {
    use super::*;
    use crate::wire::addr::{Addr, Endpoint};

    macro_rules! pod {
        ($($name:ty),* $(,)?) => {
            $(
                // SAFETY: bytemuck's `Pod` holds for the type: plain data without padding.
                unsafe impl aya::Pod for $name {}
            )*
        };
    }

    pod!(
        Addr,
        Endpoint,
        ClientKey,
        InsideNetwork,
        HalfOpenKey,
        HalfOpen,
        FlowKey4,
        FlowKey6,
        Flow,
        MappingKey,
        Mapping,
        PublishKey,
        Publish,
        RoutedKey,
        Pool,
        Interface,
        Ports,
        Settings,
        Share,
        HalfOpenLevel,
        Count,
        Session,
        LinesKey,
        Lines,
        TlsClientKey,
        TlsClient,
        Permit,
        Announced,
        ListKey,
        Listed,
        Event
    );
}
