//! A local stand-in for the AMIE Usage API.
