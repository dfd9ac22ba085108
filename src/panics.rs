//! A panic as a value: whatever has a bug, the orchestrator is still owed a terminal event.
//!
//! Hides nothing: the panic hook has printed the panic and its place by the time it gets here.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// Polls a future; where it panics, its message is the error.
///
/// What the future borrowed must make sense after a panic anywhere in it; plain data does.
pub async fn caught<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut future = pin!(future);
    poll_fn(
        |context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(message(panic.as_ref()))),
        },
    )
    .await
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_on_the_way_is_a_value_with_its_message() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let panicked = runtime.block_on(caught(async {
            tokio::task::yield_now().await;
            assert_eq!(1, 2, "arithmetic is broken");
        }));
        assert!(panicked.unwrap_err().contains("arithmetic is broken"));
        assert_eq!(runtime.block_on(caught(async { 7 })), Ok(7));
    }
}
