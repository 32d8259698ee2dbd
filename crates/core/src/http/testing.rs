//! A connection served over an in-memory pipe, for this module's tests.
