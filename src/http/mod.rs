//! Plain HTTP beside the socket doors: health, and what `supabase.rpc()` asks for.

pub mod health;
pub mod rpc;
