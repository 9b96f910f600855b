#!/usr/bin/env bash
# HAProxy 2.6.12 (Debian package 2.6.12-1+deb12u3), mode tcp, `timeout client` and `timeout server`.
#
# Guess: the two timeouts watch one direction each, as their names and the manual's "when the client is expected to acknowledge or
# send data" suggest: a client that only listens is cut after `timeout client`, however much the server sends to it.
#
# Behaviour: bytes in either direction keep both sides of the connection alive, also when the other direction stays silent for many
# times the timeout. Only a connection that is silent both ways is cut, and then exactly at the timeout.
#
# Why it matters here: Ringpost's server pings a silent client. By the guess the ping would not be enough, and each client would need
# a timer of its own; in truth what counts is how far apart the server's pings are.
#
# Needs Debian 12 with its package lists, and python3. Takes about half a minute.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
packages=(haproxy=2.6.12-1+deb12u3 liblua5.3-0 libopentracing-c-wrapper0 libopentracing1 libpcre2-8-0)
apt-get -qq update
apt-get -qq -o APT::Sandbox::User=root download "${packages[@]}"
for package in *.deb; do dpkg -x "$package" root; done
export LD_LIBRARY_PATH="$dir/root/usr/lib/x86_64-linux-gnu"
cat >check.py <<'PY'
import socket, subprocess, sys, threading, time

TIMEOUT_S, EVERY_S, WATCHED_S = 2, 0.7, 8


def serve(speaks):
    """A server that speaks every EVERY_S, or only listens."""
    listener = socket.create_server(("127.0.0.1", 0))

    def attend(connection):
        try:
            while True:
                if speaks:
                    time.sleep(EVERY_S)
                    connection.sendall(b"s")
                elif not connection.recv(100):
                    return
        except OSError:
            return

    def accept():
        while True:
            threading.Thread(target=attend, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def life(port, speaks):
    """Seconds until the proxy cuts the connection; None if it does not."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.settimeout(0.1)
    begin = spoke = time.monotonic()
    while time.monotonic() - begin < WATCHED_S:
        try:
            if speaks and time.monotonic() - spoke > EVERY_S:
                connection.sendall(b"c")
                spoke = time.monotonic()
            if not connection.recv(100):
                return time.monotonic() - begin
        except TimeoutError:
            pass
        except OSError:
            return time.monotonic() - begin
    return None


ports, config = {}, f"defaults\n mode tcp\n timeout connect 1s\n timeout client {TIMEOUT_S}s\n timeout server {TIMEOUT_S}s\n"
for speaks in (False, True):
    ports[speaks] = free_port()
    config += f"listen l{ports[speaks]}\n bind 127.0.0.1:{ports[speaks]}\n server s 127.0.0.1:{serve(speaks)}\n"
open("haproxy.cfg", "w").write(config)
proxy = subprocess.Popen(["root/usr/sbin/haproxy", "-f", "haproxy.cfg"])
try:
    time.sleep(1)
    lives = {(c, s): life(ports[s], c) for c in (False, True) for s in (False, True)}
finally:
    proxy.terminate()
for (client, server), lived in lives.items():
    who = {(False, False): "nobody", (True, False): "only the client", (False, True): "only the server", (True, True): "both"}
    how = f"cut after {lived:.1f} s" if lived else f"alive after {WATCHED_S} s"
    print(f"timeouts of {TIMEOUT_S} s, who speaks: {who[client, server]}: {how}")
silent = lives.pop((False, False))
sys.exit(0 if silent and TIMEOUT_S <= silent < 2 * TIMEOUT_S and not any(lives.values()) else 1)
PY
python3 check.py
