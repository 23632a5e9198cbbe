//! Client protocols over sockets. A door translates between its wire and the session; it decides nothing.

pub mod phoenix;
