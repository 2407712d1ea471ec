//! A frame at an XDP hook: `struct xdp_md`.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;

/// A frame as XDP hands it over.
#[derive(Clone, Copy)]
pub struct Frame(*mut xdp_md);

impl Frame {
    /// The frame of a program's context.
    #[inline(always)]
    pub fn new(ctx: &XdpContext) -> Self {
        Self(ctx.ctx)
    }

    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        // SAFETY: the kernel hands a valid context to the program, and it lives as long.
        unsafe { ((*self.0).data as usize, (*self.0).data_end as usize) }
    }

    /// Its length, from the Ethernet header on.
    #[inline(always)]
    pub fn len(&self) -> u32 {
        let (start, end) = self.bounds();
        end.wrapping_sub(start) as u32
    }

    /// Its start as a `T`; None if it is shorter.
    #[inline(always)]
    pub fn view<T: bytemuck::Pod>(&self) -> Option<&T> {
        let (start, end) = self.bounds();
        if start + size_of::<T>() > end {
            return None;
        }
        // SAFETY: the bounds were checked just now, and any bytes are a `T`.
        Some(unsafe { &*(start as *const T) })
    }

    /// Changes its start, a `T`; false if it is shorter.
    #[inline(always)]
    pub fn change<T: bytemuck::Pod>(&self, change: impl FnOnce(&mut T)) -> bool {
        let (start, end) = self.bounds();
        if start + size_of::<T>() > end {
            return false;
        }
        // SAFETY: the bounds were checked just now, any bytes are a `T`, and the change ends before
        // the frame is looked at again.
        change(unsafe { &mut *(start as *mut T) });
        true
    }
}
