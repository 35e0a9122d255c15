//! Jobs: command trees as people see them.
