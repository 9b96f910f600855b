//! `ringpost push-service`: sends notifications for servers that hand them over, until a signal comes.

use std::{cell::RefCell, net::IpAddr, path::Path, process, time::Instant};

use anyhow::Context as _;
use push::{ProviderKind, handover::process::serve, keys::BadSignature};
use rim::process::exit_at_once;
use server::{
    config::Draft,
    files::push::{own, services_key},
    operator::{logging, throttle::Throttle},
};
use tokio::{net::TcpListener, runtime};

use crate::{arguments::PushServiceArguments, signals::Ending};

pub(crate) fn push_service(arguments: &PushServiceArguments) -> anyhow::Result<()> {
    logging::init(arguments.log_format)?;
    let config = Draft::load(&arguments.config)?.finish_push_service()?;
    // It has no data folder: all its keys are in files of their own, which was checked.
    let (settings, key) = (own(&config, Path::new(""))?, services_key(&config)?);
    let providers: Vec<_> = settings.providers().into_iter().map(ProviderKind::name).collect();
    let web_push_key = settings.web_push.as_ref().map(|web_push| web_push.key.public_text());
    let mut runtime = runtime::Builder::new_current_thread();
    let runtime = runtime.max_blocking_threads(push::limits::LOOKUPS_MAX).enable_all().build()?;
    let served = runtime.block_on(async {
        let mut ending = Ending::listen()?;
        let listen = config.services.listen;
        let listener = TcpListener::bind(listen).await.with_context(|| format!("push.services.listen = {listen}"))?;
        tracing::info!(
            listen = %listener.local_addr()?,
            providers = providers.join(","),
            web_push_key,
            pid = process::id(),
            version = env!("CARGO_PKG_VERSION"),
            "serving"
        );
        let told = async {
            let signal = ending.next().await;
            tracing::info!(signal, "stopping; a second signal exits at once");
            // What follows is heard beside the stop.
            tokio::spawn(async move {
                let signal = ending.next().await;
                tracing::warn!(signal, "exiting at once");
                logging::flush();
                exit_at_once(130)
            });
        };
        serve(listener, settings, key, refused(), told).await;
        tracing::info!("stopped");
        Ok(())
    });
    // A lookup may still hang, which nobody waits for.
    runtime.shutdown_background();
    served
}

/// Tells the log whose requests are not taken, without a line for each of a flood.
fn refused() -> impl Fn(IpAddr, BadSignature) {
    let (throttle, began) = (RefCell::<Throttle>::default(), Instant::now());
    move |client, why| {
        if let Some(times) = throttle.borrow_mut().another(began.elapsed().as_millis() as u64) {
            tracing::warn!(%client, %why, times, "a notice was refused: do server and push service have the same push.services.key_file?");
        }
    }
}
