//! The network between the server and its database: cut, or silent without a word.

use super::{
    proxy::Proxy,
    site::Site,
    storm::{Options, Storm},
};

#[tokio::test]
async fn a_network_that_is_cut_or_falls_silent_costs_nobody_a_change() {
    let site = Site::shared().await;
    let proxy = Proxy::start(site.port()).await;
    let extra = vec![("WALCAST_SILENCE_LIMIT_MS", "2000".to_owned())];
    let url = Some(site.url_at(proxy.port));
    let storm = Storm::start(site, Options { url, extra }).await;
    storm.blow().await;
    proxy.cut();
    storm.until_problem(&["check that Postgres runs"]).await;
    proxy.mend();
    storm.blow().await;
    // Half-open: neither side is told that the other one is gone.
    proxy.fall_silent();
    storm.blow().await;
    storm.assert_exact().await;
    storm.until_well().await;
    storm.end().await;
}
