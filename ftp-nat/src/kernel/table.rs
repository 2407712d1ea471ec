//! The kernel's hash maps as tables of typed keys and values.

use std::{io, marker::PhantomData, os::fd::AsFd as _};

use aya::maps::MapData;
use bytemuck::Pod;

use super::bpf::{self, Batch, Cursor};

/// Memory for the elements that one system call reads: enough to make the call's cost vanish, and
/// little beside what the daemon may take.
const BATCH_BYTES: usize = 128 * 1024;

/// A hash map.
#[derive(Debug)]
pub struct Table<K, V> {
    map: MapData,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: Pod, V: Pod> Table<K, V> {
    /// The map as a table; that its sizes are right has been checked (see [`crate::datapath::maps`]).
    pub(crate) fn new(map: MapData) -> Self {
        Self {
            map,
            types: PhantomData,
        }
    }

    /// The value of a key.
    ///
    /// # Errors
    ///
    /// `EPERM`: no CAP_BPF. A missing key is no error.
    pub fn get(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = V::zeroed();
        let found = bpf::lookup(self.map.fd().as_fd(), key, &mut value)?;
        Ok(found.then_some(value))
    }

    /// Sets a key's value.
    ///
    /// # Errors
    ///
    /// `E2BIG`: the table is full. `ENOMEM`: no memory for an entry. `EPERM`: no CAP_BPF.
    pub fn set(&self, key: &K, value: &V) -> io::Result<()> {
        bpf::update(self.map.fd().as_fd(), key, value, 0)
    }

    /// Sets a key's value unless it has one; whether it had none.
    ///
    /// # Errors
    ///
    /// As [`Self::set`]; a key that is there is no error.
    pub fn add(&self, key: &K, value: &V) -> io::Result<bool> {
        match bpf::update(self.map.fd().as_fd(), key, value, bpf::NO_EXIST) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sets a key's value if it has one; whether it had.
    ///
    /// # Errors
    ///
    /// As [`Self::set`]; a missing key is no error.
    pub fn replace(&self, key: &K, value: &V) -> io::Result<bool> {
        match bpf::update(self.map.fd().as_fd(), key, value, bpf::EXIST) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes a key; whether it was there.
    ///
    /// # Errors
    ///
    /// `EPERM`: no CAP_BPF. A missing key is no error.
    pub fn delete(&self, key: &K) -> io::Result<bool> {
        bpf::delete(self.map.fd().as_fd(), key)
    }

    /// Takes a key out and gives the very value that was taken.
    ///
    /// # Errors
    ///
    /// `EPERM`: no CAP_BPF. A missing key is no error.
    pub fn take(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = V::zeroed();
        let found = bpf::take(self.map.fd().as_fd(), key, &mut value)?;
        Ok(found.then_some(value))
    }

    /// Shows every element once; those that come or go meanwhile perhaps.
    ///
    /// The one way in which tables are read: what is measured to be faster goes here.
    ///
    /// # Errors
    ///
    /// `EPERM`: no CAP_BPF. `ENOMEM`: no memory for the kernel's copy of a bucket.
    pub fn each(&self, mut show: impl FnMut(&K, &V)) -> io::Result<()> {
        let batch = BATCH_BYTES / (size_of::<K>() + size_of::<V>());
        let mut keys = vec![K::zeroed(); batch];
        let mut values = vec![V::zeroed(); batch];
        let mut cursor = Cursor::default();
        loop {
            let fd = self.map.fd().as_fd();
            let (count, last) = match bpf::lookup_batch(fd, &mut cursor, &mut keys, &mut values)? {
                Batch::More(count) => (count, false),
                Batch::Last(count) => (count, true),
                Batch::TooSmall => {
                    keys.resize(keys.len() * 2, K::zeroed());
                    values.resize(values.len() * 2, V::zeroed());
                    continue;
                }
            };
            for (key, value) in keys.iter().zip(&values).take(count) {
                show(key, value);
            }
            if last {
                return Ok(());
            }
        }
    }

    /// All elements.
    ///
    /// # Errors
    ///
    /// As [`Self::each`].
    pub fn all(&self) -> io::Result<Vec<(K, V)>> {
        let mut all = Vec::new();
        self.each(|key, value| all.push((*key, *value)))?;
        Ok(all)
    }

    /// How many elements there are, about.
    ///
    /// # Errors
    ///
    /// As [`Self::each`].
    pub fn count(&self) -> io::Result<usize> {
        let mut count = 0;
        self.each(|_, _| count += 1)?;
        Ok(count)
    }

    /// The elements that there is room for.
    ///
    /// # Errors
    ///
    /// `EPERM`: no CAP_BPF.
    pub fn room(&self) -> Result<u32, aya::maps::MapError> {
        Ok(self.map.info()?.max_entries())
    }
}
