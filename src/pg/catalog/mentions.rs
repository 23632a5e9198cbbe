//! Which names policies mention, and the functions and policies behind those names in turn: what must be known to
//! understand them. Not what the names mean.

use super::{CatalogError, Scope, channels};
use std::collections::BTreeSet;
use tokio_postgres::Transaction;

const POLICIES: &str = include_str!("../../../sql/facts_policies.sql");
const CHANNEL_POLICIES: &str = include_str!("../../../sql/facts_channel_policies.sql");
const BODIES: &str = include_str!("../../../sql/facts_bodies.sql");

/// How often new names are followed, and how many. What is beyond is not known, and so left to the database.
const ROUNDS: usize = 8;
const NAMES: usize = 2_000;

/// What the policies of the published tables and those of private channels mention, directly or through others.
#[derive(Default)]
pub(super) struct Mentions {
    /// The last parts of names of tables and functions.
    pub(super) names: BTreeSet<String>,
    /// The owners of SECURITY DEFINER functions among them: roles that policies read tables as.
    pub(super) owners: BTreeSet<String>,
    /// Names of settings that may be asked for.
    pub(super) settings: BTreeSet<String>,
}

/// Follows names until nothing new is mentioned.
pub(super) async fn closure(transaction: &Transaction<'_>, scope: Scope<'_>) -> Result<Mentions, CatalogError> {
    let mut mentions = Mentions::default();
    let texts = transaction.query(POLICIES, &[&scope.publication, &Vec::<&str>::new()]).await?;
    let of_channels = transaction.query(CHANNEL_POLICIES, &[]).await?;
    let mut new = mentions.read(texts.iter().chain(&of_channels).map(|row| row.get(0)), scope.mentioned);
    mentions.names.insert(channels::NAME.to_owned());
    new.insert(channels::NAME.to_owned());
    for _ in 0..ROUNDS {
        if new.is_empty() {
            break;
        }
        let names: Vec<String> = new.into_iter().collect();
        let policies = transaction.query(POLICIES, &[&"", &names]).await?;
        let functions = transaction.query(BODIES, &[&names]).await?;
        mentions.owners.extend(functions.iter().filter_map(|row| row.get::<_, Option<String>>("owner")));
        let texts = policies.iter().chain(&functions).map(|row| row.get(0));
        new = mentions.read(texts, scope.mentioned);
    }
    Ok(mentions)
}

impl Mentions {
    /// Takes in what texts mention; the names that are new.
    fn read<'a>(
        &mut self,
        texts: impl Iterator<Item = &'a str>,
        mentioned: fn(&str) -> BTreeSet<String>,
    ) -> BTreeSet<String> {
        let mut new = BTreeSet::new();
        for text in texts {
            self.settings.extend(settings(text));
            new.extend(mentioned(text).into_iter().filter(|name| !self.names.contains(name)));
        }
        let room = NAMES.saturating_sub(self.names.len());
        if new.len() > room {
            tracing::warn!(
                limit = NAMES,
                "policies mention more names than are followed; the database decides by them"
            );
            new = new.into_iter().take(room).collect();
        }
        self.names.extend(new.iter().cloned());
        new
    }
}

/// The literals in a text that may be names of custom settings, where it asks for settings at all.
fn settings(text: &str) -> impl Iterator<Item = String> {
    let asks = text.to_ascii_lowercase().contains("current_setting");
    // Every other part stands between quotes, of either kind. With quotes in comments or names some parts are taken for
    // literals that are none, which does no harm.
    let parts = text.split(['\'', '$']).filter(move |_| asks);
    parts.filter(|part| is_custom_setting(part)).map(str::to_ascii_lowercase)
}

fn is_custom_setting(name: &str) -> bool {
    let is_word = |word: &str| {
        word.starts_with(|first: char| first.is_alphabetic() || first == '_')
            && word.chars().all(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '$'))
    };
    name.contains('.') && name.len() < 256 && name.split('.').all(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_found_where_a_text_asks_for_one() {
        let of = |text| settings(text).collect::<Vec<_>>();
        assert_eq!(
            of("(current_setting('App.tenant'::text, true) = x) AND y = 'a.b c' OR z = 'app.it'''"),
            ["app.tenant", "app.it"]
        );
        assert_eq!(of("(x = 'app.tenant'::text)"), [""; 0]);
        assert_eq!(of("select current_setting($$app.a$$, true) || current_setting($q$app.b$q$)"), ["app.a", "app.b"]);
        assert_eq!(of("SELECT pg_catalog.current_setting(E'request.jwt.claims')"), ["request.jwt.claims"]);
    }

    #[test]
    fn no_more_names_are_followed_than_the_limit() {
        let mut mentions = Mentions::default();
        let many = |_: &str| (0..NAMES + 5).map(|number| format!("f{number}")).collect();
        assert_eq!(mentions.read(["x"].into_iter(), many).len(), NAMES);
        assert!(mentions.read(["x"].into_iter(), many).is_empty());
        assert_eq!(mentions.names.len(), NAMES);
    }
}
