//! Listeners: TCP with HTTP/1.1 and HTTP/2 (by prior knowledge), and the Unix socket; limits; the graceful end.

use std::any::Any;
use std::fs::DirBuilder;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Duration;

use actix_http::{HttpService, Protocol, Request, Response, TlsAcceptorConfig};
use actix_server::GracefulShutdownSignal;
use actix_service::boxed::{self, BoxService, BoxServiceFactory};
use actix_service::{IntoServiceFactory as _, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{AppConfig, Extensions, Server, ServerHandle, Service, ServiceRequest, ServiceResponse};
use actix_web::middleware::NormalizePath;
use actix_web::rt::net::UnixStream as Connected;
use actix_web::{App, HttpMessage, web};
use camino::{Utf8Path, Utf8PathBuf};
use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite};

use super::audit;
use super::certified::{self, HasCertificate};
use super::door::Door;
use super::drain::{Counted, InFlight, counted};
use super::kept::Kept;
use super::meta::{Meta, OverTls, Peer};
use super::on_demand::on_demand;
use super::reply::Failure;
use super::route;
use super::sealed::sealed;
use super::v2;
use crate::config::Api;
use crate::error::Error;
use crate::secure::Tls;
use crate::tasks::panic_text;

/// Longest path a Unix socket may have on Linux, its closing zero byte excluded.
const SOCKET_PATH_LEN_MAX: usize = 107;

/// An idle connection of a client is kept for its next request.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// A client has this long to make TLS' handshake.
const HANDSHAKE: Duration = Duration::from_secs(3);

/// A client that was told that its connection ends has this long to end it.
const DISCONNECT: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot listen on {addr}: {source}")]
    Tcp { addr: SocketAddr, source: io::Error },
    #[error("cannot make the socket {path}: {source}")]
    Unix { path: Utf8PathBuf, source: io::Error },
    #[error("the path of the socket is too long: {path} has {len} bytes, 107 are possible; set socket.path")]
    TooLong { path: Utf8PathBuf, len: usize },
    #[error("another process serves the socket {path}; stop it, or set socket.path")]
    Served { path: Utf8PathBuf },
    #[error("the server could not be made: {0}")]
    Server(io::Error),
}

/// Bound, not yet serving.
#[derive(Debug)]
pub struct Listeners {
    tcp: Vec<TcpListener>,
    unix: UnixListener,
}

/// Binds everything, or nothing stays bound.
///
/// # Errors
/// Which address or path, and why.
pub fn listen(
    addrs: &[SocketAddr],
    socket: &Utf8Path,
    scratch: &Utf8Path,
    is_shared: bool,
) -> Result<Listeners, ServeError> {
    let mut tcp = Vec::with_capacity(addrs.len());
    for addr in addrs {
        let bound =
            TcpListener::bind(addr).and_then(|l| l.set_nonblocking(true).and(at_once(&l)).map(|()| l));
        tcp.push(bound.map_err(|source| ServeError::Tcp { addr: *addr, source })?);
    }
    Ok(Listeners { tcp, unix: listen_unix(socket, scratch, is_shared)? })
}

/// What is written goes out at once, on every connection that is accepted here: an answer in pieces, such as one of scheme v3 or a
/// handshake, would wait 40 ms for the client to acknowledge the piece before.
fn at_once(listener: &TcpListener) -> io::Result<()> {
    nix::sys::socket::setsockopt(listener, nix::sys::socket::sockopt::TcpNoDelay, &true)?;
    Ok(())
}

/// The socket appears with its final mode: it is bound in a directory that only we can enter, and moved into place.
fn listen_unix(path: &Utf8Path, scratch: &Utf8Path, is_shared: bool) -> Result<UnixListener, ServeError> {
    let fail = |source| ServeError::Unix { path: path.to_owned(), source };
    let hidden = scratch.join("socket");
    let len = path.as_str().len().max(hidden.as_str().len());
    if len > SOCKET_PATH_LEN_MAX {
        return Err(ServeError::TooLong { path: path.to_owned(), len });
    }
    if UnixStream::connect(path).is_ok() {
        return Err(ServeError::Served { path: path.to_owned() });
    }
    if let Some(dir) = path.parent() {
        // Whoever can write there can put another socket in its place, whatever the umask says.
        DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(fail)?;
    }
    match std::fs::remove_file(&hidden) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&hidden).map_err(fail)?;
    // Every connection is checked by its peer's credentials; the mode only keeps out whom nobody has named.
    let mode = if is_shared { 0o666 } else { 0o600 };
    std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(mode)).map_err(fail)?;
    #[expect(clippy::disallowed_methods, reason = "a socket has no content to be synced")]
    std::fs::rename(&hidden, path).map_err(fail)?;
    listener.set_nonblocking(true).map_err(fail)?;
    Ok(listener)
}

/// A server that answers as soon as it is polled.
pub struct Served {
    pub server: Server,
    handle: ServerHandle,
    in_flight: InFlight,
}

/// Ends a server, which has to be polled while this waits.
pub struct Ending {
    handle: ServerHandle,
    in_flight: InFlight,
}

impl Served {
    pub fn ending(&self) -> Ending {
        Ending { handle: self.handle.clone(), in_flight: self.in_flight.clone() }
    }
}

impl Ending {
    /// No new connection from now on. Returns when every request in flight is answered, or its grace is over; what is
    /// still connected then goes with the server.
    pub async fn drain(self) {
        tokio::select! {
            () = self.handle.stop(true) => {}
            () = self.in_flight.answered() => {}
        }
    }
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Served")
    }
}

impl std::fmt::Debug for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ending")
    }
}

/// # Errors
/// When a listener cannot be taken over.
pub fn serve(
    listeners: Listeners,
    door: Door,
    config: &Api,
    tls: Option<&Tls>,
) -> Result<Served, ServeError> {
    let Listeners { tcp, unix } = listeners;
    let in_flight = InFlight::new();
    let mut server = Server::build()
        .workers(config.workers)
        .max_concurrent_connections(config.connections_max)
        .shutdown_timeout(config.shutdown_grace_secs)
        .disable_signals();
    let http = Http {
        door,
        in_flight: in_flight.clone(),
        is_by_certificate: tls.is_some_and(Tls::is_by_certificate),
        head_timeout: Duration::from_secs(config.head_timeout_secs),
        ending: server.graceful_shutdown_signal(),
    };
    for listener in tcp {
        let http = http.clone();
        let name = listener.local_addr().map_or_else(|_| "tcp".to_owned(), |addr| addr.to_string());
        let listening = match tls.map(Tls::config) {
            Some(tls) => server.listen(name, listener, move || {
                let (make, tls) = (http.clone().maker(), tls.clone());
                on_demand(move || {
                    let within = TlsAcceptorConfig::default().handshake_timeout(HANDSHAKE);
                    make().rustls_0_23_with_config(tls.clone(), within)
                })
            }),
            None => server.listen(name, listener, move || {
                let make = http.clone().maker();
                on_demand(move || make().tcp_auto_h2c())
            }),
        };
        server = listening.map_err(ServeError::Server)?;
    }
    let listening = server.listen_uds("socket", unix, move || {
        let make = http.clone().maker();
        on_demand(move || fn_service(async |io: Connected| Ok((io, Protocol::Http1, None))).and_then(make()))
    });
    let server = listening.map_err(ServeError::Server)?.run();
    let handle = server.handle();
    Ok(Served { server, handle, in_flight })
}

/// What the HTTP services of all listeners have in common.
#[derive(Clone)]
struct Http {
    door: Door,
    in_flight: InFlight,
    is_by_certificate: bool,
    head_timeout: Duration,
    ending: GracefulShutdownSignal,
}

/// All routes, from a request to its answer.
type Routes = BoxServiceFactory<(), Request, ServiceResponse<Counted>, Response<BoxBody>, ()>;

/// The routes of one worker and listener.
type KeptRoutes = Kept<Routes, BoxService<Request, ServiceResponse<Counted>, Response<BoxBody>>>;

impl Http {
    /// Makes HTTP services, all of them with the same routes.
    fn maker<Io>(self) -> impl Fn() -> HttpService<Io, KeptRoutes, Counted> + Clone + 'static
    where
        Io: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let http = self.clone();
        let routes = Kept::new(move || http.clone().routes());
        move || self.service(routes.clone())
    }

    fn service<Io>(&self, routes: KeptRoutes) -> HttpService<Io, KeptRoutes, Counted>
    where
        Io: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let (head_timeout, ending) = (self.head_timeout, self.ending.clone());
        HttpService::build()
            .keep_alive(KEEP_ALIVE)
            .client_request_timeout(head_timeout)
            .client_disconnect_timeout(DISCONNECT)
            .graceful_shutdown_signal(move || {
                let ending = ending.clone();
                async move { ending.notified().await }
            })
            .on_connect_ext(|io: &Io, extensions: &mut Extensions| note_peer(io, extensions))
            .finish(routes)
    }

    fn routes(self) -> Routes {
        let Self { door, in_flight, is_by_certificate, .. } = self;
        let (clock, witness, knocked, own) = (door.clone(), door.clone(), door.clone(), door.app().own().ip);
        let app = App::new()
            .app_data(web::Data::new(door))
            .configure(v2::configure)
            .configure(route::configure)
            .wrap(NormalizePath::trim())
            .wrap_fn(move |request, service| audit::witness(request, service, witness.clone()))
            .wrap_fn(move |request, service| known(request, service, is_by_certificate, &knocked))
            .wrap_fn(move |request, service| {
                guard(request, service, own, clock.now().as_second(), &in_flight)
            });
        let app = app.into_factory().map_err(|error| error.error_response().into());
        boxed::factory(map_config(app, |()| AppConfig::default()))
    }
}

/// Where clients have to show a certificate, nothing is looked at for who has shown none.
fn known<S, B>(
    request: ServiceRequest,
    service: &S,
    is_by_certificate: bool,
    door: &Door,
) -> impl Future<Output = Result<ServiceResponse<B>, actix_web::Error>> + use<S, B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error>,
{
    let checked = if is_by_certificate { certified::check(&request) } else { Ok(()) };
    let work = match checked {
        Ok(()) => Ok(service.call(request)),
        Err(error) => {
            audit::refused(door, request.request(), &error);
            Err(Failure::new(error, Meta::of(request.request())))
        }
    };
    async move {
        match work {
            Ok(work) => work.await,
            Err(failure) => Err(failure.into()),
        }
    }
}

/// The outermost layer: whatever happens below becomes an envelope.
pub(super) fn guard<S, B>(
    request: ServiceRequest,
    service: &S,
    own: IpAddr,
    received_secs: i64,
    in_flight: &InFlight,
) -> impl Future<Output = Result<ServiceResponse<Counted>, actix_web::Error>> + use<S, B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error>,
    B: MessageBody + 'static,
{
    let ticket = in_flight.enter();
    let target = request.uri().path_and_query().map_or("/", |t| t.as_str()).to_owned();
    let peer = request.conn_data::<Peer>().copied().unwrap_or(Peer::Unknown);
    let meta = Rc::new(Meta::new(target, request.headers(), peer, own, received_secs));
    request.extensions_mut().insert(Rc::clone(&meta));
    let work = AssertUnwindSafe(service.call(request)).catch_unwind();
    async move {
        let answer = work.await.unwrap_or_else(|panic| {
            tracing::error!(trace_id = %meta.trace_id, panic = panic_text(&*panic), "a request hit a defect of the agent");
            let text = "the request hit a defect of the agent; its log has more under the traceId of this answer";
            Err(Failure::new(Error::unexpected(text), meta).into())
        });
        answer.map(|response| counted(sealed(v2::with_allowance(response)), ticket))
    }
}

/// Who is at the other end, once per connection.
fn note_peer(connection: &dyn Any, extensions: &mut Extensions) {
    use actix_tls::accept::rustls_0_23::TlsStream;
    use actix_web::rt::net::{TcpStream, UnixStream};
    let plain = connection.downcast_ref::<TcpStream>();
    let tls = connection.downcast_ref::<TlsStream<TcpStream>>().map(|tls| tls.get_ref());
    if tls.is_some() {
        extensions.insert(OverTls);
    }
    if tls.is_some_and(|(_, tls)| tls.peer_certificates().is_some()) {
        extensions.insert(HasCertificate);
    }
    let tcp = plain.or_else(|| tls.map(|(tcp, _)| tcp));
    let tcp = tcp.and_then(|tcp| tcp.peer_addr().ok());
    let unix = connection.downcast_ref::<UnixStream>().and_then(|unix| unix.peer_cred().ok());
    let peer = match (tcp, unix) {
        (Some(addr), _) => Peer::Tcp(addr.ip().to_canonical()),
        (None, Some(cred)) => Peer::Unix { uid: cred.uid() },
        (None, None) => Peer::Unknown,
    };
    extensions.insert(peer);
}
