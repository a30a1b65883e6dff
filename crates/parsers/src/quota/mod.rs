//! Reads quota reports of file systems.
