//! Building, testing and showing ftp-nat.

fn main() {}
