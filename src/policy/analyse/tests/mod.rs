//! What is understood of policies and what is refused, over a catalogue made by hand. Whether the understanding is
//! right, Postgres says in `tests/policies`.

mod bodies;
mod rights;
mod shapes;
mod syntax;
mod world;

use world::World;
