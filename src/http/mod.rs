//! The plain HTTP routes beside the socket doors: so far what `supabase.rpc()` asks for.

pub mod rpc;
