//! A request that has not ended. Counts the tokens of its answer, and settles its cost when the request ends, even if
//! the client or the service closes the connection early.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Method;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::time::Instant;

use super::ledger::{RequestEnd, Reservation};
use super::meter::{AnswerUsage, Meter};
use super::request_body::SendingState;
use super::shared::Shared;
use super::wire::{self, Report};

/// The state of a request, which decides its cost.
pub enum RequestState {
    /// The request costs nothing: it was not sent, or the service did not accept it.
    Free,
    /// There is no answer yet. The request costs nothing until the HTTP client begins to send its body.
    Unanswered(SendingState),
    Answered(Box<Meter>),
}

/// A request that has not ended. Its cost is settled when this value is dropped, however the request ends.
pub struct OpenRequest {
    pub shared: Rc<Shared>,
    pub method: Method,
    pub path: String,
    /// Whether the route costs tokens. If not, a request without an answer costs nothing either.
    pub costs_tokens: bool,
    pub reservation: Option<Reservation>,
    pub state: RequestState,
    /// The status of the service's answer.
    pub status: Option<u16>,
    /// The time at which the request was sent to the service; until then, the time at which the client's body had
    /// arrived.
    pub started_at: Instant,
    /// The time from `started_at` to the first byte of the answer's body.
    pub time_to_first_byte: Option<Duration>,
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        let answer_usage = match &self.state {
            RequestState::Answered(meter) => meter.answer_usage().clone(),
            RequestState::Free | RequestState::Unanswered(_) => AnswerUsage::default(),
        };
        let end = match &self.state {
            RequestState::Unanswered(sending) if self.costs_tokens && sending.has_begun() => {
                RequestEnd::Abandoned
            }
            RequestState::Free | RequestState::Unanswered(_) => RequestEnd::Free,
            RequestState::Answered(_) if answer_usage.is_only_error => RequestEnd::Free,
            RequestState::Answered(_) => RequestEnd::Answered(&answer_usage),
        };
        self.shared
            .ledger
            .borrow_mut()
            .settle(self.reservation.take(), &end);
        self.shared.settlement.notify_waiters();
        let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
        self.shared.reports.add(&Report::Request(wire::Request {
            method: self.method.to_string(),
            path: self.path.clone(),
            output_tokens: answer_usage.usage.output_tokens,
            model: answer_usage.model,
            status: self.status,
            first_byte_ms: self.time_to_first_byte.map(milliseconds),
            total_ms: milliseconds(self.started_at.elapsed()),
        }));
        self.shared.report_totals();
    }
}

/// The body of an answer. Counts the tokens while the body is passed on.
pub struct MeteredBody {
    pub body: reqwest::Body,
    pub open_request: OpenRequest,
}

impl Body for MeteredBody {
    type Data = Bytes;
    type Error = reqwest::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, reqwest::Error>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.body).poll_frame(context);
        let open_request = &mut this.open_request;
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(bytes) = frame.data_ref() {
                    open_request
                        .time_to_first_byte
                        .get_or_insert_with(|| open_request.started_at.elapsed());
                    if let RequestState::Answered(meter) = &mut open_request.state {
                        meter.push(bytes);
                        // hyper does not poll again after the last bytes.
                        if this.body.is_end_stream() {
                            meter.finish();
                        }
                    }
                }
            }
            Poll::Ready(None) => {
                if let RequestState::Answered(meter) = &mut open_request.state {
                    meter.finish();
                }
            }
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
