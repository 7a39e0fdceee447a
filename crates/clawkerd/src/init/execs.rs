//! All execs of a start, by number and by id. Numbers count from 1 and are never given twice.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::exec::Exec;

#[derive(Default)]
pub struct Execs {
    by_number: BTreeMap<u32, Exec>,
    numbers: BTreeMap<String, u32>,
    last: u32,
}

impl Execs {
    /// A number that nothing has had: for an exec to be, or for another process of the user's.
    pub fn number(&mut self) -> u32 {
        self.last = self.last.saturating_add(1);
        self.last
    }

    /// The last number that was given.
    pub fn last_number(&self) -> u32 {
        self.last
    }

    pub fn insert(&mut self, exec: Exec) {
        self.numbers.insert(exec.terms.id.clone(), exec.terms.number);
        self.by_number.insert(exec.terms.number, exec);
    }

    pub fn remove(&mut self, number: u32) -> Option<Exec> {
        let exec = self.by_number.remove(&number)?;
        self.numbers.remove(&exec.terms.id);
        Some(exec)
    }

    pub fn find(&self, id: &str) -> Option<u32> {
        self.numbers.get(id).copied()
    }

    pub fn get(&self, number: u32) -> Option<&Exec> {
        self.by_number.get(&number)
    }

    pub fn get_mut(&mut self, number: u32) -> Option<&mut Exec> {
        self.by_number.get_mut(&number)
    }

    /// The exec with a stage of this pid that isn't reaped yet.
    pub fn with_living(&self, pid: i32) -> Option<u32> {
        let exec = self.iter().find(|exec| exec.stages.has_living(pid));
        exec.map(|exec| exec.terms.number)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Exec> {
        self.by_number.values()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Exec> {
        self.by_number.values_mut()
    }

    /// The first after `number` that changed, to go through them while they change.
    pub fn next_dirty(&self, number: u32) -> Option<u32> {
        let after = self.by_number.range((Bound::Excluded(number), Bound::Unbounded));
        after.filter(|(_, exec)| exec.dirty).map(|(number, _)| *number).next()
    }

    pub fn len(&self) -> usize {
        self.by_number.len()
    }
}
