//! An HTTP service that exists while somebody is connected.
//!
//! Purpose: an agent at rest does not wake up. The HTTP service of actix keeps a clock for the `Date` of its answers, which ticks
//! twice a second in each worker and for each listener, asked or not.
//!
//! The threads of the workers stay, and with them whatever handlers have begun on their runtimes; only the service is made
//! with the first connection and dropped when none was there for [`KEPT`].
//!
//! Not here: which service it is, and its listeners (`serve`).

use std::cell::{Cell, RefCell};
use std::fmt::Debug;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use actix_service::{Service, ServiceFactory, always_ready};
use futures_util::future::{LocalBoxFuture, Ready, ready};

/// A service without a connection is kept this long: what comes in a burst finds it made, and making it takes a millisecond.
const KEPT: Duration = Duration::from_secs(1);

/// Makes, for each worker, a service that `make`s the real one when it is needed.
pub(super) fn on_demand<M, F>(make: M) -> OnDemand<M>
where
    M: Fn() -> F + Clone + 'static,
{
    OnDemand(make)
}

#[derive(Debug)]
pub(super) struct OnDemand<M>(M);

impl<M, F, Io> ServiceFactory<Io> for OnDemand<M>
where
    M: Fn() -> F + Clone + 'static,
    F: ServiceFactory<Io, Config = (), Response = ()>,
    F::Service: 'static,
    F::Error: Debug,
    F::InitError: Debug,
    Io: 'static,
{
    type Response = ();
    type Error = ();
    type Config = ();
    type Service = Lent<M, F::Service>;
    type InitError = ();
    type Future = Ready<Result<Self::Service, ()>>;

    fn new_service(&self, (): ()) -> Self::Future {
        ready(Ok(Lent { make: self.0.clone(), desk: Rc::new(Desk::new()) }))
    }
}

/// The service of one worker and listener.
#[derive(Debug)]
pub(super) struct Lent<M, S> {
    make: M,
    desk: Rc<Desk<S>>,
}

impl<M, F, Io> Service<Io> for Lent<M, F::Service>
where
    M: Fn() -> F + Clone + 'static,
    F: ServiceFactory<Io, Config = (), Response = ()>,
    F::Service: 'static,
    F::Error: Debug,
    F::InitError: Debug,
    Io: 'static,
{
    type Response = ();
    type Error = ();
    type Future = LocalBoxFuture<'static, Result<(), ()>>;

    always_ready!();

    /// Serves one connection to its end.
    fn call(&self, io: Io) -> Self::Future {
        let (make, user) = (self.make.clone(), Desk::enter(&self.desk));
        Box::pin(async move {
            let service = match user.0.service() {
                Some(service) => service,
                None => {
                    let made = make().new_service(()).await;
                    user.0.keep(made.map_err(|error| tracing::error!(?error, "no HTTP service can be made"))?)
                }
            };
            let told = |error: F::Error| tracing::debug!(?error, "a connection ended with an error");
            poll_fn(|context| service.poll_ready(context)).await.map_err(told)?;
            service.call(io).await.map_err(told)
        })
    }
}

/// Who uses a service, and the service while somebody does.
#[derive(Debug)]
struct Desk<S> {
    service: RefCell<Option<Rc<S>>>,
    users: Cell<usize>,
    /// Rises with each connection: whoever waits for a quiet time sees that it was none.
    entries: Cell<u64>,
}

impl<S: 'static> Desk<S> {
    const fn new() -> Self {
        Self { service: RefCell::new(None), users: Cell::new(0), entries: Cell::new(0) }
    }

    fn enter(desk: &Rc<Self>) -> User<S> {
        desk.users.set(desk.users.get() + 1);
        desk.entries.set(desk.entries.get() + 1);
        User(Rc::clone(desk))
    }

    fn service(&self) -> Option<Rc<S>> {
        self.service.borrow().clone()
    }

    /// Two connections may make one at the same time; the first that is ready serves both.
    fn keep(&self, made: S) -> Rc<S> {
        Rc::clone(self.service.borrow_mut().get_or_insert_with(|| Rc::new(made)))
    }

    fn leave(desk: &Rc<Self>) {
        desk.users.set(desk.users.get() - 1);
        if desk.users.get() > 0 {
            return;
        }
        let (desk, entries) = (Rc::clone(desk), desk.entries.get());
        // Its end with the runtime is no loss: the service ends with it as well.
        drop(actix_web::rt::spawn(async move {
            tokio::time::sleep(KEPT).await;
            if desk.entries.get() == entries {
                drop(desk.service.borrow_mut().take());
            }
        }));
    }
}

/// A connection that is served. Leaves when it is dropped.
struct User<S: 'static>(Rc<Desk<S>>);

impl<S: 'static> Drop for User<S> {
    fn drop(&mut self) {
        Desk::leave(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use actix_service::{fn_factory, fn_service};
    use tokio::sync::oneshot;

    use super::*;

    type Connection = oneshot::Receiver<()>;

    /// A service that is served until its connection ends, how often it was made, and whether it is there.
    struct Counted {
        made: Rc<Cell<usize>>,
        alive: Rc<()>,
    }

    impl Counted {
        fn new() -> Self {
            Self { made: Rc::new(Cell::new(0)), alive: Rc::new(()) }
        }

        fn lent(&self) -> impl Service<Connection, Response = (), Error = ()> + use<> {
            let (made, alive) = (Rc::clone(&self.made), Rc::clone(&self.alive));
            let make = move || {
                let (made, alive) = (Rc::clone(&made), Rc::clone(&alive));
                fn_factory(move || {
                    let (made, alive) = (Rc::clone(&made), Rc::clone(&alive));
                    async move {
                        made.set(made.get() + 1);
                        tokio::task::yield_now().await;
                        Ok::<_, ()>(fn_service(move |io: Connection| {
                            let alive = Rc::clone(&alive);
                            async move {
                                let ended = io.await;
                                drop(alive);
                                ended.map_err(drop)
                            }
                        }))
                    }
                })
            };
            // The closure above holds `alive`; a service that was made holds it once more.
            on_demand(make).new_service(()).into_inner().unwrap()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_made_once_for_all_who_come_and_goes_when_none_is_left() {
        let tasks = tokio::task::LocalSet::new();
        tasks
            .run_until(async {
                let counted = Counted::new();
                let lent = counted.lent();
                assert_eq!(counted.made.get(), 0, "nobody is connected");
                let at_rest = Rc::strong_count(&counted.alive);
                let (ends, connections): (Vec<_>, Vec<_>) = (0..3).map(|_| oneshot::channel()).unzip();
                let served: Vec<_> =
                    connections.into_iter().map(|io| tokio::task::spawn_local(lent.call(io))).collect();
                tokio::time::sleep(KEPT * 3).await;
                assert!(Rc::strong_count(&counted.alive) > at_rest, "long connections keep it");
                for (end, served) in ends.into_iter().zip(served) {
                    end.send(()).unwrap();
                    served.await.unwrap().unwrap();
                }
                tokio::time::sleep(KEPT / 2).await;
                let made = counted.made.get();
                assert!(Rc::strong_count(&counted.alive) > at_rest, "it is kept for who comes back");
                let (end, io) = oneshot::channel();
                end.send(()).unwrap();
                lent.call(io).await.unwrap();
                assert_eq!(counted.made.get(), made, "who came back found it");
                tokio::time::sleep(KEPT * 2 / 3).await;
                assert!(Rc::strong_count(&counted.alive) > at_rest, "the quiet time began anew");
                tokio::time::sleep(KEPT / 2).await;
                assert_eq!(Rc::strong_count(&counted.alive), at_rest, "it is gone");
                let (end, io) = oneshot::channel();
                end.send(()).unwrap();
                lent.call(io).await.unwrap();
                assert_eq!(counted.made.get(), made + 1, "and is made again");
            })
            .await;
    }
}
