//! A step from its parts: key, capabilities, deadline, and the functions that do it and undo it.

macro_rules! step {
    ($(#[$doc:meta])* $name:ident, $key:literal, $caps:literal, $deadline:expr, $run:ident $(, $undo:ident)?) => {
        $(#[$doc])*
        #[derive(Debug)]
        struct $name(Ports);

        impl crate::engine::Step for $name {
            fn spec(&self) -> crate::engine::StepSpec {
                crate::engine::StepSpec { key: $key, caps: crate::engine::Caps::of($caps), deadline: $deadline }
            }

            fn run<'a>(
                &'a self,
                ctx: &'a StepCtx,
            ) -> futures_util::future::BoxFuture<'a, Result<crate::engine::Outcome>> {
                Box::pin($run(&self.0, ctx))
            }

            $(fn undo<'a>(&'a self, ctx: &'a StepCtx) -> futures_util::future::BoxFuture<'a, Result<()>> {
                Box::pin($undo(&self.0, ctx))
            })?
        }
    };
}

pub(super) use step;
