//! Plain HTTP beside the socket doors: broadcasts, health, metrics, the admin API, what `supabase.rpc()` asks for, and
//! explanations for operators.

mod bearer;
pub mod broadcast;
pub mod explain;
pub mod health;
pub mod metrics;
pub mod rpc;
pub mod tenants;
