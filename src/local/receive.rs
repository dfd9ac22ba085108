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
    /// The secret from the flag `--secret`. It must not be printed.
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
    let (signatures, signature_text) = if settings.receiver.signing_keys.is_empty() {
        (
            Signatures::NotChecked,
            "does not verify signatures: set --secret or DESCARTES_CALLBACK_SECRET",
        )
    } else {
        (Signatures::Required, "accepts only signed requests")
    };
    let orchestrator = orchestrator.with_settings(settings.receiver);
    let (sender, mut notices) = mpsc::unbounded_channel();
    let json = JsonLines::new(settings.format, screen.redactor());
    let mut timeline = Timeline::begin(screen, json.clone(), HeartbeatContent::Message);
    timeline.show_url(&orchestrator.url(), signatures);
    timeline.show_message("orchestrator", signature_text);
    timeline.wait_for_workers();
    let (mut sigterm, mut sigint) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let show_notices = async {
        loop {
            tokio::select! {
                Some(notice) = notices.recv() => timeline.show_notice(&notice),
                _ = sigterm.recv() => break,
                _ = sigint.recv() => break,
                () = timeline.tick() => {}
            }
        }
    };
    tokio::select! {
        () = orchestrator.serve(sender) => {}
        () = show_notices => {}
    }
    // Shows the remaining notices. The notice about a request is sent before the answer, so the notices about all
    // answered requests are here.
    while let Ok(notice) = notices.try_recv() {
        timeline.show_notice(&notice);
    }
    json.close().await;
    Ok(())
}
