"""A device that keeps its log, its cursor and its messages without an answer in SQLite: what an application does around `ringpost`.

It may be killed at any moment. `python3 device.py FOLDER` is told what to do line by line; the tests of this repository do so.
"""

import pathlib
import sqlite3
import sys
import threading

import ringpost

SCHEMA = """
create table if not exists cursor (only integer primary key check (only = 1), position integer, epoch text, since integer);
create table if not exists entries (seq integer primary key, what text);
create table if not exists outbox (id integer primary key autoincrement, number integer, user integer, text text);
"""


class Kept:
    """What outlives the process. The thread that takes events and the one that sends share it."""

    def __init__(self, folder):
        self.database = sqlite3.connect(pathlib.Path(folder) / "device.sqlite", check_same_thread=False)
        self.database.executescript(SCHEMA)
        self.lock = threading.RLock()
        # Of each message without an answer its row, by the handle that the client calls it by.
        rows = self.database.execute("select id from outbox order by id").fetchall()
        self.rows = {handle: id for handle, (id,) in enumerate(rows, start=1)}

    def begin(self):
        row = self.database.execute("select position, epoch, since from cursor").fetchone() or (0, "0", 0)
        return ringpost.Begin.AFTER(ringpost.Cursor(position=row[0], epoch=int(row[1]), since=row[2]))

    def unanswered(self):
        for number, user, text in self.database.execute("select number, user, text from outbox order by id"):
            to, content = ringpost.Conversation.USER(user), ringpost.Content.TEXT(text)
            yield ringpost.Unanswered(number=number, to=to, content=content)

    def send(self, client, user, text):
        """Keeps the message before the client has it. A process that is killed between the two sends it in its next run."""
        with self.lock:
            with self.database:
                row = self.database.execute("insert into outbox (user, text) values (?, ?)", (user, text)).lastrowid
            # Under the lock, so that no event of it comes before its row is known.
            self.rows[client.send(ringpost.Conversation.USER(user), ringpost.Content.TEXT(text))] = row

    def store(self, batch):
        """Stores what has happened and how far the log has come, as one transaction."""
        with self.lock, self.database:
            for event in batch.events:
                self.take(event)
            if batch.cursor is not None:
                # SQLite's integers have a sign, which epochs have not.
                row = (batch.cursor.position, str(batch.cursor.epoch), batch.cursor.since)
                self.database.execute("insert or replace into cursor values (1, ?, ?, ?)", row)

    def take(self, event):
        if event.is_entry():
            self.database.execute("insert into entries values (?, ?)", (event.entry.seq, told(event.entry)))
        elif event.is_numbered():
            self.database.execute("update outbox set number = ? where id = ?", (event.number, self.rows[event.handle]))
        elif event.is_accepted() or event.is_refused() or event.is_cancelled() or event.is_returned():
            self.answered(event.handle)
        elif event.is_log_replaced():
            self.database.execute("delete from entries")
            for handle in event.dropped:
                self.answered(handle)

    def answered(self, handle):
        self.database.execute("delete from outbox where id = ?", (self.rows[handle],))

    def entries(self):
        return self.database.execute("select seq, what from entries order by seq").fetchall()


def told(entry):
    """What an entry says, on one line."""
    what = entry.what
    if what.is_received():
        return f"received {what.author} {what.origin} {said(what.content)}"
    if what.is_sent():
        return f"sent {what.to.id} {what.device} {what.number} {said(what.content)}"
    if what.is_delivered():
        return f"delivered {what.peer} {what.up_to}"
    if what.is_seen():
        return f"seen {what.peer} {what.up_to}"
    return "something else"


def said(content):
    return content.text if content.is_text() else "something else"


class Tokens(ringpost.TokenProvider):
    """Tokens lie in a file, which somebody writes anew."""

    def __init__(self, path):
        self.path = path

    def token(self):
        say("token asked for")
        return self.path.read_text()


class InOrder(ringpost.Store):
    """For a push: stores, and says so."""

    def __init__(self, kept):
        self.kept = kept

    def store(self, batch):
        self.kept.store(batch)
        tell(batch)


output = threading.Lock()


def say(words):
    with output:
        print(words, flush=True)


def tell(batch):
    """Says what has happened, once it is stored."""
    for event in batch.events:
        if event.is_connected():
            say(f"connected {event.user}")
        elif event.is_accepted():
            say(f"accepted {event.handle}")
        elif event.is_entry():
            say(f"entry {event.entry.seq} {told(event.entry)}")
        elif event.is_suspended():
            say("suspended")
        elif event.is_caught_up():
            say("caught up")
        elif event.is_disconnected():
            say(f"lost {event.words}")
        elif event.is_ended():
            say(f"ended {event.code}")
        elif event.is_refused() or event.is_returned() or event.is_fault() or event.is_no_token():
            say(f"unexpected {event}")


class Taking:
    """The thread that takes events, while the application runs."""

    def __init__(self, client, kept):
        self.client, self.kept = client, kept
        self.goes_on = True
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while self.goes_on:
            batch = self.client.next_events(timeout_ms=50)
            self.kept.store(batch)
            self.client.stored()
            tell(batch)
            if any(event.is_ended() for event in batch.events):
                return

    def stop(self):
        self.goes_on = False
        self.thread.join()


def main():
    folder = pathlib.Path(sys.argv[1])
    server, device, is_woken = sys.argv[2], int(sys.argv[3]), sys.argv[4:] == ["woken"]
    kept = Kept(folder)
    tokens = Tokens(folder / "token")
    config = ringpost.Config(
        server=server,
        tls=ringpost.Tls.OFF(),
        token=tokens.path.read_text(),
        device=device,
        begin=kept.begin(),
        unanswered=list(kept.unanswered()),
    )
    if is_woken:
        client, taking = ringpost.Client.in_background(config, tokens), None
    else:
        client = ringpost.Client.connect(config, tokens)
        taking = Taking(client, kept)
    say("started")
    for line in sys.stdin:
        command, *arguments = line.split()
        if command == "say":
            kept.send(client, int(arguments[0]), arguments[1])
        elif command == "background":
            client.went_to_background()
        elif command == "foreground":
            client.came_to_foreground()
            taking = taking or Taking(client, kept)
        elif command == "network-changed":
            client.network_changed()
        elif command == "sleep":
            # As a phone does with an application in the background.
            taking.stop()
            taking = None
        elif command == "catch-up":
            done = client.catch_up(InOrder(kept), int(arguments[0]))
            say(f"done {done.is_complete} {done.unanswered}")
        elif command == "log":
            with kept.lock:
                for seq, what in kept.entries():
                    say(f"log {seq} {what}")
                say("log is whole")
        elif command == "quit":
            break
    if taking is not None:
        taking.stop()
    client.stop()
    say("bye")


if __name__ == "__main__":
    main()
