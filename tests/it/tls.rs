//! For people who run a certificate authority: which certificates the worker trusts, and the errors for other certificates.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::support::receiver::assert_one_connection;
use crate::support::worker::FinishedWorker;
use crate::support::{
    Forge, Origin, Project, Receiver, Server, Worker, duration_setting, with_enough_time,
};

type Authority = CertifiedIssuer<'static, KeyPair>;

/// A certificate authority with this name.
fn authority(name_of_authority: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let name = rcgen::DnType::CommonName;
    params.distinguished_name.push(name, name_of_authority);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for one host name and its key. The certificate is valid until the first day of the year `end_year`.
fn certificate(
    name: &str,
    end_year: i32,
    authority: &Authority,
) -> (CertificateDer<'static>, KeyPair) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(end_year, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    (certificate.der().clone(), key)
}

/// A TLS server that forwards everything to another server.
fn serve_tls(upstream: SocketAddr, certificate: CertificateDer<'static>, key: &KeyPair) -> Server {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    Server::listen("127.0.0.1:0", move |connection| {
        forward(&connection.stream, Arc::clone(&config), upstream);
    })
}

/// Forwards bytes in both directions by turns, until one side closes its connection.
fn forward(client: &TcpStream, config: Arc<ServerConfig>, upstream: SocketAddr) {
    let mut upstream = TcpStream::connect(upstream).unwrap();
    for stream in [client, &upstream] {
        stream
            .set_read_timeout(Some(Duration::from_millis(2)))
            .unwrap();
    }
    let connection = ServerConnection::new(config).unwrap();
    let mut client = StreamOwned::new(connection, client);
    while forward_available(&mut client, &mut upstream).is_some()
        && forward_available(&mut upstream, &mut client).is_some()
    {}
    // An answer without a length ends here. The close_notify tells the client that the answer is complete.
    client.conn.send_close_notify();
    let _ = client.flush();
}

/// Forwards the bytes that can be read now; `None` at the end of the stream.
fn forward_available(from: &mut impl Read, to: &mut impl Write) -> Option<()> {
    let mut chunk = [0; 16 * 1024];
    match from.read(&mut chunk) {
        Ok(0) => None,
        Ok(count) => to.write_all(&chunk[..count]).and_then(|()| to.flush()).ok(),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Some(()),
        Err(_) => None,
    }
}

/// Runs a worker that trusts this authority, with a receiver that has this certificate.
fn run_worker(
    certificate: &(CertificateDer<'static>, KeyPair),
    trusted: &Authority,
    deadline: Duration,
) -> (Receiver, FinishedWorker) {
    let (receiver, project) = (Receiver::start(), Project::new());
    project.write("ca.pem", trusted.pem());
    let server = serve_tls(receiver.address(), certificate.0.clone(), &certificate.1);
    let ended = Worker::new(&receiver, &project)
        .agent("true")
        .env(
            "CALLBACK_URL",
            format!("https://localhost:{}/cb", server.address().port()),
        )
        .env("SSL_CERT_FILE", project.path("ca.pem"))
        .env("DESCARTES_CLAIM_DEADLINE", duration_setting(deadline))
        .run();
    (receiver, ended)
}

/// Asserts that the worker sends nothing, and that the failure contains these words.
#[track_caller]
fn assert_not_trusted(
    certificate: &(CertificateDer<'static>, KeyPair),
    trusted: &Authority,
    words: &str,
) {
    with_enough_time(Duration::from_secs(1), |deadline| {
        let (receiver, ended) = run_worker(certificate, trusted, deadline);
        check_not_trusted(&receiver, &ended, words)
    });
}

/// One attempt of [`assert_not_trusted`]; an error if the deadline was too short.
fn check_not_trusted(
    receiver: &Receiver,
    ended: &FinishedWorker,
    words: &str,
) -> Result<(), String> {
    ended.assert_code(3);
    let failure = &ended.result_line()["failure"];
    assert_eq!(failure["reason"], "unclaimed");
    let message = failure["message"].as_str().unwrap();
    assert!(receiver.requests().is_empty());
    // The claim is retried: the certificate may be renewed, the clock may be corrected.
    let retries = ended.stderr.matches("trying again").count();
    if retries < 1 || message.contains("no answer within") {
        return Err(format!("{retries} retries: {message}"));
    }
    let expected = format!("/cb/started: {words}");
    assert!(message.contains(&expected), "{message}");
    assert!(message.contains(": https://localhost:"), "{message}");
    Ok(())
}

#[test]
fn a_private_authority_is_trusted_if_ssl_cert_file_names_it() {
    let ours = authority("Ours");
    let certificate = certificate("localhost", 2999, &ours);
    let (receiver, ended) = run_worker(&certificate, &ours, Duration::from_secs(600));
    ended.assert_code(0);
    assert_eq!(receiver.routes(), ["started", "completed"]);
    assert_one_connection(&receiver.requests());
}

#[test]
fn an_unknown_authority_is_named_as_the_reason() {
    let certificate = certificate("localhost", 2999, &authority("Theirs"));
    assert_not_trusted(
        &certificate,
        &authority("Ours"),
        "the server's certificate is self-signed, or signed by an authority that is not trusted; SSL_CERT_FILE can name",
    );
}

#[test]
fn an_expired_certificate_is_named_as_the_reason() {
    let ours = authority("Ours");
    let certificate = certificate("localhost", 2021, &ours);
    assert_not_trusted(&certificate, &ours, "the server's certificate has expired");
}

#[test]
fn a_certificate_for_another_name_is_named_as_the_reason() {
    let ours = authority("Ours");
    let certificate = certificate("elsewhere.example", 2999, &ours);
    assert_not_trusted(
        &certificate,
        &ours,
        "the server's certificate is not for localhost, but for elsewhere.example",
    );
}

#[test]
fn a_self_signed_certificate_is_named_as_the_reason() {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    // As `openssl req -x509` makes them.
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let certificate = (certificate.der().clone(), key);
    assert_not_trusted(
        &certificate,
        &authority("Ours"),
        "self-signed certificate: ",
    );
}

/// A server that answers every request with these bytes.
fn server_that_answers(bytes: &'static [u8]) -> Server {
    Server::listen("127.0.0.1:0", move |connection| {
        let mut client = connection.stream.as_ref();
        let _ = client.read(&mut [0; 16 * 1024]);
        let _ = client.write_all(bytes);
        // Wait until the worker closes the connection: closing it here could reset it.
        let _ = io::copy(&mut client, &mut io::sink());
    })
}

/// The failure message of a worker that cannot claim its task at this URL.
fn message_of_claim_at(url: &str) -> String {
    with_enough_time(Duration::from_secs(4), |limit| {
        let (receiver, project) = (Receiver::start(), Project::new());
        let ended = Worker::new(&receiver, &project)
            .agent("true")
            .env("CALLBACK_URL", url)
            .env("DESCARTES_CLAIM_DEADLINE", duration_setting(limit))
            .run();
        ended.assert_code(3);
        let message = ended.result_line()["failure"]["message"].clone();
        let message = message.as_str().expect("a message").to_owned();
        if message.contains("no answer") {
            return Err(message);
        }
        Ok(message)
    })
}

#[test]
fn a_server_that_does_not_speak_tls_is_named_as_the_reason() {
    let server = server_that_answers(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
    let url = format!("https://localhost:{}", server.address().port());
    assert_eq!(
        message_of_claim_at(&format!("{url}?key=hidden")),
        format!(
            "the task was not claimed: {url}/started: the server does not speak TLS: is it http://?"
        )
    );
}

#[test]
fn a_server_that_speaks_only_tls_is_named_as_the_reason() {
    // A TLS alert: unexpected message.
    let server = server_that_answers(&[0x15, 3, 3, 0, 2, 2, 10]);
    let url = format!("http://{}", server.address());
    assert_eq!(
        message_of_claim_at(&url),
        format!(
            "the task was not claimed: {url}/started: the server does not speak plain HTTP: is it https://?"
        )
    );
}

#[test]
fn git_trusts_the_private_authority_that_the_worker_trusts() {
    const TOKEN: &str = "git-token-0123456789abcdef";
    let authority = authority("git's own");
    let (certificate, key) = certificate("localhost", 2999, &authority);
    for is_trusted in [true, false] {
        let (receiver, origin) = (Receiver::start(), Origin::new());
        let forge = Forge::start(&origin.path(""), Some(TOKEN));
        let tls = serve_tls(forge.address(), certificate.clone(), &key);
        let url = format!("https://localhost:{}/project.git", tls.address().port());
        let pem = origin.path("authority.pem");
        std::fs::write(&pem, authority.pem()).unwrap();
        let mut worker = origin
            .worker(&receiver)
            .env("DESCARTES_REPO", url)
            .env("DESCARTES_GIT_TOKEN", TOKEN);
        if is_trusted {
            worker = worker.env("SSL_CERT_FILE", pem);
        }
        let ended = worker.agent("echo new > new").run();
        if is_trusted {
            ended.assert_code(0);
            assert_eq!(origin.show("descartes/proj-456/8", "new"), "new");
        } else {
            ended.assert_code(1);
            let failure = &receiver.only_event("failed")["failure"];
            let message = failure["message"].as_str().unwrap();
            assert!(
                message.contains("the certificate is not trusted"),
                "{failure}"
            );
            assert_eq!(failure["retryable"], false);
        }
    }
}
