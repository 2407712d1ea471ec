//! The few bpf(2) commands that aya does not offer, or only one element at a time.

use std::{
    io,
    mem::{size_of, zeroed},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use aya_obj::generated::{
    bpf_attr, bpf_cmd, bpf_func_id, bpf_link_info, bpf_link_type, bpf_prog_type,
};
use bytemuck::Pod;

/// `BPF_NOEXIST` of linux/bpf.h.
pub const NO_EXIST: u64 = 1;

/// `BPF_EXIST` of linux/bpf.h.
pub const EXIST: u64 = 2;

fn call(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<()> {
    call_for_number(command, attr).map(drop)
}

/// A command that gives a new descriptor.
fn call_for_fd(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let fd = call_for_number(command, attr)?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

fn call_for_number(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<libc::c_long> {
    // SAFETY: the attribute is a live, wholly initialised bpf_attr of the size given, and every
    // pointer in it was put there by a caller below, from references that outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_int,
            std::ptr::from_mut(attr),
            size_of::<bpf_attr>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

fn empty() -> bpf_attr {
    // SAFETY: a union of plain C structs, for which all zeroes is valid (and what the kernel
    // wants in the fields that a command does not use).
    unsafe { zeroed() }
}

/// The address of what the kernel is to read.
fn from<T: ?Sized>(what: &T) -> u64 {
    std::ptr::from_ref(what).cast::<()>().expose_provenance() as u64
}

/// The address of what the kernel is to write.
fn to<T: ?Sized>(what: &mut T) -> u64 {
    std::ptr::from_mut(what).cast::<()>().expose_provenance() as u64
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn element<K: Pod>(map: BorrowedFd<'_>, key: &K) -> bpf_attr {
    let mut attr = empty();
    // Writing a field of a union is safe; this one is the element commands' own.
    let fields = bpf_element(&mut attr);
    fields.map_fd = raw(map);
    fields.key = from(key);
    attr
}

fn bpf_element(attr: &mut bpf_attr) -> &mut aya_obj::generated::bpf_attr__bindgen_ty_2 {
    // SAFETY: all members of the union are plain integers, so that any bits are valid.
    unsafe { &mut attr.__bindgen_anon_2 }
}

fn found(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads the value of a key; whether there is one.
///
/// # Errors
///
/// `EPERM`: no CAP_BPF, or the map may not be read. A missing key is no error.
pub fn lookup<K: Pod, V: Pod>(map: impl AsFd, key: &K, value: &mut V) -> io::Result<bool> {
    let mut attr = element(map.as_fd(), key);
    bpf_element(&mut attr).__bindgen_anon_1.value = to(value);
    found(call(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr))
}

/// Takes a key out and gives the very value that was taken (hash maps: Linux 5.14).
///
/// # Errors
///
/// `EPERM`: no CAP_BPF. `ENOTSUPP` (524) or `EINVAL`: the kernel is older than Linux 5.14. A
/// missing key is no error.
pub fn take<K: Pod, V: Pod>(map: impl AsFd, key: &K, value: &mut V) -> io::Result<bool> {
    let mut attr = element(map.as_fd(), key);
    bpf_element(&mut attr).__bindgen_anon_1.value = to(value);
    found(call(bpf_cmd::BPF_MAP_LOOKUP_AND_DELETE_ELEM, &mut attr))
}

/// Sets the value of a key.
///
/// # Errors
///
/// `E2BIG`: the map is full. `EEXIST`: `flags` is [`NO_EXIST`] and the key is there. `ENOENT`:
/// `flags` is [`EXIST`] and it is not. `ENOMEM`: no
/// memory for an entry (maps without preallocation). `EPERM`: no CAP_BPF.
pub fn update<K: Pod, V: Pod>(map: impl AsFd, key: &K, value: &V, flags: u64) -> io::Result<()> {
    let mut attr = element(map.as_fd(), key);
    let fields = bpf_element(&mut attr);
    fields.__bindgen_anon_1.value = from(value);
    fields.flags = flags;
    call(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr)
}

/// Deletes a key; whether it was there.
///
/// # Errors
///
/// `EPERM`: no CAP_BPF. A missing key is no error.
pub fn delete<K: Pod>(map: impl AsFd, key: &K) -> io::Result<bool> {
    let mut attr = element(map.as_fd(), key);
    found(call(bpf_cmd::BPF_MAP_DELETE_ELEM, &mut attr))
}

/// The key after another one, or the first; whether there is one.
///
/// # Errors
///
/// `EPERM`: no CAP_BPF. The end of the map is no error.
pub fn next_key<K: Pod>(map: impl AsFd, after: Option<&K>, next: &mut K) -> io::Result<bool> {
    let mut attr = empty();
    let fields = bpf_element(&mut attr);
    fields.map_fd = raw(map.as_fd());
    fields.key = after.map_or(0, from);
    fields.__bindgen_anon_1.next_key = to(next);
    found(call(bpf_cmd::BPF_MAP_GET_NEXT_KEY, &mut attr))
}

/// Where a batched walk through a hash map stands: the number of a bucket.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor(Option<u32>);

/// What a batched lookup found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// So many elements, and there is more.
    More(usize),
    /// So many elements, and that was all.
    Last(usize),
    /// A bucket holds more elements than the buffers: try again with larger ones.
    TooSmall,
}

/// Reads the next elements of a hash map (Linux 5.6); keys and values have equal lengths.
///
/// The kernel holds one bucket at a time and only for its copy, so that packets never wait for a
/// walk. What is there all the time is seen exactly once; what comes or goes meanwhile may be
/// missed.
///
/// # Errors
///
/// `EPERM`: no CAP_BPF. `EINVAL`: the kernel is older than Linux 5.6.
pub fn lookup_batch<K: Pod, V: Pod>(
    map: impl AsFd,
    cursor: &mut Cursor,
    keys: &mut [K],
    values: &mut [V],
) -> io::Result<Batch> {
    let mut next = 0_u32;
    let mut attr = empty();
    let room = keys.len().min(values.len());
    // SAFETY: all members of the union are plain integers, so that any bits are valid.
    let fields = unsafe { &mut attr.batch };
    fields.in_batch = cursor.0.as_ref().map_or(0, from);
    fields.out_batch = to(&mut next);
    fields.keys = to(keys);
    fields.values = to(values);
    fields.count = u32::try_from(room).unwrap_or(u32::MAX);
    fields.map_fd = raw(map.as_fd());
    let result = call(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr);
    // SAFETY: as above; the kernel wrote the count.
    let count = unsafe { attr.batch.count } as usize;
    match result {
        Ok(()) => {
            cursor.0 = Some(next);
            Ok(Batch::More(count))
        }
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT) => Ok(Batch::Last(count)),
            Some(libc::ENOSPC) => Ok(Batch::TooSmall),
            _ => Err(error),
        },
    }
}

/// What a TCX or XDP link holds together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceLink {
    /// The program that runs.
    pub program: u32,
    /// The interface; 0 once it is gone.
    pub ifindex: u32,
}

/// Asks what a link is; none when it is neither TCX nor XDP.
///
/// # Errors
///
/// `EBADF` or `EINVAL`: the descriptor is no link.
pub fn interface_link(link: impl AsFd) -> io::Result<Option<InterfaceLink>> {
    // SAFETY: a plain C struct, for which all zeroes is valid.
    let mut info: bpf_link_info = unsafe { zeroed() };
    let mut attr = empty();
    // SAFETY: all members of the union are plain integers, so that any bits are valid.
    let fields = unsafe { &mut attr.info };
    fields.bpf_fd = raw(link.as_fd());
    fields.info = to(&mut info);
    fields.info_len = u32::try_from(size_of::<bpf_link_info>()).unwrap_or(0);
    call(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    // SAFETY: the link's type says which member the kernel filled.
    let ifindex = unsafe {
        if info.type_ == bpf_link_type::BPF_LINK_TYPE_TCX as u32 {
            info.__bindgen_anon_1.tcx.ifindex
        } else if info.type_ == bpf_link_type::BPF_LINK_TYPE_XDP as u32 {
            info.__bindgen_anon_1.xdp.ifindex
        } else {
            return Ok(None);
        }
    };
    Ok(Some(InterfaceLink {
        program: info.prog_id,
        ifindex,
    }))
}

/// Detaches a link at once; whether it still was attached.
///
/// # Errors
///
/// `EPERM`: no CAP_BPF. `EOPNOTSUPP`: a link of this type cannot be detached. A link whose
/// interface is gone (`ENOLINK`) is no error.
pub fn detach_link(link: impl AsFd) -> io::Result<bool> {
    let mut attr = empty();
    attr.link_detach.link_fd = raw(link.as_fd());
    match call(bpf_cmd::BPF_LINK_DETACH, &mut attr) {
        Ok(()) => Ok(true),
        // Its interface has gone.
        Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The lower half of the tick counter in which the datapath measures time, as a program reads it.
///
/// # Errors
///
/// `EPERM`: no CAP_BPF or no CAP_NET_ADMIN. `EINVAL`: the kernel is older than Linux 5.5.
pub fn jiffies() -> io::Result<u32> {
    /// `bpf_jiffies64()`, and the end: what is returned is the lower half of the result.
    const PROGRAM: [[u8; 8]; 2] = {
        let [a, b, c, d] = (bpf_func_id::BPF_FUNC_jiffies64 as u32).to_ne_bytes();
        [[0x85, 0, 0, 0, a, b, c, d], [0x95, 0, 0, 0, 0, 0, 0, 0]]
    };
    /// What it is run on: an Ethernet header and something behind it.
    const PACKET: [u8; 64] = [0; 64];
    let mut attr = empty();
    // SAFETY: all members of the union are plain integers, so that any bits are valid.
    let fields = unsafe { &mut attr.__bindgen_anon_3 };
    fields.prog_type = bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS as u32;
    fields.insns = from(&PROGRAM);
    fields.insn_cnt = PROGRAM.len() as u32;
    fields.license = from(c"GPL".to_bytes_with_nul());
    let program = call_for_fd(bpf_cmd::BPF_PROG_LOAD, &mut attr)?;
    let mut attr = empty();
    // SAFETY: as above.
    let fields = unsafe { &mut attr.test };
    fields.prog_fd = raw(program.as_fd());
    fields.data_in = from(&PACKET);
    fields.data_size_in = PACKET.len() as u32;
    fields.repeat = 1;
    call(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr)?;
    // SAFETY: as above; the kernel wrote what the program returned.
    Ok(unsafe { attr.test.retval })
}

/// Opens a pinned object of any kind.
///
/// # Errors
///
/// `ENOENT`: no pin there. `EPERM`: no CAP_BPF. `EACCES`: no permission for the pin, or the file
/// is not on a BPF file system.
pub fn open_pin(path: &std::path::Path) -> io::Result<OwnedFd> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    let mut attr = empty();
    attr.__bindgen_anon_4.pathname = path.as_ptr().expose_provenance() as u64;
    call_for_fd(bpf_cmd::BPF_OBJ_GET, &mut attr)
}

/// Pins an object.
///
/// # Errors
///
/// `EEXIST`: something is there. `ENOENT`: no such folder. `EPERM`: not on a BPF file system, or no
/// CAP_BPF. `EACCES`: the folder belongs to another user.
pub fn pin(object: impl AsFd, path: &std::path::Path) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    let mut attr = empty();
    attr.__bindgen_anon_4.pathname = path.as_ptr().expose_provenance() as u64;
    attr.__bindgen_anon_4.bpf_fd = raw(object.as_fd());
    call(bpf_cmd::BPF_OBJ_PIN, &mut attr)
}
