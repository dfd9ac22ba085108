//! The address at which workers reach the dispatcher. The parameter `ip_for_workers` is the IP address at which workers
//! reach this machine; `None` if it is that of the loopback interface.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use eyre::WrapErr;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

use super::journaled_state::JournaledState;
use super::settings::Settings;

/// The loopback interface, with a port that the kernel chooses.
const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// How long a dispatcher waits until the address to which the last dispatcher's workers send their events is free.
const MAX_ADDRESS_WAIT: Duration = Duration::from_secs(10);
/// The pause between two attempts to get the address.
const ADDRESS_PAUSE: Duration = Duration::from_millis(50);

/// Listens on the address of the settings. If they name none, listens on the address of the last dispatcher, because
/// its workers send their events there. If that address is not free, listens on another port.
pub async fn listen(
    settings: &Settings,
    journaled: &JournaledState,
    ip_for_workers: Option<IpAddr>,
) -> eyre::Result<TcpListener> {
    if let Some(address) = settings.listen {
        let listener = TcpListener::bind(address).await;
        return listener.wrap_err_with(|| format!("cannot listen on {address}"));
    }
    let last_address = journaled
        .state
        .listen_address
        .as_ref()
        .and_then(|text| text.parse::<SocketAddr>().ok());
    let wanted_ip = ip_for_workers.unwrap_or(LOOPBACK.ip());
    if let Some(address) = last_address.filter(|address| address.ip() == wanted_ip) {
        let has_workers = journaled.state.live_runs().next().is_some();
        let max_wait = has_workers.then_some(MAX_ADDRESS_WAIT);
        match listen_again(address, max_wait.unwrap_or_default()).await {
            Ok(listener) => return Ok(listener),
            Err(error) if has_workers => tracing::warn!(
                %address, %error,
                "the address of the last dispatcher is not free, so the workers that it has started cannot reach this one"
            ),
            Err(_) => {}
        }
    }
    let Some(ip) = ip_for_workers else {
        let listener = TcpListener::bind(LOOPBACK).await;
        return listener.wrap_err("cannot listen on the loopback interface");
    };
    TcpListener::bind((ip, 0)).await.wrap_err_with(|| {
        format!("cannot listen on {ip}, at which the workers' containers reach this machine; choose another address with DESCARTES_DISPATCH_LISTEN and DESCARTES_DISPATCH_URL, or another network with DESCARTES_DISPATCH_NETWORK")
    })
}

/// Listens on the address of the last dispatcher. Waits for up to `max_wait`, because another program may use the
/// address for a moment.
async fn listen_again(address: SocketAddr, max_wait: Duration) -> std::io::Result<TcpListener> {
    let deadline = Instant::now() + max_wait;
    let mut is_announced = false;
    loop {
        let error = match TcpListener::bind(address).await {
            Err(error) if error.kind() == ErrorKind::AddrInUse => error,
            result => return result,
        };
        if Instant::now() >= deadline {
            return Err(error);
        }
        if !is_announced {
            is_announced = true;
            tracing::info!(%address, "waiting until the address of the last dispatcher is free");
        }
        sleep(ADDRESS_PAUSE).await;
    }
}

/// The callback URL of workers. If the dispatcher listens on all addresses, the URL has the one at which workers reach
/// this machine.
pub fn callback_url(mut address: SocketAddr, ip_for_workers: Option<IpAddr>) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(ip_for_workers.unwrap_or(LOOPBACK.ip()));
    }
    format!("http://{address}/api/agents/callback")
}
