"""The shape in which every client driver reads records to produce and prints records it consumed.

One JSON object a line: {"partition", "timestamp", "key", "value", "headers": [[name, value], ...]}; bytes are hex, null is null.
A value longer than 64 bytes is given as "repeat:<hex byte>:<count>" and printed as "sha256:<digest>:<length>".
"""
import hashlib
import json


def read(path):
    for line in open(path):
        r = json.loads(line)
        yield (r["partition"], r["timestamp"], raw(r["key"]), raw(r["value"]),
               [(n, raw(v)) for n, v in r["headers"]])


def raw(text):
    if text is None:
        return None
    if text.startswith("repeat:"):
        _, byte, count = text.split(":")
        return bytes.fromhex(byte) * int(count)
    return bytes.fromhex(text)


def shown(data):
    if data is None:
        return None
    data = bytes(data)
    if len(data) <= 64:
        return data.hex()
    return "sha256:%s:%d" % (hashlib.sha256(data).hexdigest(), len(data))


def emit(partition, offset, timestamp, key, value, headers):
    print(json.dumps({
        "partition": partition, "offset": offset, "timestamp": timestamp, "key": shown(key), "value": shown(value),
        "headers": [[n, shown(v)] for n, v in headers],
    }), flush=True)
