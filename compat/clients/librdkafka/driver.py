"""Driver for librdkafka of any age, through ctypes: `LIBRARY produce BOOTSTRAP TOPIC CODEC,... FILE` and `LIBRARY consume BOOTSTRAP TOPIC COUNT`.

LIBRARY is a librdkafka shared object, for instance the one inside a confluent-kafka wheel: its C interface has been stable since 1.0.
"""
import ctypes as C
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "python"))
import records  # noqa: E402

PRODUCER, CONSUMER = 0, 1
V_END, V_TOPIC, V_PARTITION, V_VALUE, V_KEY, V_MSGFLAGS, V_TIMESTAMP, V_HEADER = 0, 1, 3, 4, 5, 7, 8, 9
F_COPY = 2


class Message(C.Structure):
    _fields_ = [("err", C.c_int), ("rkt", C.c_void_p), ("partition", C.c_int32), ("payload", C.c_void_p), ("len", C.c_size_t),
                ("key", C.c_void_p), ("key_len", C.c_size_t), ("offset", C.c_int64), ("private", C.c_void_p)]


DR = C.CFUNCTYPE(None, C.c_void_p, C.POINTER(Message), C.c_void_p)


def load(path):
    folder = os.path.dirname(path)
    for name in sorted(os.listdir(folder)):  # the wheel's own copies of OpenSSL, zlib, zstd: whichever load, in any order
        if not name.startswith("librdkafka"):
            try:
                C.CDLL(os.path.join(folder, name), mode=C.RTLD_GLOBAL)
            except OSError:
                pass
    lib = C.CDLL(path)
    for name, result, *args in [
        ("rd_kafka_conf_new", C.c_void_p), ("rd_kafka_conf_set", C.c_int, C.c_void_p, C.c_char_p, C.c_char_p, C.c_char_p, C.c_size_t),
        ("rd_kafka_conf_set_dr_msg_cb", None, C.c_void_p, DR), ("rd_kafka_new", C.c_void_p, C.c_int, C.c_void_p, C.c_char_p, C.c_size_t),
        ("rd_kafka_flush", C.c_int, C.c_void_p, C.c_int), ("rd_kafka_poll", C.c_int, C.c_void_p, C.c_int),
        ("rd_kafka_poll_set_consumer", C.c_int, C.c_void_p), ("rd_kafka_topic_partition_list_new", C.c_void_p, C.c_int),
        ("rd_kafka_topic_partition_list_add", C.c_void_p, C.c_void_p, C.c_char_p, C.c_int32),
        ("rd_kafka_subscribe", C.c_int, C.c_void_p, C.c_void_p), ("rd_kafka_consumer_poll", C.POINTER(Message), C.c_void_p, C.c_int),
        ("rd_kafka_message_timestamp", C.c_int64, C.POINTER(Message), C.POINTER(C.c_int)),
        ("rd_kafka_message_headers", C.c_int, C.POINTER(Message), C.POINTER(C.c_void_p)),
        ("rd_kafka_header_get_all", C.c_int, C.c_void_p, C.c_size_t, C.POINTER(C.c_char_p), C.POINTER(C.c_void_p), C.POINTER(C.c_size_t)),
        ("rd_kafka_message_destroy", None, C.POINTER(Message)), ("rd_kafka_consumer_close", C.c_int, C.c_void_p),
        ("rd_kafka_destroy", None, C.c_void_p), ("rd_kafka_err2str", C.c_char_p, C.c_int), ("rd_kafka_version_str", C.c_char_p),
    ]:
        f = getattr(lib, name)
        f.restype, f.argtypes = result, args
    lib.rd_kafka_producev.restype = C.c_int
    return lib


def conf(lib, settings):
    c, err = lib.rd_kafka_conf_new(), C.create_string_buffer(512)
    for k, v in settings.items():
        if lib.rd_kafka_conf_set(c, k.encode(), str(v).encode(), err, 512) != 0:
            sys.exit("conf %s: %s" % (k, err.value.decode()))
    return c


def start(lib, kind, c):
    err = C.create_string_buffer(512)
    rk = lib.rd_kafka_new(kind, c, err, 512)
    if not rk:
        sys.exit("rd_kafka_new: " + err.value.decode())
    return rk


def produce(lib, bootstrap, topic, codecs, path):
    for codec in codecs.split(","):
        produce_with(lib, bootstrap, topic, codec, path)


def produce_with(lib, bootstrap, topic, codec, path):
    failed, done = [], []

    @DR
    def delivered(_rk, message, _opaque):
        (failed if message.contents.err else done).append(message.contents.err)

    c = conf(lib, {"bootstrap.servers": bootstrap, "enable.idempotence": "true", "compression.codec": codec, "linger.ms": 20,
                   "message.max.bytes": 4 * 1024 * 1024})
    lib.rd_kafka_conf_set_dr_msg_cb(c, delivered)
    rk = start(lib, PRODUCER, c)
    count = 0
    for partition, timestamp, key, value, headers in records.read(path):
        args = [C.c_int(V_TOPIC), C.c_char_p(topic.encode()), C.c_int(V_PARTITION), C.c_int32(partition), C.c_int(V_MSGFLAGS), C.c_int(F_COPY),
                C.c_int(V_TIMESTAMP), C.c_int64(timestamp),
                C.c_int(V_VALUE), C.c_char_p(value), C.c_size_t(len(value or b"")), C.c_int(V_KEY), C.c_char_p(key), C.c_size_t(len(key or b""))]
        for name, v in headers:
            args += [C.c_int(V_HEADER), C.c_char_p(name.encode()), C.c_char_p(v), C.c_ssize_t(len(v or b""))]
        e = lib.rd_kafka_producev(C.c_void_p(rk), *args, C.c_int(V_END))
        if e:
            sys.exit("producev: " + lib.rd_kafka_err2str(e).decode())
        count += 1
    lib.rd_kafka_flush(rk, 60000)
    if failed or len(done) != count:
        sys.exit("%d of %d delivered, errors %s" % (len(done), count, {lib.rd_kafka_err2str(e).decode() for e in failed}))
    lib.rd_kafka_destroy(rk)


def consume(lib, bootstrap, topic, count):
    rk = start(lib, CONSUMER, conf(lib, {"bootstrap.servers": bootstrap, "group.id": "g-%s%s" % (topic, time.time()),
                                         "auto.offset.reset": "earliest", "fetch.message.max.bytes": 4 * 1024 * 1024}))
    lib.rd_kafka_poll_set_consumer(rk)
    topics = lib.rd_kafka_topic_partition_list_new(1)
    lib.rd_kafka_topic_partition_list_add(topics, topic.encode(), -1)
    lib.rd_kafka_subscribe(rk, topics)
    seen, deadline = 0, time.time() + 60
    while seen < int(count) and time.time() < deadline:
        m = lib.rd_kafka_consumer_poll(rk, 200)
        if not m:
            continue
        if m.contents.err:
            print("error: " + lib.rd_kafka_err2str(m.contents.err).decode(), file=sys.stderr)
            lib.rd_kafka_message_destroy(m)
            continue
        kind, hdrs, headers = C.c_int(), C.c_void_p(), []
        timestamp = lib.rd_kafka_message_timestamp(m, C.byref(kind))
        if lib.rd_kafka_message_headers(m, C.byref(hdrs)) == 0:
            name, data, size = C.c_char_p(), C.c_void_p(), C.c_size_t()
            while lib.rd_kafka_header_get_all(hdrs, len(headers), C.byref(name), C.byref(data), C.byref(size)) == 0:
                headers.append((name.value.decode(), C.string_at(data, size.value) if data.value else None))
        r = m.contents
        records.emit(r.partition, r.offset, timestamp, C.string_at(r.key, r.key_len) if r.key else None,
                     C.string_at(r.payload, r.len) if r.payload else None, headers)
        lib.rd_kafka_message_destroy(m)
        seen += 1
    lib.rd_kafka_consumer_close(rk)
    lib.rd_kafka_destroy(rk)


if __name__ == "__main__":
    library = load(os.path.realpath(sys.argv[1]))
    if sys.argv[2] == "version":
        print(library.rd_kafka_version_str().decode())
    else:
        {"produce": produce, "consume": consume}[sys.argv[2]](library, *sys.argv[3:])
