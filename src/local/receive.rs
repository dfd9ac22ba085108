//! The built-in orchestrator alone, until a signal ends it.

use std::net::SocketAddr;

use eyre::WrapErr;
use secrecy::SecretString;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::receiver::{self, Receiver};
use crate::terminal::{Format, HeartbeatContent, JsonLines, Screen, Signatures, Timeline};

/// The settings of `receive`.
#[derive(Debug)]
pub struct ReceiveSettings {
    pub listen: SocketAddr,
    /// The secret that was given as a flag. It must not be printed.
    pub secret: Option<SecretString>,
    pub receiver: receiver::Settings,
    pub format: Format,
}

/// Shows what workers report until SIGINT or SIGTERM.
pub async fn receive(settings: ReceiveSettings, screen: &Screen) -> eyre::Result<()> {
    let orchestrator = Receiver::bind(settings.listen)
        .await
        .wrap_err_with(|| {
            format!(
                "cannot listen on {}; choose another address with --listen, or end the program that uses it",
                settings.listen
            )
        })?;
    let (signatures, words) = if settings.receiver.signing_keys.is_empty() {
        (
            Signatures::NotChecked,
            "does not verify signatures: set --secret or DESCARTES_CALLBACK_SECRET",
        )
    } else {
        (Signatures::Required, "accepts only signed requests")
    };
    let orchestrator = orchestrator.with(settings.receiver);
    let (sender, mut notices) = mpsc::unbounded_channel();
    let json = JsonLines::new(settings.format, screen.redactor());
    let mut timeline = Timeline::begin(screen, json.clone(), HeartbeatContent::Message);
    timeline.show_url(&orchestrator.url(), signatures);
    timeline.show_message("orchestrator", words);
    timeline.wait_for_workers();
    let (mut terminated, mut interrupted) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let show = async {
        loop {
            tokio::select! {
                Some(notice) = notices.recv() => timeline.show_notice(&notice),
                _ = terminated.recv() => break,
                _ = interrupted.recv() => break,
                () = timeline.tick() => {}
            }
        }
    };
    tokio::select! {
        () = orchestrator.serve(sender) => {}
        () = show => {}
    }
    // Shows the rest: each request's notice was sent before its answer, so no answered request is missing.
    while let Ok(notice) = notices.try_recv() {
        timeline.show_notice(&notice);
    }
    json.close().await;
    Ok(())
}
