//! The functions against what Flink answered (`tests/flink`), and the documentation against the functions.

mod differences;
mod documentation;
mod evaluate;
mod hot_paths;
mod recordings;
