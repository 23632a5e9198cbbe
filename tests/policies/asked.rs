//! Asks Postgres who sees what: the oracle.

use serde_json::Value;
use std::collections::{HashMap, HashSet};
use tokio_postgres::Client;
use walcast::claims::Claims;

/// The functions that answer, for a database that policies are tested in.
pub const FUNCTIONS: &str = include_str!("asked.sql");

/// A role with claims.
#[derive(Clone, Debug)]
pub struct Subject {
    pub role: String,
    /// The text of `request.jwt.claims`.
    pub claims: String,
}

impl Subject {
    /// A subject whose claims name its role.
    pub fn new(role: &str, mut claims: Value) -> Subject {
        claims["role"] = role.into();
        Subject { role: role.to_owned(), claims: claims.to_string() }
    }

    /// What a verified token of this subject becomes.
    pub fn bearer(&self) -> Claims {
        Claims { role: self.role.as_str().into(), expires_at: None, json: self.claims.as_str().into() }
    }
}

/// A table to ask about.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its qualified name.
    pub table: String,
    /// The columns that tell its rows apart, with commas.
    pub key: String,
}

impl Asked {
    /// A table of schema `public` with this key.
    pub fn new(table: &str, key: &str) -> Asked {
        Asked { table: table.to_owned(), key: key.to_owned() }
    }
}

/// What Postgres shows of one table to one subject.
#[derive(Debug, Default)]
pub struct Shown {
    /// The keys of the rows.
    pub seen: HashSet<String>,
    /// Rows about which it raises an error, when asked about them alone.
    pub failed: HashSet<String>,
    /// The error about all rows together.
    pub error: Option<String>,
}

/// Everything Postgres shows at one moment.
#[derive(Debug, Default)]
pub struct Answer {
    /// `now()`, in microseconds since 2000.
    pub now: i64,
    /// By subject and table.
    pub shown: HashMap<(usize, usize), Shown>,
}

/// Asks about all tables for all subjects. Connected as superuser.
pub async fn ask(client: &Client, subjects: &[Subject], tables: &[Asked]) -> Answer {
    let roles: Vec<&str> = subjects.iter().map(|subject| subject.role.as_str()).collect();
    let claims: Vec<&str> = subjects.iter().map(|subject| subject.claims.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|asked| asked.table.as_str()).collect();
    let keys: Vec<&str> = tables.iter().map(|asked| asked.key.as_str()).collect();
    let rows = client
        .query("select * from oracle.ask($1, $2, $3, $4)", &[&roles, &claims, &names, &keys])
        .await
        .unwrap_or_else(|error| panic!("the oracle fails: {error:?}"));
    let mut answer = Answer::default();
    for row in rows {
        let number = |column| usize::try_from(row.get::<_, i32>(column)).unwrap();
        let set = |column| row.get::<_, Vec<String>>(column).into_iter().collect();
        answer.now = row.get("at");
        let shown = Shown { seen: set("seen"), failed: set("failed"), error: row.get("error") };
        answer.shown.insert((number("subject"), number("of_table")), shown);
    }
    answer
}

/// Runs statements one by one, each of which Postgres may refuse: which it did, and why.
pub async fn attempt(client: &Client, statements: &[String]) -> Vec<(usize, String)> {
    let rows = client.query("select * from oracle.attempt($1)", &[&statements]).await;
    let rows = rows.unwrap_or_else(|error| panic!("{error:?}"));
    rows.iter().map(|row| (usize::try_from(row.get::<_, i32>(0)).unwrap(), row.get(1))).collect()
}
