//! A durable log on memory-mapped segments and a ring between processes: no system call a record.
