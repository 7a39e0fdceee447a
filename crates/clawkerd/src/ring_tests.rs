use std::io::Write;
use std::os::fd::AsFd;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Write(usize),
    Consume(u64),
    Drop,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0usize..40).prop_map(Step::Write),
        (0u64..200).prop_map(Step::Consume),
        Just(Step::Drop)
    ]
}

proptest! {
    #[test]
    fn offsets_hold_their_order_and_data_stands_where_it_was_put(
        capacity in 1usize..33,
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let mut cursor = Cursor::new(capacity);
        let mut data = vec![None; capacity];
        for step in steps {
            let before = cursor;
            match step {
                Step::Write(n) => {
                    let range = cursor.writable();
                    let n = n.min(range.len());
                    for i in 0..n {
                        data[range.start + i] = Some(cursor.head() + i as u64);
                    }
                    cursor.wrote(n);
                }
                Step::Consume(offset) => {
                    cursor.consumed(offset);
                }
                Step::Drop => cursor.make_room(),
            }
            prop_assert!(cursor.tail() <= cursor.head());
            prop_assert!(cursor.head() - cursor.tail() <= capacity as u64);
            prop_assert!(cursor.head() >= before.head() && cursor.tail() >= before.tail());
            prop_assert_eq!(cursor.writable().is_empty(), cursor.is_full());
            // Every byte between tail and head is read back as the one of its offset, from wherever a reader starts.
            let mut at = cursor.tail();
            while at < cursor.head() {
                let (from, range) = readable(at, cursor.head(), cursor.tail(), capacity as u64, 7);
                prop_assert_eq!(from, at);
                prop_assert!(!range.is_empty());
                for i in range {
                    prop_assert_eq!(data[i], Some(at));
                    at += 1;
                }
            }
        }
    }

    #[test]
    fn a_reader_never_leaves_the_data(at: u64, head: u64, tail: u64, capacity in 1u64..1000, max in 0usize..100) {
        let (from, range) = readable(at, head, tail, capacity, max);
        prop_assert!(range.end as u64 <= capacity && range.len() <= max);
        prop_assert!(from <= head);
    }
}

#[test]
fn a_full_ring_takes_nothing_until_it_is_consumed() {
    let (source, mut sink) = std::io::pipe().expect("pipe");
    let mut ring = Writer::new(4096).expect("ring");
    let reader = Reader::new(ring.fd().as_fd(), ring.capacity()).expect("mapped");
    sink.write_all(&[1; 4096]).expect("written");
    sink.write_all(&[2; 10]).expect("written");
    assert_eq!(ring.fill(source.as_fd(), false).expect("read"), 4096);
    assert!(ring.cursor().is_full());
    assert!(ring.consumed(10), "nothing was freed");
    assert_eq!(ring.fill(source.as_fd(), false).expect("read"), 10);
    assert_eq!(
        reader.read(4096, 64),
        Chunk {
            from: 4096,
            bytes: vec![2; 10]
        }
    );
}

#[test]
fn a_lossy_ring_gives_up_its_oldest_and_the_reader_sees_where() {
    let (source, mut sink) = std::io::pipe().expect("pipe");
    let mut ring = Writer::new(4096).expect("ring");
    let reader = Reader::new(ring.fd().as_fd(), ring.capacity()).expect("mapped");
    sink.write_all(&[1; 4096]).expect("written");
    sink.write_all(&[2; 100]).expect("written");
    ring.fill(source.as_fd(), true).expect("read");
    ring.fill(source.as_fd(), true).expect("read");
    assert_eq!(reader.tail(), 1024, "a quarter was given up");
    ring.fill(source.as_fd(), true).expect("read");
    let chunk = reader.read(0, 8);
    assert_eq!((chunk.from, chunk.bytes), (1024, vec![1; 8]));
    assert_eq!(reader.read(4096, 200).bytes, vec![2; 100]);
}

#[test]
fn a_lossy_ring_that_is_just_full_gives_up_nothing_at_the_end() {
    let (source, mut sink) = std::io::pipe().expect("pipe");
    let mut ring = Writer::new(4096).expect("ring");
    sink.write_all(&[1; 4096]).expect("written");
    assert_eq!(ring.fill(source.as_fd(), true).expect("read"), 4096);
    drop(sink);
    assert_eq!(ring.fill(source.as_fd(), true).expect("the end"), 0);
    assert_eq!((ring.cursor().tail(), ring.cursor().head()), (0, 4096));
}
