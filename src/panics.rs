//! Turns panics into errors, so that the worker sends a terminal event even if it has a bug.
//!
//! No panic is hidden: the panic hook has printed its message and its place before.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

/// Runs a future; if it panics, the error says so in one sentence.
///
/// Values that the future borrows must still be usable after a panic anywhere in it; plain data always is.
pub async fn catch_panic<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let caught = AssertUnwindSafe(future).catch_unwind().await;
    caught.map_err(|panic| {
        let message = message(panic.as_ref());
        format!("the worker has a bug: it panicked with {message:?}")
    })
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

/// A place where a test can make the worker panic, once. Only debug builds have failure points.
///
/// # Panics
/// If the failure point with this name is armed.
#[cfg(debug_assertions)]
pub fn failure_point(name: &str) {
    let armed = failure_points::lock_armed_name().take_if(|armed| armed == name);
    assert!(armed.is_none(), "the failure point `{name}` is armed");
}

#[cfg(not(debug_assertions))]
pub fn failure_point(_name: &str) {}

/// A place where a test can make a thread of the worker wait forever. Only debug builds have such places.
#[cfg(debug_assertions)]
pub fn blocking_point(name: &str) {
    if failure_points::lock_armed_name()
        .take_if(|armed| armed == name)
        .is_some()
    {
        tracing::warn!("the blocking point `{name}` is armed");
        loop {
            std::thread::park();
        }
    }
}

#[cfg(not(debug_assertions))]
pub fn blocking_point(_name: &str) {}

/// Arms the failure point or the blocking point with this name.
#[cfg(debug_assertions)]
pub fn arm_failure_point(name: std::ffi::OsString) {
    *failure_points::lock_armed_name() = Some(name);
}

#[cfg(debug_assertions)]
mod failure_points {
    use std::ffi::OsString;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    /// The name of the failure point or the blocking point that is armed.
    static ARMED: Mutex<Option<OsString>> = Mutex::new(None);

    pub(super) fn lock_armed_name() -> MutexGuard<'static, Option<OsString>> {
        ARMED.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_with_its_message() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let panicked = runtime.block_on(catch_panic(async {
            tokio::task::yield_now().await;
            assert_eq!(1, 2, "arithmetic is broken");
        }));
        let error = panicked.unwrap_err();
        assert!(
            error.starts_with("the worker has a bug: it panicked with "),
            "{error}"
        );
        assert!(error.contains("arithmetic is broken"), "{error}");
        assert_eq!(runtime.block_on(catch_panic(async { 7 })), Ok(7));
    }
}
