//! A service that is made once, however often its factory is asked.
//!
//! Purpose: the HTTP service of a worker comes and goes ([`super::on_demand`]), and its routes stay. With every router actix leaks the
//! names in its patterns (`actix_router::ResourceDef` says so, and takes it that a worker makes one): routes that were made anew for
//! each burst of requests would cost an agent that is polled some megabytes a day.
//!
//! Not here: which routes (`serve`).

use std::fmt::Debug;
use std::rc::Rc;

use actix_service::{Service, ServiceFactory};
use futures_util::future::LocalBoxFuture;
use tokio::sync::OnceCell;

/// Clones share what is made. It is made with the first need, in its own time.
pub(super) struct Kept<F, S> {
    make: Rc<dyn Fn() -> F>,
    made: Rc<OnceCell<Rc<S>>>,
}

impl<F, S> Kept<F, S> {
    pub(super) fn new(make: impl Fn() -> F + 'static) -> Self {
        Self { make: Rc::new(make), made: Rc::default() }
    }
}

impl<F, S> Clone for Kept<F, S> {
    fn clone(&self) -> Self {
        Self { make: Rc::clone(&self.make), made: Rc::clone(&self.made) }
    }
}

impl<F, S> Debug for Kept<F, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("is_made", &self.made.initialized()).finish_non_exhaustive()
    }
}

impl<F, S, Req> ServiceFactory<Req> for Kept<F, S>
where
    F: ServiceFactory<Req, Config = (), Service = S> + 'static,
    S: Service<Req, Response = F::Response, Error = F::Error> + 'static,
    Req: 'static,
{
    type Response = F::Response;
    type Error = F::Error;
    type Config = ();
    type Service = Rc<S>;
    type InitError = F::InitError;
    type Future = LocalBoxFuture<'static, Result<Rc<S>, F::InitError>>;

    fn new_service(&self, (): ()) -> Self::Future {
        let Self { make, made } = self.clone();
        Box::pin(async move {
            let service = made.get_or_try_init(|| async { make().new_service(()).await.map(Rc::new) });
            service.await.map(Rc::clone)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use actix_service::{fn_factory, fn_service};

    use super::*;

    #[tokio::test]
    async fn all_who_ask_get_the_same_one() {
        let made = Rc::new(Cell::new(0));
        let counted = Rc::clone(&made);
        let kept = Kept::new(move || {
            counted.set(counted.get() + 1);
            fn_factory(|| async {
                tokio::task::yield_now().await;
                Ok::<_, ()>(fn_service(async |number: u32| Ok::<_, ()>(number + 1)))
            })
        });
        let other = kept.clone();
        assert_eq!(made.get(), 0, "nobody has asked");
        let (one, two) = tokio::join!(kept.new_service(()), other.new_service(()));
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!((one.call(1).await, two.call(2).await), (Ok(2), Ok(3)));
        drop((one, two));
        assert_eq!(kept.new_service(()).await.unwrap().call(3).await, Ok(4));
        assert_eq!(made.get(), 1, "also for who comes when all others are gone");
    }
}
