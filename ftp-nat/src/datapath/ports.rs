//! The PORTS map in this process' memory: a byte and a bit a port, read and changed while the datapath
//! does the same.

use std::{
    mem::{offset_of, size_of},
    os::fd::AsFd as _,
    ptr::{NonNull, null_mut},
    sync::atomic::{AtomicU8, Ordering},
};

use anyhow::Context as _;
use aya::maps::MapData;
use ftp_nat_common::{
    abi::{Ports, port as bits, reserved_bit},
    wire::addr::Port,
};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

const SIZE: usize = size_of::<Ports>();

/// Where the bits begin, behind the bytes.
const RESERVED: usize = offset_of!(Ports, reserved);

/// A byte for each port, whose bits are in [`ftp_nat_common::abi::port`], and [`Ports::reserved`].
#[derive(Debug)]
pub struct PortBytes(NonNull<[AtomicU8; SIZE]>);

// SAFETY: the memory belongs to this value alone until it is dropped, and atomics may be shared.
unsafe impl Send for PortBytes {}
// SAFETY: as above.
unsafe impl Sync for PortBytes {}

impl PortBytes {
    /// Maps the memory of the PORTS map, whose size has been checked.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: no address space. `EINVAL`: the map was made without BPF_F_MMAPABLE.
    pub(crate) fn of(map: &MapData) -> anyhow::Result<Self> {
        // SAFETY: a new mapping at a place of the kernel's choice overlays nothing.
        let memory = unsafe {
            mmap(
                null_mut(),
                SIZE,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                map.fd().as_fd(),
                0,
            )
        }
        .context("cannot map the port table into memory")?;
        let memory = NonNull::new(memory.cast()).context("the port table has no memory")?;
        Ok(Self(memory))
    }

    fn bytes(&self) -> &[AtomicU8; SIZE] {
        // SAFETY: mapped for as long as `self` lives, page-aligned and of that size; others change
        // it only byte by byte, which atomics allow.
        unsafe { self.0.as_ref() }
    }

    fn byte(&self, port: u16) -> &AtomicU8 {
        &self.bytes()[offset_of!(Ports, marks) + Port::new(port).place()]
    }

    /// Sets the bits of these ports, and clears all others. For one writer.
    pub fn set_reserved(&self, ports: impl IntoIterator<Item = Port>) {
        let mut wanted = vec![0_u8; SIZE - RESERVED];
        for port in ports {
            let (at, bit) = reserved_bit(port);
            wanted[at] |= bit;
        }
        for (byte, wanted) in self.bytes()[RESERVED..].iter().zip(wanted) {
            byte.store(wanted, Ordering::Relaxed);
        }
    }

    /// A port's byte.
    pub fn get(&self, port: u16) -> u8 {
        self.byte(port).load(Ordering::Relaxed)
    }

    /// Sets bits of a port's byte.
    pub fn set_bits(&self, port: u16, bits: u8) {
        if self.get(port) & bits != bits {
            self.byte(port).fetch_or(bits, Ordering::Relaxed);
        }
    }

    /// Replaces a port's byte unless somebody has changed it meanwhile; whether it was replaced.
    pub fn replace(&self, port: u16, seen: u8, new: u8) -> bool {
        self.byte(port)
            .compare_exchange(seen, new, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Marks a port as one that flows use, in this epoch.
    pub fn set_epoch(&self, port: u16, epoch: u8) {
        let mut seen = self.get(port);
        while seen & bits::EPOCH != epoch && !self.replace(port, seen, seen & !bits::EPOCH | epoch)
        {
            seen = self.get(port);
        }
    }

    /// Clears bits of a port's byte unless somebody has changed it meanwhile; whether it was
    /// cleared.
    pub fn clear_bits_if(&self, port: u16, seen: u8, bits: u8) -> bool {
        self.replace(port, seen, seen & !bits)
    }

    /// All ports whose byte is not zero.
    pub fn marked(&self) -> Vec<(u16, u8)> {
        (0..=u16::MAX)
            .map(|port| (port, self.get(port)))
            .filter(|(_, byte)| *byte != 0)
            .collect()
    }
}

impl Drop for PortBytes {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference into it outlives `self`.
        if let Err(error) = unsafe { munmap(self.0.as_ptr().cast(), SIZE) } {
            log::warn!("cannot unmap the port table: {error}");
        }
    }
}
