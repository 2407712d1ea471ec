//! The datapath's maps as a test wants them.

use aya::{
    Ebpf, Pod,
    maps::{HashMap, Map, MapData, MapError},
};

/// A hash map of the datapath.
pub(crate) struct Table<K: Pod, V: Pod>(HashMap<MapData, K, V>);

impl<K: Pod, V: Pod> Table<K, V> {
    pub(crate) fn take(ebpf: &mut Ebpf, name: &str) -> Self {
        Self(take(ebpf, name))
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        match self.0.get(key, 0) {
            Ok(value) => Some(value),
            Err(MapError::KeyNotFound) => None,
            Err(error) => panic!("{error:?}"),
        }
    }

    pub(crate) fn set(&mut self, key: K, value: V) {
        self.0.insert(key, value, 0).unwrap();
    }

    pub(crate) fn all(&self) -> Vec<(K, V)> {
        self.0.iter().map(Result::unwrap).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.keys().count()
    }

    pub(crate) fn remove(&mut self, key: &K) {
        self.0.remove(key).unwrap();
    }

    pub(crate) fn clear(&mut self) {
        for key in self.0.keys().map(Result::unwrap).collect::<Vec<_>>() {
            self.remove(&key);
        }
    }
}

/// Takes a map out of the loaded object.
pub(crate) fn take<T: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &str) -> T {
    let map = ebpf
        .take_map(name)
        .unwrap_or_else(|| panic!("the object has no map {name}"));
    T::try_from(map).unwrap_or_else(|error| panic!("map {name}: {error:?}"))
}
