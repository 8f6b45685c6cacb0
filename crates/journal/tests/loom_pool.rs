//! The pool of blocks under loom: no block is lost, doubled or made beyond the capacity, whoever takes and drops when.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p tidemill-journal --release --test loom_pool`, or `make loom`.

#![cfg(loom)]

use loom::sync::Arc;
use loom::thread;
use tidemill_journal::pool::{Block, Cache, Pool};

/// Writes a mark into a block, lets others run, and finds it untouched: nobody else has this block.
fn use_alone(block: &mut Block, mark: u8) {
    assert!(block.bytes().is_empty(), "a block comes empty");
    block.spare()[0] = mark;
    block.filled(1);
    thread::yield_now();
    assert_eq!(block.bytes(), [mark]);
}

/// Takes, uses and gives back, twice; a pool that has none is tried again later by whoever runs the server.
fn work(cache: &mut Cache, mark: u8) -> usize {
    (0..2)
        .filter_map(|_| {
            let mut block = cache.take()?;
            use_alone(&mut block, mark);
            cache.put(block);
            Some(())
        })
        .count()
}

#[test]
fn threads_never_share_a_block() {
    loom::model(|| {
        let pool = Pool::new(2, 1);
        let other = pool.clone();
        let thread = thread::spawn(move || work(&mut other.cache(1), 1));
        let here = work(&mut pool.cache(1), 2);
        let there = thread.join().expect("the thread ends");
        assert_eq!((here, there), (2, 2), "there is a block for each");
        assert_eq!((pool.made() <= 2, pool.free()), (true, pool.made()), "all of them came back");
    });
}

#[test]
fn one_block_goes_round_and_is_never_doubled() {
    loom::model(|| {
        let pool = Pool::new(1, 1);
        let other = pool.clone();
        let thread = thread::spawn(move || work(&mut other.cache(1), 1));
        work(&mut pool.cache(1), 2);
        thread.join().expect("the thread ends");
        assert_eq!((pool.made(), pool.free()), (1, 1));
    });
}

#[test]
fn a_block_that_is_dropped_elsewhere_comes_back() {
    loom::model(|| {
        let pool = Pool::new(1, 1);
        let mut cache = pool.cache(1);
        let block = Arc::new(cache.take().expect("there is one"));
        let reader = block.clone();
        let thread = thread::spawn(move || drop(reader));
        drop(block);
        thread.join().expect("the thread ends");
        let mut again = cache.take().expect("the last reader gave it back");
        use_alone(&mut again, 3);
    });
}
