//! Lines: what passes between apps and processes.

use super::{
    Fleet, Happening, Pid,
    network::{Line, LineId, Pipe, ServerEnd, people_go_to},
    process::name_of,
};

impl Fleet {
    /// An app opens a connection.
    pub(super) fn open_line(&mut self, app: usize) -> LineId {
        let id = LineId(self.network.id());
        let told = self.told.get(&self.apps[app].key.0).copied().unwrap_or_default();
        let line = Line {
            app,
            told,
            pid: None,
            server: ServerEnd::None,
            is_known: true,
            is_read: false,
            is_paused: false,
            to_server: Pipe::default(),
            to_client: Pipe::default(),
        };
        self.network.lines.insert(id, line);
        let delay = self.rng.within(1, 20);
        self.schedule(delay, Happening::Opened(id));
        id
    }

    pub(super) fn on_opened(&mut self, id: LineId) {
        let Some(app) = self.network.line(id).map(|line| line.app) else { return };
        if let Some(ms) = self.parted_ms(app) {
            return self.schedule(ms, Happening::Opened(id));
        }
        let address = self.apps[app].address();
        let place = |pid: &Pid| format!("{}:1", name_of(self.processes[pid.0].name)) == address;
        let listening: Vec<Pid> =
            self.serving().into_iter().filter(|pid| self.at(self.processes[pid.0].name) == Some(*pid)).collect();
        let there: Vec<Pid> = listening.into_iter().filter(|pid| address == people_go_to() || place(pid)).collect();
        if there.is_empty() {
            self.reached("connection to a node in which nobody listens");
            self.network.lines.remove(&id);
            return self.app_lost(app, id);
        }
        let pid = *self.rng.pick(&there);
        let paused_until_ms = self.processes[pid.0].paused_until_ms;
        if paused_until_ms > self.now_ms {
            return self.schedule(paused_until_ms - self.now_ms, Happening::Opened(id));
        }
        if !self.healing && self.rng.chance(20) {
            let life = self.rng.within(1, 3_000);
            self.schedule(life, Happening::Cut(id));
        }
        if let Some(line) = self.network.line(id) {
            line.pid = Some(pid);
        }
        self.accept(pid, id);
        self.app_connected(app, id);
    }

    /// Bytes of an app, cut at random.
    pub(super) fn write_to_server(&mut self, id: LineId, bytes: &[u8]) {
        let cut = self.rng.within(1, 2 * bytes.len() as u64).min(bytes.len() as u64) as usize;
        let (head, rest) = bytes.split_at(cut);
        for part in [head, rest].into_iter().filter(|part| !part.is_empty()) {
            let (delay, now_ms) = (self.rng.within(0, 5), self.now_ms);
            let Some(line) = self.network.line(id) else { return };
            let in_ms = line.to_server.push(now_ms, delay, part.to_vec());
            self.schedule(in_ms, Happening::ToServer(id));
        }
    }

    /// How long nothing will pass between this app and any node, if so.
    fn parted_ms(&self, app: usize) -> Option<u64> {
        self.apps[app].parted_until_ms.checked_sub(self.now_ms).filter(|ms| *ms > 0)
    }

    pub(super) fn on_to_server(&mut self, id: LineId) {
        let Some(line) = self.network.line(id) else { return };
        let (app, pid) = (line.app, line.pid);
        if let Some(ms) = self.parted_ms(app) {
            return self.schedule(ms, Happening::ToServer(id));
        }
        let Some(pid) = pid else { return };
        let process = &self.processes[pid.0];
        if process.paused_until_ms > self.now_ms {
            return self.schedule(process.paused_until_ms - self.now_ms, Happening::ToServer(id));
        }
        let is_stalled = |core| process.serving.as_ref().is_some_and(|serving| serving.cores.get(core).is_stalled());
        let Some(line) = self.network.lines.get_mut(&id) else { return };
        let is_read = match line.server {
            ServerEnd::None | ServerEnd::Closing { .. } => true,
            ServerEnd::Moving { .. } | ServerEnd::Arriving => false,
            ServerEnd::Greeting { core, .. } => line.is_read && !is_stalled(core),
            ServerEnd::Serving { core, .. } => line.is_read && !line.is_paused && !is_stalled(core),
        };
        if !is_read {
            // Left in the kernel until the server reads again.
            return self.schedule(2, Happening::ToServer(id));
        }
        let Some(bytes) = line.to_server.queue.pop_front() else { return };
        match line.server {
            ServerEnd::Serving { core, conn } => _ = self.act(pid, core, |core, now| core.bytes(now, conn, &bytes)),
            ServerEnd::Greeting { core, conn } => {
                line.is_read = false;
                self.act(pid, core, |core, _| core.wait(conn, &bytes));
            }
            ServerEnd::None | ServerEnd::Moving { .. } | ServerEnd::Arriving | ServerEnd::Closing { .. } => {}
        }
    }

    /// The server has queued something.
    pub(super) fn send_to_client(&mut self, id: LineId, bytes: &[u8]) {
        let (delay, now_ms) = (self.rng.within(0, 8), self.now_ms);
        let Some(line) = self.network.line(id) else { return };
        let in_ms = line.to_client.push(now_ms, delay, bytes.to_vec());
        self.schedule(in_ms, Happening::ToClient(id));
    }

    pub(super) fn on_to_client(&mut self, id: LineId) {
        let now_ms = self.now_ms;
        let Some(line) = self.network.lines.get_mut(&id) else { return };
        let app = &self.apps[line.app];
        let until_ms = app.stalled_until_ms.max(app.parted_until_ms);
        if until_ms > now_ms {
            return self.schedule(until_ms - now_ms, Happening::ToClient(id));
        }
        if let Some(bytes) = line.to_client.queue.pop_front() {
            let (app, is_known) = (line.app, line.is_known);
            if let (ServerEnd::Serving { core, conn }, Some(pid)) = (&line.server, line.pid) {
                let (core, conn) = (*core, *conn);
                self.schedule(0, Happening::Taken { pid, core, conn, bytes: bytes.len() });
            }
            if is_known {
                self.app_bytes(app, id, &bytes);
            }
        }
        self.close_if_done(id);
    }

    /// A line that the server closes ends when the last byte has arrived.
    fn close_if_done(&mut self, id: LineId) {
        if let Some(line) = self.network.line(id)
            && matches!(line.server, ServerEnd::Closing { .. })
            && line.to_client.queue.is_empty()
        {
            self.cut(id);
        }
    }

    /// The core has closed the connection.
    pub(super) fn server_closes(&mut self, id: LineId) {
        if let Some(line) = self.network.line(id)
            && let Some((core, conn)) = line.server.place()
        {
            line.server = ServerEnd::Closing { core, conn };
            self.schedule(0, Happening::ToClient(id));
        }
    }

    /// The app has closed, or crashed: the server finds out, perhaps late.
    pub(super) fn client_closes(&mut self, id: LineId) {
        let Some(line) = self.network.line(id) else { return };
        line.is_known = false;
        let app = line.app;
        let late = if self.rng.chance(30) { self.rng.within(100, 3_000) } else { 0 };
        let in_ms = self.parted_ms(app).unwrap_or(late);
        self.schedule(in_ms, Happening::Cut(id));
    }

    /// The connection breaks at this byte, both ways.
    pub(super) fn cut(&mut self, id: LineId) {
        let Some(line) = self.network.lines.remove(&id) else { return };
        let (app, is_known) = (line.app, line.is_known);
        if let Some(pid) = line.pid {
            self.schedule(0, Happening::Gone(pid, Box::new(line)));
        }
        if is_known {
            self.app_lost(app, id);
        }
    }
}
