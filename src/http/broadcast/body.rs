//! Reading a body within limits: of its length, of the time it takes, and of what all bodies together hold in memory.

use super::{Config, refusal::Refusal};
use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, header},
};
use futures_util::StreamExt;
use std::sync::Arc;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// A body in memory, and the room it takes there.
pub(super) struct Received {
    pub(super) bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

/// Reads all of a body. `room` is what bodies may hold together, in bytes; whoever finds none is turned away, so nobody
/// waits for room that another waits for.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    config: &Config,
    room: &Arc<Semaphore>,
) -> Result<Received, Refusal> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > config.body_limit_bytes) {
        return Err(Refusal::BodyTooLarge);
    }
    timeout(config.body_timeout, gather(body, config.body_limit_bytes, room)).await.map_err(|_| Refusal::BodySlow)?
}

async fn gather(body: Body, limit: usize, room: &Arc<Semaphore>) -> Result<Received, Refusal> {
    let mut chunks = body.into_data_stream();
    let mut bytes = Vec::new();
    let mut taken: Option<OwnedSemaphorePermit> = None;
    while let Some(chunk) = chunks.next().await {
        // The client is gone, or does not speak HTTP any more.
        let chunk = chunk.map_err(|_| Refusal::BadRequest)?;
        if bytes.len() + chunk.len() > limit {
            return Err(Refusal::BodyTooLarge);
        }
        let more = u32::try_from(chunk.len()).map_err(|_| Refusal::BodyTooLarge)?;
        let more = room.clone().try_acquire_many_owned(more).map_err(|_| Refusal::TooMany(super::TOO_MANY_REQUESTS))?;
        match &mut taken {
            Some(taken) => taken.merge(more),
            None => taken = Some(more),
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Received { bytes: bytes.into(), _room: taken })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use std::{convert::Infallible, time::Duration};

    fn config() -> Config {
        Config { body_limit_bytes: 10, ..Config::default() }
    }

    fn chunks(sizes: &[usize]) -> Body {
        let chunks: Vec<_> = sizes.iter().map(|&size| Ok::<_, Infallible>(Bytes::from(vec![b'x'; size]))).collect();
        Body::from_stream(stream::iter(chunks))
    }

    async fn outcome(body: Body, room: &Arc<Semaphore>) -> Result<usize, Refusal> {
        read(&HeaderMap::new(), body, &config(), room).await.map(|received| received.bytes.len())
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_wherever_its_length_shows() {
        let room = Arc::new(Semaphore::new(100));
        assert_eq!(outcome(chunks(&[5, 5]), &room).await, Ok(10));
        assert_eq!(outcome(chunks(&[5, 6]), &room).await, Err(Refusal::BodyTooLarge));
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, "11".parse().unwrap());
        let announced = read(&headers, chunks(&[1]), &config(), &room).await;
        assert_eq!(announced.err(), Some(Refusal::BodyTooLarge));
    }

    #[tokio::test]
    async fn bodies_share_the_room_and_give_it_back() {
        let room = Arc::new(Semaphore::new(10));
        let first = read(&HeaderMap::new(), chunks(&[6]), &config(), &room).await.unwrap();
        assert!(matches!(outcome(chunks(&[3, 3]), &room).await, Err(Refusal::TooMany(_))));
        assert_eq!(outcome(chunks(&[4]), &room).await, Ok(4));
        drop(first);
        assert_eq!(room.available_permits(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_given_up() {
        let room = Arc::new(Semaphore::new(10));
        let silent = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let start = tokio::time::Instant::now();
        assert_eq!(outcome(silent, &room).await, Err(Refusal::BodySlow));
        assert!(start.elapsed() <= config().body_timeout + Duration::from_secs(1));
    }
}
