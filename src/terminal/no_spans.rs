//! The log's subscriber below the filter and the format. It stores no spans, because this program has none.
//!
//! `tracing_subscriber::registry()` would do the same, but it reserves memory for the spans of 4,096 threads, and touches
//! all of it before the claim.

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::registry::{Extensions, ExtensionsMut, LookupSpan, SpanData};

/// The id of every span: a subscriber must return an id, and this one needs no difference between spans.
const SPAN_ID: u64 = 1;

/// Passes events on to the layers above, and ignores spans.
#[derive(Debug)]
pub(super) struct NoSpans;

impl Subscriber for NoSpans {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(SPAN_ID)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl LookupSpan<'_> for NoSpans {
    type Data = NeverStored;

    fn span_data(&self, _: &Id) -> Option<NeverStored> {
        None
    }
}

/// The data of a span. It has no values.
#[derive(Debug)]
pub(super) enum NeverStored {}

impl SpanData<'_> for NeverStored {
    fn id(&self) -> Id {
        match *self {}
    }

    fn metadata(&self) -> &'static Metadata<'static> {
        match *self {}
    }

    fn parent(&self) -> Option<&Id> {
        match *self {}
    }

    fn extensions(&self) -> Extensions<'_> {
        match *self {}
    }

    fn extensions_mut(&self) -> ExtensionsMut<'_> {
        match *self {}
    }
}
