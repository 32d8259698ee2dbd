//! A worker's table: a slab in chunks, so that it grows without moving what it holds and an index
//! is a few instructions. Keys carry a generation: a late answer never meets a later connection.

const CHUNK: usize = 256;

/// Names one place of a table for as long as its holder lives: index in the low half, generation
/// in the high half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(u64);

impl Key {
    /// The key as the 64-bit token of the poll.
    pub(crate) const fn raw(self) -> u64 {
        self.0
    }

    /// The key behind a token.
    pub(crate) const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    fn new(index: usize, generation: u32) -> Self {
        Self((u64::from(generation) << 32) | index as u64)
    }

    /// Its place in the table.
    pub(crate) fn index(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }

    fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// Values by key. Never shrinks below its high-water mark, which admission bounds.
pub(crate) struct Table<T> {
    chunks: Vec<Box<[Slot<T>]>>,
    free: Vec<u32>,
    len: usize,
}

impl<T> Table<T> {
    pub(crate) fn new() -> Self {
        Self { chunks: Vec::new(), free: Vec::new(), len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// One past the highest index there is: the end of a sweep.
    pub(crate) fn index_end(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    /// Makes a place, and fills it with what `make` returns for its key.
    pub(crate) fn insert_with(&mut self, make: impl FnOnce(Key) -> T) -> Key {
        let index = match self.free.pop() {
            Some(index) => index as usize,
            None => self.grow(),
        };
        let slot = &mut self.chunks[index / CHUNK][index % CHUNK];
        let key = Key::new(index, slot.generation);
        slot.value = Some(make(key));
        self.len += 1;
        key
    }

    fn grow(&mut self) -> usize {
        let start = self.index_end();
        let empty = || Slot { generation: 0, value: None };
        self.chunks.push(std::iter::repeat_with(empty).take(CHUNK).collect());
        // Lowest index on top, so that the table fills from the front.
        self.free.extend((start + 1..start + CHUNK).rev().map(|index| index as u32));
        start
    }

    #[cfg(test)]
    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let slot = self.chunks.get(key.index() / CHUNK)?.get(key.index() % CHUNK)?;
        if slot.generation == key.generation() { slot.value.as_ref() } else { None }
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.chunks.get_mut(key.index() / CHUNK)?.get_mut(key.index() % CHUNK)?;
        if slot.generation == key.generation() { slot.value.as_mut() } else { None }
    }

    /// The holder of the place `index`, whatever its generation.
    pub(crate) fn at(&self, index: usize) -> Option<(Key, &T)> {
        let slot = self.chunks.get(index / CHUNK)?.get(index % CHUNK)?;
        slot.value.as_ref().map(|value| (Key::new(index, slot.generation), value))
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.chunks.get_mut(key.index() / CHUNK)?.get_mut(key.index() % CHUNK)?;
        if slot.generation != key.generation() {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.index() as u32);
        self.len -= 1;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_outlived_by_its_place_finds_nothing() {
        let mut table = Table::new();
        let old = table.insert_with(|_| "first");
        assert_eq!(table.remove(old), Some("first"));
        let new = table.insert_with(|_| "second");
        assert_eq!(new.index(), old.index());
        assert_eq!(table.get(old), None);
        assert_eq!(table.remove(old), None);
        assert_eq!(table.get(new), Some(&"second"));
    }

    #[test]
    fn places_are_used_again_before_the_table_grows() {
        let mut table = Table::new();
        let keys: Vec<_> = (0..CHUNK).map(|n| table.insert_with(|_| n)).collect();
        for key in &keys {
            table.remove(*key);
        }
        for n in 0..CHUNK {
            table.insert_with(|_| n);
        }
        assert_eq!(table.index_end(), CHUNK);
        assert_eq!(table.len(), CHUNK);
    }
}
