//! A stream that begins anew with another publication, while what came before is still on its way.

use super::MEMBERS;
use crate::support::postgres::Postgres;
use std::time::Duration;
use tokio::{sync::watch, time::timeout};
use walcast::{
    change::Datum,
    lsn::Lsn,
    pg::Target,
    shutdown::Tasks,
    source::{
        Feed, FeedReceiver, HandedOn, SourceState, WindowConfig, Wish, feed, slot::Config, slot_task::Walreceiver,
    },
};

const LIMIT: Duration = Duration::from_secs(30);

struct Stream {
    feed: FeedReceiver,
    /// Rows of `marks`, in order.
    marks: Vec<String>,
}

impl Stream {
    /// Receives transactions whole until a mark has come; the end of its transaction.
    async fn until(&mut self, mark: &str) -> Lsn {
        loop {
            let fed = timeout(LIMIT, self.feed.recv()).await.expect("a change in time").unwrap();
            let Feed::Fragment(fragment) = fed else { continue };
            for change in fragment.changes.iter().filter(|change| change.relation.name == "marks") {
                if let Some(Datum::Text(text)) = change.new.as_ref().and_then(|row| row.0.first()) {
                    self.marks.push(String::from_utf8_lossy(text).into_owned());
                }
            }
            if let Some(end) = fragment.end_lsn.filter(|_| self.marks.iter().any(|known| known == mark)) {
                return end;
            }
        }
    }
}

#[tokio::test]
async fn what_came_without_the_other_publication_does_not_come_again_with_it() {
    let database = Postgres::default().database().await;
    database.execute(MEMBERS).await;
    let client = database.connect().await;
    let (sender, feed) = feed(8, 1 << 20);
    let (handed_on, handed_on_reader) = watch::channel(HandedOn::default());
    let (state, mut source) = watch::channel(SourceState::default());
    let (wish, wish_reader) = watch::channel(Wish::default());
    let tasks = Tasks::new();
    let walreceiver = Walreceiver {
        target: Target::parse(&database.walcast_url()).unwrap(),
        config: Config {
            publication: "supabase_realtime".to_owned(),
            slot: database.slot(),
            temporary: false,
            application: "walcast".to_owned(),
            lookups: true,
            messages: true,
            window: WindowConfig::default(),
            silence_limit: Duration::from_secs(40),
        },
        feed: sender,
        handed_on: handed_on_reader,
        wish: wish_reader,
        order: watch::channel(walcast::source::Order::default()).1,
        state,
        stop: tasks.stop_token().clone(),
    };
    tasks.spawn("walreceiver", walreceiver.run());
    timeout(LIMIT, source.wait_for(|state| state.streaming)).await.unwrap().unwrap();
    let mut stream = Stream { feed, marks: Vec::new() };
    client.batch_execute("create publication walcast_lookups for table members").await.unwrap();
    client.batch_execute("insert into marks values (1)").await.unwrap();
    let first = stream.until("1").await;
    handed_on.send_replace(HandedOn { era: 1, lsn: first });
    // This one has come, and whoever receives it is not done with it yet.
    client
        .batch_execute("begin; insert into members values (1, 1, 'x'); insert into marks values (2); commit")
        .await
        .unwrap();
    stream.until("2").await;
    wish.send_replace(Wish { from: first, lookups: true, messages: None });
    let has_lookups = |state: &SourceState| state.stream.as_ref().is_some_and(|stream| stream.lookups_since.is_some());
    timeout(LIMIT, source.wait_for(has_lookups)).await.unwrap().unwrap();
    client.batch_execute("insert into marks values (3)").await.unwrap();
    stream.until("3").await;
    assert_eq!(stream.marks, ["1", "2", "3"], "each once");
    drop(stream);
    assert!(tasks.stop(LIMIT).await);
}
