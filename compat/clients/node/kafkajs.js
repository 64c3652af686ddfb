// Driver for kafkajs: `produce BOOTSTRAP TOPIC CODEC,... FILE` and `consume BOOTSTRAP TOPIC COUNT`.
const records = require('./records')
const { Kafka, CompressionTypes, logLevel } = require('kafkajs')

const [command, bootstrap, topic, ...rest] = process.argv.slice(2)
const kafka = new Kafka({ clientId: 'driver', brokers: [bootstrap], logLevel: logLevel.ERROR })

const grouped = (headers) => {
  const out = {}
  for (const [n, v] of headers) out[n] = n in out ? [].concat(out[n], [v]) : v
  return out
}

async function produce (codecs, path) {
  for (const codec of codecs.split(',')) await produceWith(codec, path)
}

async function produceWith (codec, path) {
  const producer = kafka.producer()
  await producer.connect()
  const messages = records.read(path).map((r) => ({ partition: r.partition, timestamp: String(r.timestamp), key: r.key, value: r.value, headers: grouped(r.headers) }))
  for (let i = 0; i < messages.length; i += 10) {
    await producer.send({ topic, acks: -1, compression: { none: CompressionTypes.None, gzip: CompressionTypes.GZIP }[codec], messages: messages.slice(i, i + 10) })
  }
  await producer.disconnect()
}

async function consume (count) {
  const consumer = kafka.consumer({ groupId: `g-${topic}${Date.now()}`, maxBytesPerPartition: 4194304 })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
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
