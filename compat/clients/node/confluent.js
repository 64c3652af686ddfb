// Driver for @confluentinc/kafka-javascript: `produce BOOTSTRAP TOPIC CODEC,... FILE` and `consume BOOTSTRAP TOPIC COUNT`.
const records = require('./records')
const { Kafka, CompressionTypes, logLevel } = require('@confluentinc/kafka-javascript').KafkaJS

const [command, bootstrap, topic, ...rest] = process.argv.slice(2)
const kafka = new Kafka({ kafkaJS: { clientId: 'driver', brokers: [bootstrap], logLevel: logLevel.NOTHING } })
const codecs = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.SNAPPY, lz4: CompressionTypes.LZ4, zstd: CompressionTypes.ZSTD }

const grouped = (headers) => {
  const out = {}
  for (const [n, v] of headers) out[n] = n in out ? [].concat(out[n], [v]) : v
  return out
}

async function produce (codecs, path) {
  for (const codec of codecs.split(',')) await produceWith(codec, path)
}

async function produceWith (codec, path) {
  const producer = kafka.producer({ 'message.max.bytes': 4000000, kafkaJS: { acks: -1, compression: codecs[codec] } })
  await producer.connect()
  const messages = records.read(path).map((r) => ({ partition: r.partition, timestamp: String(r.timestamp), key: r.key, value: r.value, headers: grouped(r.headers) }))
  await producer.send({ topic, messages })
  await producer.disconnect()
}

async function consume (count) {
  const consumer = kafka.consumer({ kafkaJS: { groupId: `g-${topic}${Date.now()}`, fromBeginning: true } })
  await consumer.connect()
  await consumer.subscribe({ topic })
  let seen = 0
  await new Promise((resolve, reject) => {
    setTimeout(resolve, 60000).unref()
    consumer.run({
      eachMessage: async ({ partition, message: m }) => {
        const headers = Object.entries(m.headers || {}).flatMap(([n, v]) => [].concat(v).map((x) => [n, x]))
        records.emit(partition, m.offset, m.timestamp, m.key, m.value, headers)
        if (++seen === Number(count)) resolve()
      }
    }).catch(reject)
  })
  await consumer.disconnect()
}

({ produce, consume })[command](...rest).catch((e) => { console.error(e); process.exit(1) })
