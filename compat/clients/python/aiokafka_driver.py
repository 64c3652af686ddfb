"""Driver for aiokafka: `produce BOOTSTRAP TOPIC CODEC,... FILE` and `consume BOOTSTRAP TOPIC COUNT`."""
import asyncio
import sys
import time

import records
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

MB = 4 * 1024 * 1024


async def produce(bootstrap, topic, codecs, path):
    for codec in codecs.split(","):
        await produce_with(bootstrap, topic, codec, path)


async def produce_with(bootstrap, topic, codec, path):
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, compression_type=None if codec == "none" else codec,
                                max_request_size=MB)
    await producer.start()
    sent = [await producer.send(topic, partition=p, timestamp_ms=ts, key=k, value=v, headers=h)
            for p, ts, k, v, h in records.read(path)]
    await asyncio.gather(*sent)
    await producer.stop()


async def consume(bootstrap, topic, count):
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", group_id="g-" + topic + str(time.time()),
                                max_partition_fetch_bytes=MB)
    await consumer.start()
    seen, deadline = 0, time.time() + 60
    while seen < int(count) and time.time() < deadline:
        for _, batch in (await consumer.getmany(timeout_ms=500)).items():
            for r in batch:
                records.emit(r.partition, r.offset, r.timestamp, r.key, r.value, r.headers or [])
                seen += 1
    await consumer.stop()


if __name__ == "__main__":
    asyncio.run({"produce": produce, "consume": consume}[sys.argv[1]](*sys.argv[2:]))
