import json
import sys
import time

from kafka import KafkaProducer

producer = KafkaProducer(
    value_serializer=lambda msg: json.dumps(msg).encode(),
    bootstrap_servers=[sys.argv[1]],
    api_version=(2, 13),
)

for i in range(100):
    producer.send('test', {'num': i, 'time': time.strftime('%Y-%m-%d %H:%M:%S')})
    if '--no-pause' not in sys.argv:
        time.sleep(1)

producer.close()
