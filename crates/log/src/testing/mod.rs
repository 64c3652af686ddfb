//! What only this room's own tests use.

pub mod sim_fs;
