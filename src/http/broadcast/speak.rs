//! Saying messages in rooms, in somebody's name: at once in public ones, in private ones after asking whether he may,
//! once a topic.

use super::{Message, Parts, now, refusal::Refusal};
use crate::{
    claims::Claims,
    hub::{Publication, RoomName},
    policy::topic::{ChannelAccess, ChannelUser, RightsError},
};
use futures_util::{StreamExt, stream};
use std::{collections::BTreeMap, sync::Arc};
use tokio::time::{Instant, timeout_at};

/// Topics of one batch that are asked about at the same time.
const QUESTIONS_AT_ONCE: usize = 8;

/// Whose messages they are.
pub(super) struct Speaker<'a> {
    pub(super) parts: &'a Parts,
    pub(super) claims: Claims,
    /// What `request.headers` is.
    pub(super) headers: Arc<str>,
}

impl Speaker<'_> {
    /// Says messages in public rooms.
    pub(super) async fn say_public(&self, messages: Vec<Message>) {
        for message in &messages {
            self.say(message);
            // A long batch is no reason for others to wait.
            tokio::task::yield_now().await;
        }
    }

    /// Says messages in private rooms, each topic's in their order, where the speaker may; nobody is told of the others.
    pub(super) async fn say_private(&self, messages: Vec<Message>) {
        let mut topics: BTreeMap<String, Vec<Message>> = BTreeMap::new();
        for message in messages {
            topics.entry(message.topic.clone()).or_default().push(message);
        }
        let deadline = self.deadline();
        let answers =
            stream::iter(topics).map(|(topic, messages)| async move { (self.ask(&topic, deadline).await, messages) });
        let mut answers = std::pin::pin!(answers.buffer_unordered(QUESTIONS_AT_ONCE));
        while let Some((answer, messages)) = answers.next().await {
            match answer {
                Ok(()) => self.say_public(messages).await,
                Err(_) => self.parts.metrics.broadcasts_dropped.add(messages.len()),
            }
        }
    }

    /// When a request that begins to ask now has waited long enough.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.parts.config.rights_timeout
    }

    /// Whether the speaker may speak in a private channel.
    pub(super) async fn ask(&self, topic: &str, deadline: Instant) -> Result<(), Refusal> {
        let user = ChannelUser { topic: topic.into(), claims: self.claims.clone(), headers: self.headers.clone() };
        let answer = timeout_at(deadline, self.parts.rights.ask(&user, ChannelAccess::Write));
        match answer.await.unwrap_or(Err(RightsError::Canceled)) {
            Ok(granted) if granted.broadcast => Ok(()),
            Ok(_) => Err(Refusal::Forbidden),
            Err(RightsError::Unavailable) => Err(Refusal::Unprocessable("Tenant database unavailable")),
            Err(RightsError::Canceled) => Err(Refusal::Unprocessable("Query canceled")),
        }
    }

    /// Says a message in its room.
    pub(super) fn say(&self, message: &Message) {
        let Parts { rooms, meters, metrics, .. } = self.parts;
        let topic = format!("realtime:{}", message.topic).into();
        let name = RoomName { topic, is_private: message.is_private };
        let published = rooms.publish(&name, &Publication { broadcast: &message.broadcast, id: None, except: None });
        // One that came in, and one for each that hears it (reference, section 10.1).
        meters.count_events(1 + published.delivered as u64, now());
        metrics.broadcasts.add(1);
        metrics.broadcast_deliveries.add(published.delivered);
        metrics.broadcasts_without_form.add(published.without_form);
    }
}
