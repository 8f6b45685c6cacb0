//! Views that are kept: the integral of an output, readable at a version while the circuit goes on.
