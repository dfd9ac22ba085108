//! The body of a request to a service, which records that the HTTP client has begun to send it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use http_body_util::Full;
use hyper::body::{Body, Bytes, Frame, SizeHint};

/// Whether the HTTP client has begun to send the body of a request. It does that only when it has a connection to the
/// service; before, the service cannot have received the request.
#[derive(Debug, Clone, Default)]
pub struct SendingState(Arc<AtomicBool>);

impl SendingState {
    pub fn has_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The body of a request.
pub struct RequestBody {
    body: Full<Bytes>,
    sending: SendingState,
}

impl RequestBody {
    pub fn new(bytes: Bytes, sending: SendingState) -> Self {
        let body = Full::new(bytes);
        Self { body, sending }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.sending.0.store(true, Ordering::Relaxed);
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    // Without the exact size, the request would have no `content-length`.
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
