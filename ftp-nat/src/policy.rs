//! What the configuration means on this machine now: the contents of the datapath's tables and the
//! hooks that it must be attached to.

mod apply;
mod derive;
mod desired;
mod destinations;
mod interfaces;
mod obstacle;
mod settings;

pub use self::{
    desired::{Policy, is_routed},
    destinations::{destinations, networks},
    obstacle::Obstacle,
    settings::settings,
};
