#!/usr/bin/env python3
"""Checks the vectors beside this file against SPEC.md, independently of the Rust code: written from the specification alone.

Every vector must decode to its fields and, unless it is decode_only, encode to its bytes; every refused vector must be
refused with its error and field. Run it without arguments. It is also the shortest example of a codec."""

import hashlib
import json
import pathlib
import sys

# SPEC 7
FRAME_BYTES_MAX = {"client": 16640, "server": 65536}
TOKEN_BYTES_MAX = 4096
DETAIL_BYTES_MAX = 256
NAME_BYTES_MAX = 64
DIGESTS_MAX = 64
PRESENCE_USERS_MAX = 500
WATCHED_MAX = 200
ADDRESS_BYTES_MAX = 255
PUSH_ADDRESS_BYTES_MAX = 1024
PUSH_KEY_BYTES = 65
PUSH_SECRET_BYTES = 16


class Refused(Exception):
    """What cannot be read: the class of the error and the field, if it is one."""

    def __init__(self, error, field=None):
        super().__init__(error, field)
        self.error, self.field = error, field


# SPEC 2.2: a type is a pair (read, write). read(data, at, field) returns (value, next at); write(value) returns bytes.


def read_byte(data, at, field):
    if at >= len(data):
        raise Refused("truncated", field)
    return data[at], at + 1


def read_varint(data, at, field):
    value = 0
    for i in range(10):
        byte, at = read_byte(data, at, field)
        if (i == 9 and byte > 1) or (i > 0 and byte == 0):
            raise Refused("varint", field)
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, at
    raise AssertionError("the tenth byte ends or is refused")


def write_varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_bytes(data, at, field, size_max=None):
    size, at = read_varint(data, at, field)
    if size_max is not None and size > size_max:
        raise Refused("too_long", field)
    if size > len(data) - at:
        raise Refused("truncated", field)
    return data[at : at + size], at + size


def write_bytes(value):
    return write_varint(len(value)) + value


def read_text(data, at, field, size_max=None):
    value, at = read_bytes(data, at, field, size_max)
    try:
        return value.decode("utf-8"), at
    except UnicodeDecodeError:
        raise Refused("not_utf8", field) from None


def write_text(value):
    return write_bytes(value.encode("utf-8"))


def number(read, write):
    """Numbers are decimal strings in JSON, where many readers lose what lies above 2^53."""

    def read_number(data, at, field):
        value, at = read(data, at, field)
        return str(value), at

    return read_number, lambda value: write(int(value))


BYTE = number(read_byte, lambda value: bytes([value]))
VARINT = number(read_varint, write_varint)


def within(low, high):
    """A varint of which only these values are allowed."""

    def read(data, at, field):
        value, at = read_varint(data, at, field)
        if not low <= value <= high:
            raise Refused("unlisted", field)
        return str(value), at

    return read, VARINT[1]


CODE = within(0, 65535)
OWN_REQUEST = within(1, 2**64 - 1)


def listed(names):
    numbers = {name: value for value, name in names.items()}

    def read(data, at, field):
        value, at = read_byte(data, at, field)
        if value not in names:
            raise Refused("unlisted", field)
        return names[value], at

    return read, lambda name: bytes([numbers[name]])


def string(size_max):
    return lambda data, at, field: read_text(data, at, field, size_max), write_text


def hexadecimal(size_max):
    """Bytes, which are in hex in JSON."""

    def read(data, at, field):
        value, at = read_bytes(data, at, field, size_max)
        return value.hex(), at

    return read, lambda value: write_bytes(bytes.fromhex(value))


SHOW = listed({0: "nothing", 1: "sender", 2: "text"})


CONVERSATION_KINDS = ["user", "group"]


def conversation(kinds):
    def read(data, at, _field):
        kind, at = read_varint(data, at, "conversation")
        if not 1 <= kind <= len(kinds):
            raise Refused("unlisted", "conversation")
        name = kinds[kind - 1]
        value, at = VARINT[0](data, at, name)
        return {name: value}, at

    def write(value):
        ((name, number),) = value.items()
        return write_varint(kinds.index(name) + 1) + VARINT[1](number)

    return read, write


CONVERSATION = conversation(CONVERSATION_KINDS)
# A server names no group as a conversation.
CONVERSATION_WITH_USER = conversation(CONVERSATION_KINDS[:1])


def named(names, otherwise):
    """A byte that is no listed field: what a later version may have is read as `otherwise`."""

    def read(data, at, field):
        value, at = read_byte(data, at, field)
        return names.get(value, otherwise), at

    numbers = {name: value for value, name in names.items()}
    return read, lambda name: bytes([numbers[name]])


ROLES = {1: "member", 2: "admin", 3: "owner"}
ROLE = named(ROLES, "member")
STANDING = named({0: "unknown", 1: "member", 2: "left", 3: "removed", 4: "banned"}, "unknown")


def read_sha256(data, at, field):
    if len(data) - at < 32:
        raise Refused("truncated", field)
    return data[at : at + 32].hex(), at + 32


SHA256 = read_sha256, bytes.fromhex
STRING = read_text, write_text

# SPEC 5.4
BODIES_BY_KIND = {
    2: ("reply", [("author", VARINT), ("author_seq", VARINT), ("quote", STRING), ("text", STRING)]),
    3: (
        "attachment",
        [
            ("attachment_kind", listed({0: "file", 1: "image", 2: "video", 3: "audio"})),
            ("size", VARINT),
            ("sha256", SHA256),
            ("content_type", STRING),
            ("location", STRING),
            ("width", VARINT),
            ("height", VARINT),
            ("duration_ms", VARINT),
            ("thumbnail", STRING),
            ("caption", STRING),
        ],
    ),
}
OPAQUE = 4


def read_digest(data, at, field):
    value, at = read_bytes(data, at, field, 32)
    if len(value) not in (0, 32):
        raise Refused("unlisted", field)
    return value.hex(), at


HEX = (lambda data, at, field: (lambda value, at: (value.hex(), at))(*read_bytes(data, at, field))), (
    lambda value: write_bytes(bytes.fromhex(value))
)

# SPEC 5.4.8
ACT = 8
ACTS = {
    1: ("create", [("name", STRING), ("picture", STRING), ("rules", VARINT)]),
    2: ("add", [("user", VARINT)]),
    3: ("remove", [("user", VARINT)]),
    4: ("ban", [("user", VARINT)]),
    5: ("unban", [("user", VARINT)]),
    6: ("set_role", [("user", VARINT), ("role", named(ROLES, None))]),
    7: ("describe", [("name", STRING), ("picture", STRING)]),
    8: ("set_rules", [("rules", VARINT)]),
    9: ("invite", [("digest", (read_digest, HEX[1]))]),
    10: ("join", [("secret", HEX)]),
    11: ("end", []),
}


def read_act(body):
    """None: version 1 does not have it."""
    act, at = read_varint(body, 0, "act")
    if act not in ACTS:
        return None
    name, fields = ACTS[act]
    values, _ = read_fields(fields, body, at)
    return None if values.get("role", "") is None else {"act": name, **values}


def write_act(values):
    for act, (name, fields) in ACTS.items():
        if name == values["act"]:
            return write_varint(act) + write_fields(fields, values)
    raise AssertionError(f"no act is called {values['act']}")


def change_fields(part):
    """What stands between the name of the message and where it stands."""
    part_of = {"content": [("content", CONTENT)], "reaction": [("reaction", STRING)], None: []}
    return [("author", VARINT), ("author_seq", VARINT)] + part_of[part]


def read_change(body, part):
    fields = change_fields(part)
    values, at = read_fields(fields, body)
    # A client's ends here.
    place, at = read_later(body, at, "place")
    written, at = read_later(body, at, "written")
    return {**values, "place": place, "written": written if place != "0" else "0"}


def write_change(values, part):
    fields = change_fields(part)
    stands = b"" if values["place"] == "0" else VARINT[1](values["place"]) + VARINT[1](values["written"])
    return write_fields(fields, values) + stands


CHANGES = {5: ("edit", "content"), 6: ("unsend", None), 7: ("reaction", "reaction")}


def read_content(data, at, field):
    kind, at = read_byte(data, at, "content_kind")
    if kind == 1:
        text, at = read_text(data, at, field)
        return {"text": text}, at
    body, at = read_bytes(data, at, field)
    if kind == OPAQUE:
        return {"opaque": body.hex()}, at
    if kind == ACT and (act := read_act(body)):
        return {"act": act}, at
    if kind in CHANGES:
        name, part = CHANGES[kind]
        return {name: read_change(body, part)}, at
    if kind in BODIES_BY_KIND:
        name, fields = BODIES_BY_KIND[kind]
        return {name: read_fields(fields, body)[0]}, at
    return {"kind": str(kind), "bytes": body.hex()}, at


def write_content(value):
    if "text" in value:
        return b"\x01" + write_text(value["text"])
    if "opaque" in value:
        return bytes([OPAQUE]) + write_bytes(bytes.fromhex(value["opaque"]))
    if "act" in value:
        return bytes([ACT]) + write_bytes(write_act(value["act"]))
    for kind, (name, part) in CHANGES.items():
        if name in value:
            return bytes([kind]) + write_bytes(write_change(value[name], part))
    for kind, (name, fields) in BODIES_BY_KIND.items():
        if name in value:
            return bytes([kind]) + write_bytes(write_fields(fields, value[name]))
    return bytes([int(value["kind"])]) + write_bytes(bytes.fromhex(value["bytes"]))


CONTENT = read_content, write_content


def read_later(data, at, field):
    # A frame of a sender that does not know the field ends before it.
    return ("0", at) if at == len(data) else VARINT[0](data, at, field)


# A frame does not end with one that is 0: see write_fields.
LATER = read_later, VARINT[1]


# SPEC 2.2
def read_device_ids(data, at, field):
    count, at = read_varint(data, at, field)
    # An id has at least a byte.
    if count > len(data) - at:
        raise Refused("truncated", field)
    ids = []
    for _ in range(count):
        device, at = VARINT[0](data, at, field)
        ids.append(device)
    return ids, at


DEVICE_IDS = read_device_ids, lambda ids: write_varint(len(ids)) + b"".join(map(VARINT[1], ids))


def user_ids(count_max):
    def read(data, at, field):
        count, at = read_varint(data, at, field)
        if count > count_max:
            raise Refused("too_long", field)
        # An id has at least a byte.
        if count > len(data) - at:
            raise Refused("truncated", field)
        users = []
        for _ in range(count):
            user, at = VARINT[0](data, at, field)
            users.append(user)
        return users, at

    return read, DEVICE_IDS[1]


# SPEC 5.4.9; that there are too many is refused with a code.
BODIES_BY_KIND[9] = ("mention", [("users", user_ids(2**64 - 1)), ("text", STRING)])


DEVICE = [
    ("device", VARINT),
    ("seen_day", VARINT),
    ("connected", listed({0: "no", 1: "yes"})),
    ("cursor", VARINT),
    ("name", string(NAME_BYTES_MAX)),
]


def read_devices(data, at, field):
    count, at = read_varint(data, at, field)
    # A device has its length and five fields of at least a byte.
    if count > (len(data) - at) // 6:
        raise Refused("truncated", field)
    devices = []
    for _ in range(count):
        item, at = read_bytes(data, at, field)
        devices.append(read_fields(DEVICE, item)[0])
    return devices, at


def write_devices(devices):
    return write_varint(len(devices)) + b"".join(write_bytes(write_fields(DEVICE, device)) for device in devices)


def read_later_devices(data, at, field):
    return ([], at) if at == len(data) else read_devices(data, at, field)


DEVICES = read_devices, write_devices
LATER_DEVICES = read_later_devices, lambda devices: write_devices(devices) if devices else b""

# SPEC 5
ENTRIES_BY_KIND = {
    1: ("received", [("from", VARINT), ("origin", VARINT), ("content", CONTENT)]),
    2: ("sent", [("to", VARINT), ("device", VARINT), ("number", VARINT), ("content", CONTENT)]),
    3: ("delivered", [("peer", VARINT), ("up_to", VARINT)]),
    8: ("visibility", [("visibility", VARINT)]),
    10: (
        "devices",
        [("removed", VARINT), ("why", listed({1: "user", 2: "room", 3: "operator"})), ("devices", DEVICE_IDS)],
    ),
    4: ("read", [("peer", VARINT), ("up_to", VARINT), ("unread", VARINT), ("told", VARINT)]),
    5: ("seen", [("peer", VARINT), ("up_to", VARINT)]),
    6: ("settings", [("peer", VARINT), ("settings", VARINT)]),
    7: (
        "deleted",
        [("peer", VARINT), ("author", VARINT), ("author_seq", VARINT), ("place", VARINT), ("unread", VARINT)],
    ),
    9: ("sent_to_group", [("group", VARINT), ("device", VARINT), ("number", VARINT), ("content", CONTENT)]),
    11: (
        "group",
        [("group", VARINT), ("standing", STANDING), ("first", VARINT), ("up_to", VARINT), ("sent_up_to", VARINT)],
    ),
    12: ("group_refused", [("group", VARINT), ("origin", VARINT), ("code", CODE)]),
    13: ("group_read", [("group", VARINT), ("up_to", VARINT)]),
    14: ("group_settings", [("group", VARINT), ("settings", VARINT)]),
    15: ("group_deleted", [("group", VARINT), ("place", VARINT)]),
}
ENTRY_HEAD = [("seq", VARINT), ("time", VARINT)]


def read_fields(fields, data, at=0):
    values = {}
    for name, (read, _) in fields:
        values[name], at = read(data, at, name)
    return values, at


def write_fields(fields, values):
    end = len(fields)
    while end and fields[end - 1][1] is LATER and values[fields[end - 1][0]] == "0":
        end -= 1
    return b"".join(write(values[name]) for name, (_, write) in fields[:end])


def read_entry(data, at, _field):
    kind, at = read_byte(data, at, "entry_kind")
    name, fields = ENTRIES_BY_KIND.get(kind, (str(kind), []))
    values, _ = read_fields(ENTRY_HEAD + fields, data, at)
    return {"kind": name, **values}, len(data)


def write_entry(value):
    for kind, (name, fields) in ENTRIES_BY_KIND.items():
        if value["kind"] == name:
            return bytes([kind]) + write_fields(ENTRY_HEAD + fields, value)
    return bytes([int(value["kind"])]) + write_fields(ENTRY_HEAD, value)


def read_entries(data, at, field):
    count, at = read_varint(data, at, field)
    # An entry has at least four bytes.
    if count > (len(data) - at) // 4:
        raise Refused("truncated", field)
    entries = []
    for _ in range(count):
        item, at = read_bytes(data, at, field)
        entries.append(read_entry(item, 0, field)[0])
    return entries, at


def write_entries(entries):
    return write_varint(len(entries)) + b"".join(write_bytes(write_entry(entry)) for entry in entries)


ENTRY = read_entry, write_entry
ENTRIES = read_entries, write_entries


def items(part, bytes_min):
    """A count, then each item as bytes; an item with its length has at least bytes_min."""
    read_part, write_part = part

    def read(data, at, field):
        count, at = read_varint(data, at, field)
        if count > (len(data) - at) // bytes_min:
            raise Refused("truncated", field)
        values = []
        for _ in range(count):
            item, at = read_bytes(data, at, field)
            values.append(read_part(item, 0, field)[0])
        return values, at

    return read, lambda values: write_varint(len(values)) + b"".join(write_bytes(write_part(value)) for value in values)


def record(fields):
    """An object of fields that fills its bytes."""
    return (
        lambda data, at, _field: (read_fields(fields, data, at)[0], len(data)),
        lambda values: write_fields(fields, values),
    )


# SPEC 5.17
GROUP_ENTRY = record(
    [(name, VARINT) for name in "seq time from origin messages".split()] + [("content", CONTENT)]
)


def read_last(data, at, field):
    last, at = read_bytes(data, at, field)
    return (GROUP_ENTRY[0](last, 0, field)[0] if last else None), at


# SPEC 4.44
GROUP_ROW = record(
    [
        ("group", VARINT),
        ("standing", STANDING),
        ("role", ROLE),
        ("rules", VARINT),
        ("members", VARINT),
        ("head", VARINT),
        ("name", STRING),
        ("picture", STRING),
        ("last", (read_last, lambda last: write_bytes(GROUP_ENTRY[1](last) if last else b""))),
        ("settings", VARINT),
        ("read_up_to", VARINT),
        ("unread", VARINT),
    ]
)

# SPEC 4.45
MEMBER = record(
    [("user", VARINT), ("role", ROLE), ("since", VARINT), ("read_up_to", VARINT), ("delivered_up_to", VARINT)]
)

# SPEC 4.21
INBOX_ROW = [
    ("conversation", CONVERSATION_WITH_USER),
    ("settings", VARINT),
    ("unread", VARINT),
    ("read_up_to", VARINT),
    ("delivered_up_to", VARINT),
    ("seen_up_to", VARINT),
    ("left_out", VARINT),
    ("last", ENTRY),
]


def read_inbox_rows(data, at, field):
    count, at = read_varint(data, at, field)
    # A row has at least twelve bytes.
    if count > (len(data) - at) // 12:
        raise Refused("truncated", field)
    rows = []
    for _ in range(count):
        item, at = read_bytes(data, at, field)
        rows.append(read_fields(INBOX_ROW, item)[0])
    return rows, at


def write_inbox_rows(rows):
    return write_varint(len(rows)) + b"".join(write_bytes(write_fields(INBOX_ROW, row)) for row in rows)


INBOX_ROWS = read_inbox_rows, write_inbox_rows


# SPEC 4.32
def read_digests(data, at, field):
    count, at = read_varint(data, at, field)
    if count > DIGESTS_MAX:
        raise Refused("too_long", field)
    end = at + 32 * count
    if end > len(data):
        raise Refused("truncated", field)
    return [data[start : start + 32].hex() for start in range(at, end, 32)], end


def write_digests(digests):
    return write_varint(len(digests)) + b"".join(bytes.fromhex(digest) for digest in digests)


# SPEC 4.38
PRESENCES = ["unknown", "offline", "away", "online"]


def read_state(data, at, field):
    value, at = read_varint(data, at, field)
    # A state of a later version is one that is not known.
    return PRESENCES[value] if value < len(PRESENCES) else "unknown", at


PRESENCE_STATE = [
    ("user", VARINT),
    ("state", (read_state, lambda name: write_varint(PRESENCES.index(name)))),
    ("last_seen", VARINT),
    ("ask_again_ms", VARINT),
]


def read_states(data, at, field):
    count, at = read_varint(data, at, field)
    if count > PRESENCE_USERS_MAX:
        raise Refused("too_long", field)
    # A state has its length and four varints.
    if count > (len(data) - at) // 5:
        raise Refused("truncated", field)
    states = []
    for _ in range(count):
        item, at = read_bytes(data, at, field)
        states.append(read_fields(PRESENCE_STATE, item)[0])
    return states, at


def write_states(states):
    return write_varint(len(states)) + b"".join(write_bytes(write_fields(PRESENCE_STATE, state)) for state in states)


# SPEC 4.40
def read_address(data, at, field):
    value, at = read_text(data, at, field, ADDRESS_BYTES_MAX)
    if not value:
        raise Refused("unlisted", field)
    return value, at


# SPEC 8.9
def digest_of(entries):
    """The digest of a range, of its entries' bytes."""
    return hashlib.sha256(b"".join(hashlib.sha256(entry).digest() for entry in entries)).hexdigest()

# SPEC 4
FETCH = [("from", VARINT), ("direction", listed({0: "forwards", 1: "backwards"})), ("limit", VARINT)]
WELCOME = (
    "version user server_time head cursor last_number send_window text_bytes_max page_entries_max idle_timeout_ms committed".split()
)
WELCOME_LATER = "epoch content_kinds conversation_kinds frame_kinds edit_within_s unsend_within_s skipped visibility ping_after_ms".split()
FRAMES = {
    "client": {
        0x01: (
            "hello",
            [
                ("version_min", VARINT),
                ("version_max", VARINT),
                ("device", VARINT),
                ("resume", listed({0: "stored", 1: "after", 2: "live"})),
                ("resume_seq", VARINT),
                ("token", string(TOKEN_BYTES_MAX)),
                ("epoch", LATER),
                ("since", LATER),
                ("skip_above", LATER),
                ("hops", LATER),
            ],
        ),
        0x02: ("send", [("number", VARINT), ("to", CONVERSATION), ("content", CONTENT)]),
        0x03: ("acknowledge", [("seq", VARINT)]),
        0x04: ("fetch_log", [("request", OWN_REQUEST), *FETCH]),
        0x05: ("fetch_conversation", [("request", OWN_REQUEST), ("conversation", CONVERSATION), *FETCH]),
        0x06: ("ping", [("nonce", VARINT)]),
        0x07: ("pong", [("nonce", VARINT)]),
        0x08: ("bye", []),
        0x09: ("refresh", [("token", string(TOKEN_BYTES_MAX))]),
        0x0E: ("fetch_devices", [("request", OWN_REQUEST)]),
        0x0F: ("remove_device", [("request", OWN_REQUEST), ("device", VARINT)]),
        0x10: ("name_device", [("request", OWN_REQUEST), ("device", VARINT), ("name", string(NAME_BYTES_MAX))]),
        0x0B: (
            "mark_read",
            [
                ("request", OWN_REQUEST),
                ("conversation", CONVERSATION),
                ("up_to", VARINT),
                ("tell", listed({0: "no", 1: "yes"})),
            ],
        ),
        0x0C: ("fetch_inbox", [("request", OWN_REQUEST), ("before", VARINT), ("limit", VARINT), ("messages", VARINT)]),
        0x0D: (
            "set_conversation",
            [("request", OWN_REQUEST), ("conversation", CONVERSATION), ("set", VARINT), ("cleared", VARINT)],
        ),
        0x11: ("delete_message", [("request", OWN_REQUEST), ("conversation", CONVERSATION), ("place", VARINT)]),
        0x0A: ("give_up", [("number", VARINT)]),
        0x12: ("fetch_presence", [("request", OWN_REQUEST), ("users", user_ids(PRESENCE_USERS_MAX))]),
        0x13: ("watch", [("request", OWN_REQUEST), ("users", user_ids(WATCHED_MAX))]),
        0x15: ("typing", [("conversation", CONVERSATION)]),
        0x16: ("set_status", [("status", listed({0: "here", 1: "away"}))]),
        0x18: ("fetch_groups", [("request", OWN_REQUEST), ("after", VARINT), ("limit", VARINT)]),
        0x19: (
            "fetch_members",
            [("request", OWN_REQUEST), ("group", VARINT), ("after", VARINT), ("limit", VARINT), ("seq", VARINT)],
        ),
        0x1A: ("acknowledge_group", [("group", VARINT), ("up_to", VARINT)]),
        0x1B: (
            "subscribe",
            [
                ("request", OWN_REQUEST),
                ("provider", VARINT),
                ("show", SHOW),
                ("address", string(PUSH_ADDRESS_BYTES_MAX)),
                ("key", hexadecimal(PUSH_KEY_BYTES)),
                ("secret", hexadecimal(PUSH_SECRET_BYTES)),
            ],
        ),
        0x1C: ("unsubscribe", [("request", OWN_REQUEST)]),
        0x1D: ("fetch_subscription", [("request", OWN_REQUEST)]),
        0x17: ("set_visibility", [("request", OWN_REQUEST), ("set", VARINT), ("cleared", VARINT)]),
        0x14: (
            "fetch_digest",
            [("request", OWN_REQUEST), ("first", VARINT), ("last", VARINT), ("width", VARINT), ("group", LATER)],
        ),
    },
    "server": {
        0x81: ("welcome", [*((name, VARINT) for name in WELCOME), *((name, LATER) for name in WELCOME_LATER)]),
        0x82: (
            "accepted",
            [
                ("number", VARINT),
                ("seq", VARINT),
                ("time", VARINT),
                ("durability", listed({1: "memory", 2: "local", 3: "committed"})),
                ("recipient", listed({0: "offline", 1: "online", 2: "yourself"})),
            ],
        ),
        0x83: ("refused", [("number", VARINT), ("code", CODE), ("retry_after_ms", VARINT), ("expected", VARINT)]),
        0x84: ("deliver", [("entry", ENTRY)]),
        0x85: (
            "page",
            [
                ("request", VARINT),
                ("first", VARINT),
                ("last", VARINT),
                ("more", listed({0: "no", 1: "yes"})),
                ("entries", ENTRIES),
                ("delivered_up_to", VARINT),
                ("seen_up_to", LATER),
            ],
        ),
        0x86: (
            "error",
            [
                ("code", CODE),
                ("kind", BYTE),
                ("request", VARINT),
                ("retry_after_ms", VARINT),
                ("detail", string(DETAIL_BYTES_MAX)),
            ],
        ),
        0x87: ("ping", [("nonce", VARINT)]),
        0x88: ("pong", [("nonce", VARINT)]),
        0x89: (
            "bye",
            [
                ("code", CODE),
                ("retry_after_ms", VARINT),
                ("detail", string(DETAIL_BYTES_MAX)),
                ("devices", LATER_DEVICES),
            ],
        ),
        0x8A: ("committed", [("up_to", VARINT)]),
        0x8B: ("token_expiring", [("expires_in_ms", VARINT)]),
        0x8C: ("refreshed", [("expires", VARINT)]),
        0x8D: ("epoch", [("first", VARINT), ("epoch", OWN_REQUEST)]),
        0x8F: ("devices", [("request", VARINT), ("devices", DEVICES)]),
        0x8E: (
            "inbox",
            [("request", VARINT), ("at", VARINT), ("more", listed({0: "no", 1: "yes"})), ("rows", INBOX_ROWS)],
        ),
        0x93: ("deliver_group", [("group", VARINT), ("entry", GROUP_ENTRY)]),
        0x9B: (
            "subscription",
            [
                ("request", VARINT),
                ("providers", VARINT),
                ("server_key", hexadecimal(PUSH_KEY_BYTES)),
                ("provider", VARINT),
                ("show", SHOW),
                ("address", string(PUSH_ADDRESS_BYTES_MAX)),
            ],
        ),
        0x97: (
            "group_page",
            [
                ("request", VARINT),
                ("group", VARINT),
                ("first", VARINT),
                ("last", VARINT),
                ("more", listed({0: "no", 1: "yes"})),
                ("head", VARINT),
                # Five varints and a content without a body, with their length.
                ("entries", items(GROUP_ENTRY, 8)),
            ],
        ),
        0x98: (
            "groups",
            [
                ("request", VARINT),
                ("at", VARINT),
                ("more", listed({0: "no", 1: "yes"})),
                ("rows", items(GROUP_ROW, 13)),
            ],
        ),
        0x99: (
            "members",
            [
                ("request", VARINT),
                ("group", VARINT),
                ("more", listed({0: "no", 1: "yes"})),
                ("at", VARINT),
                ("members", items(MEMBER, 6)),
                ("delivered", VARINT),
                ("read", VARINT),
            ],
        ),
        0x9A: ("typing_in_group", [("group", VARINT), ("user", VARINT), ("ends_in_ms", VARINT)]),
        0x94: ("marked", [("request", VARINT)]),
        0x90: ("given_up", [("number", VARINT), ("seq", VARINT)]),
        0x91: (
            "presence",
            [("request", VARINT), ("lifetime_ms", VARINT), ("states", (read_states, write_states))],
        ),
        0x92: ("typing", [("conversation", CONVERSATION_WITH_USER), ("user", VARINT), ("ends_in_ms", VARINT)]),
        0x96: (
            "redirect",
            [
                ("address", (read_address, write_text)),
                ("reason", listed({0: "elsewhere", 1: "moving", 2: "leaving"})),
                ("after_ms", VARINT),
                ("map_version", VARINT),
            ],
        ),
        0x95: (
            "digest",
            [
                ("request", VARINT),
                ("at", VARINT),
                ("first", VARINT),
                ("last", VARINT),
                ("width", OWN_REQUEST),
                ("digests", (read_digests, write_digests)),
            ],
        ),
    },
}


def cut(data, direction):
    """SPEC 2.1: one whole frame off the front of a stream: its kind, its body and what follows; None if it has not arrived whole."""
    try:
        size, at = read_varint(data, 0, None)
    except Refused as refused:
        if refused.error == "truncated":
            return None
        raise Refused("length_varint") from None
    if size == 0:
        raise Refused("length_zero")
    if size > FRAME_BYTES_MAX[direction]:
        raise Refused("frame_too_large")
    if size > len(data) - at:
        return None
    return data[at], data[at + 1 : at + size], data[at + size :]


def decode(data, direction):
    """The name and fields of the one frame in data."""
    frame = cut(data, direction)
    if frame is None:
        raise AssertionError("the frame is incomplete")
    kind, body, rest = frame
    if rest:
        raise AssertionError("bytes follow the frame")
    if kind not in FRAMES[direction]:
        raise Refused("unknown_kind")
    name, fields = FRAMES[direction][kind]
    values, _ = read_fields(fields, body)
    if name == "hello" and values["resume"] != "after":
        values["resume_seq"] = "0"
    return name, values


def encode(name, values, direction):
    for kind, (known, fields) in FRAMES[direction].items():
        if known == name:
            return write_bytes(bytes([kind]) + write_fields(fields, values))
    raise AssertionError(f"no frame is called {name}")


def faults_of_vector(vector, direction):
    data = bytes.fromhex(vector["hex"])
    try:
        decoded = decode(data, direction)
    except Refused as refused:
        return [f"refused: {refused}"]
    faults = []
    if decoded != (vector["kind"], vector["fields"]):
        faults.append(f"decodes to {decoded}")
    if not vector.get("decode_only") and encode(vector["kind"], vector["fields"], direction) != data:
        faults.append(f"encodes to {encode(vector['kind'], vector['fields'], direction).hex()}")
    for end in range(len(data)):
        if cut(data[:end], direction) is not None:
            faults.append(f"its first {end} bytes are taken for a frame")
    return faults


def faults_of_refused(vector):
    try:
        decoded = decode(bytes.fromhex(vector["hex"]), vector["direction"])
    except Refused as refused:
        if (refused.error, refused.field) == (vector["error"], vector.get("field")):
            return []
        return [f"is refused with {refused.error}, {refused.field}"]
    return [f"is not refused but decodes to {decoded}"]


def main():
    folder = pathlib.Path(__file__).parent
    faults, count = [], 0
    for direction in ("client", "server"):
        vectors = json.loads((folder / f"{direction}.json").read_text("utf-8"))
        count += len(vectors)
        for kind, (name, _) in FRAMES[direction].items():
            if not any(vector["kind"] == name for vector in vectors):
                faults.append(f"{direction}: kind {kind:#04x} {name} has no vector")
        for vector in vectors:
            faults += [f"{direction}: {vector['name']}: {fault}" for fault in faults_of_vector(vector, direction)]
    # The entry of the example in SPEC 9.
    example = [digest_of([bytes.fromhex("0103a896ebb6b73308020103486921")]), digest_of([])]
    if not any(vector["fields"].get("digests") == example for vector in vectors):
        faults.append(f"server: no digest has {example}")
    refused = json.loads((folder / "refused.json").read_text("utf-8"))
    count += len(refused)
    for vector in refused:
        faults += [f"refused: {vector['name']}: {fault}" for fault in faults_of_refused(vector)]
    print("\n".join(faults) if faults else f"{count} vectors agree with SPEC.md")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
