//! Sends one message and prints what comes back: `cargo run -p client --example hello -- TOKEN 8 "hello"`.
use client::{Client, ClientEvent, Config, Content, DeviceId, UserId};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("usage: hello TOKEN TO TEXT");
    let (token, to, text) = (next()?, UserId(next()?.parse()?), next()?);

    let (client, mut events) = Client::connect(Config::new("127.0.0.1:7600", token, DeviceId(1)))?;
    let sent = client.send(to, Content::text(&text))?;
    // Connecting again after a failure is not our business: the message is in the log once, whatever happens.
    while let Some(event) = events.next().await {
        match event {
            ClientEvent::MessageAccepted { handle, seq, .. } if handle == sent => println!("accepted as {seq}"),
            ClientEvent::MessageRefused { handle, code } if handle == sent => return Err(code.name().into()),
            ClientEvent::Entry(entry) => println!("{}: {:?}", entry.seq, entry.event),
            ClientEvent::Ended(reason) => return Err(reason.into()),
            _ => {}
        }
    }
    Ok(())
}
