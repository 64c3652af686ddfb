"""Driver for kafka-python: `produce BOOTSTRAP TOPIC CODEC,... FILE` and `consume BOOTSTRAP TOPIC COUNT`."""
import sys
import time

import records
from kafka import KafkaConsumer, KafkaProducer

MB = 4 * 1024 * 1024


def produce(bootstrap, topic, codecs, path):
    for codec in codecs.split(","):
        produce_with(bootstrap, topic, codec, path)


def produce_with(bootstrap, topic, codec, path):
    producer = KafkaProducer(bootstrap_servers=[bootstrap], acks="all", compression_type=None if codec == "none" else codec,
                             max_request_size=MB, linger_ms=20)
    sent = [producer.send(topic, partition=p, timestamp_ms=ts, key=k, value=v, headers=h or None)
            for p, ts, k, v, h in records.read(path)]
    producer.flush()
    for future in sent:
        future.get(timeout=30)
    producer.close()


def consume(bootstrap, topic, count):
    consumer = KafkaConsumer(topic, bootstrap_servers=[bootstrap], auto_offset_reset="earliest", group_id="g-" + topic + str(time.time()),
                             max_partition_fetch_bytes=MB, enable_auto_commit=True)
    seen, deadline = 0, time.time() + 60
    while seen < int(count) and time.time() < deadline:
        for _, batch in consumer.poll(timeout_ms=500).items():
            for r in batch:
                records.emit(r.partition, r.offset, r.timestamp, r.key, r.value, r.headers or [])
                seen += 1
    consumer.close()


if __name__ == "__main__":
    {"produce": produce, "consume": consume}[sys.argv[1]](*sys.argv[2:])
