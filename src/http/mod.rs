//! Plain HTTP beside the socket doors: health, what `supabase.rpc()` asks for, and explanations for operators.

pub mod explain;
pub mod health;
pub mod rpc;
