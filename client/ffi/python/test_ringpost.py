"""What the binding does without a server."""

import socket
import threading
import unittest

from ringpost import Begin, Client, Config, Content, Conversation, Cursor, MessageName, RingpostError, Tls, Unanswered


BEGINNING = Begin.AFTER(Cursor(position=0, epoch=0, since=0))


def config(**changes):
    # Nothing listens there.
    fields = dict(server="127.0.0.1:1", tls=Tls.OFF(), token="token", device=1, begin=BEGINNING)
    return Config(**{**fields, **changes})


class TestClient(unittest.TestCase):
    def background(self, **changes):
        client = Client.in_background(config(**changes), None)
        self.addCleanup(client.stop)
        return client

    def test_a_configuration_that_can_not_work_is_refused_in_words(self):
        for words, changes in {
            "the device id must not be zero": dict(device=0),
            "the token has 0 bytes": dict(token=""),
            "there is no certificate in it": dict(tls=Tls.CERTIFICATES("none", None)),
        }.items():
            with self.assertRaises(RingpostError.Configuration) as refused:
                Client.connect(config(**changes), None)
            self.assertIn(words, refused.exception.words)

    def test_what_no_server_takes_is_refused_at_once(self):
        client, to = self.background(), Conversation.USER(8)
        of = MessageName(author=7, seq=3)
        for content in [Content.TEXT(""), Content.UNKNOWN(77), Content.EDIT(of, Content.UNKNOWN(77), None)]:
            with self.assertRaises(RingpostError.Invalid):
                client.send(to, content)
        with self.assertRaises(RingpostError.Invalid):
            client.fetch_conversation(8, before=1, limit=10)
        self.assertEqual(client.unanswered(), [])

    def test_messages_without_an_answer_are_what_was_sent_and_are_handed_to_the_next_run(self):
        of = MessageName(author=7, seq=3)
        sent = [
            Content.TEXT("text"),
            Content.REPLY(of, "quote", "text"),
            Content.MENTION([9, 2**64 - 1], "text"),
            Content.OPAQUE(b"\0\xff"),
            Content.EDIT(of, Content.TEXT("other"), None),
            Content.TAKEN_BACK(of, None),
            Content.REACTION(of, "\N{THUMBS UP SIGN}", None),
        ]
        client, to = self.background(), Conversation.USER(8)
        handles = [client.send(to, content) for content in sent]
        self.assertTrue(client.cancel(handles.pop()))
        kept = client.unanswered()
        self.assertEqual([(of.handle, of.message.content) for of in kept], list(zip(handles, sent)))
        next_run = self.background(unanswered=[of.message for of in kept])
        self.assertEqual([of.message for of in next_run.unanswered()], [of.message for of in kept])
        with self.assertRaises(RingpostError.Configuration):
            number_twice = [Unanswered(number=1, to=to, content=content) for content in sent[:2]]
            self.background(unanswered=number_twice)

    def test_events_are_waited_for_as_long_as_was_said_and_by_one_thread(self):
        client = self.background()
        self.assertTrue(client.next_events(60_000).events[0].is_suspended())
        self.assertEqual(client.next_events(0).events, [])
        taken = []

        def take():
            while not taken:
                try:
                    taken.extend(client.next_events(60_000).events)
                except RingpostError.Busy:
                    pass

        other = threading.Thread(target=take)
        other.start()
        with self.assertRaises(RingpostError.Busy):
            while True:
                client.next_events(0)
        client.stop()
        other.join()
        self.assertTrue(taken[-1].is_ended())
        self.assertEqual(taken[-1].code, "closed")
        with self.assertRaises(RingpostError.Ended):
            client.next_events(60_000)
        with self.assertRaises(RingpostError.Ended):
            client.send(Conversation.USER(8), Content.TEXT("late"))

    def test_who_answers_and_is_no_ringpost_server_is_told_in_words(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = "127.0.0.1:%d" % listener.getsockname()[1]
            client = Client.connect(config(server=address), None)
            self.addCleanup(client.stop)
            accepted, _ = listener.accept()
            with accepted:
                accepted.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                event = client.next_events(60_000).events[0]
        self.assertTrue(event.is_disconnected())
        self.assertIn("no Ringpost server", event.words)


if __name__ == "__main__":
    unittest.main()
