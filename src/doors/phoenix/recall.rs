//! `Recall`: sends every open connection away, to come again under other settings (protocol reference, section 1.7): the
//! keys have changed, or whether public channels are served, or an administrator wants it so.

use std::sync::Arc;
use tokio::sync::watch;

/// The sending end. Cheap to clone.
#[derive(Clone)]
pub struct Recall(Arc<watch::Sender<()>>);

/// A connection's end.
pub(super) struct Recalled(watch::Receiver<()>);

impl Default for Recall {
    fn default() -> Recall {
        Recall(Arc::new(watch::channel(()).0))
    }
}

impl Recall {
    /// Every connection there is: its channels are told, and it is closed with 1012.
    pub fn everybody(&self) {
        self.0.send_replace(());
    }

    /// Hears of everything from now on.
    pub(super) fn listen(&self) -> Recalled {
        Recalled(self.0.subscribe())
    }
}

impl Recalled {
    /// Whether it has been recalled and not heard so yet.
    pub(super) fn is_due(&self) -> bool {
        self.0.has_changed().unwrap_or(false)
    }

    /// Waits for the recall. Safe to cancel.
    pub(super) async fn heard(&mut self) {
        if self.0.changed().await.is_err() {
            // Nobody is left to recall anybody.
            std::future::pending().await
        }
    }
}
