import sys

from kafka import KafkaConsumer

consumer = KafkaConsumer(
    'test',
    bootstrap_servers=[sys.argv[1]],
    api_version=(2, 13),
    group_id=sys.argv[2] if len(sys.argv) > 2 else 'test',
    auto_offset_reset='earliest',
)

for msg in consumer:
    print(msg.value, flush=True)
