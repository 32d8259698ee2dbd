"""The codecs of the Python SDK, for a test to ask. Each line of input is a question, `{"read": hex}` or
`{"write": commands}` with its `encoding`; each line of output its answer."""

import base64
import json
import sys

from centrifuge.codecs import _JsonCodec, _ProtobufCodec

CODECS = {"json": _JsonCodec, "protobuf": _ProtobufCodec}
PAYLOADS = ("data", "conn_info", "chan_info")
NUMBERS = ("id", "offset", "time")
MAPS = ("subs", "headers", "tags", "presence")


def plain(value, name=None, of_protobuf=False):
    """A value as both encodings have it: payloads are JSON, and what is zero is not there."""
    if of_protobuf and name in PAYLOADS:
        return plain(json.loads(base64.b64decode(value)))
    if of_protobuf and name in NUMBERS:
        return int(value)
    if isinstance(value, dict):
        fields = {key: plain(field, key, of_protobuf) for key, field in value.items()}
        return {k: v for k, v in fields.items() if v or (v == {} and k not in MAPS)}
    if isinstance(value, list):
        return [plain(item, None, of_protobuf) for item in value]
    return value


def with_bytes(value, name=None):
    """Commands as the SDK's Protobuf codec takes them: payloads are bytes, in base64."""
    if name == "data":
        return base64.b64encode(json.dumps(value).encode()).decode()
    if isinstance(value, dict):
        return {key: with_bytes(field, key) for key, field in value.items()}
    return value


def answer(question):
    encoding = question["encoding"]
    codec = CODECS[encoding]
    if "read" in question:
        frame = bytes.fromhex(question["read"])
        replies = codec.decode_replies(frame.decode() if encoding == "json" else frame)
        return [plain(reply, None, encoding == "protobuf") for reply in replies]
    commands = question["write"]
    if encoding == "json":
        return codec.encode_commands(commands).encode().hex()
    return codec.encode_commands([with_bytes(command) for command in commands]).hex()


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))))
