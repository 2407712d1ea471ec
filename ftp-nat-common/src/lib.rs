//! What the datapath and the daemon of ftp-nat share.
#![cfg_attr(not(test), no_std)]
