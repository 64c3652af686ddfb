// Driver for @platformatic/kafka: `produce BOOTSTRAP TOPIC CODEC,... FILE` and `consume BOOTSTRAP TOPIC COUNT`.
import records from './records.js'

// Node 20 lacks it
Promise.withResolvers ??= function () {
  let resolve, reject
  const promise = new Promise((a, b) => { resolve = a; reject = b })
  return { promise, resolve, reject }
}
const { Consumer, Producer, ProduceAcks } = await import('@platformatic/kafka')

const [command, bootstrap, topic, ...rest] = process.argv.slice(2)

async function produce (codecs, path) {
  for (const codec of codecs.split(',')) await produceWith(codec, path)
}

async function produceWith (codec, path) {
  const producer = new Producer({ clientId: 'driver', bootstrapBrokers: [bootstrap], compression: codec, acks: ProduceAcks.ALL })
  const messages = records.read(path).map((r) => ({
    topic, partition: r.partition, timestamp: BigInt(r.timestamp), key: r.key ?? undefined, value: r.value ?? undefined,
    headers: new Map(r.headers.map(([n, v]) => [Buffer.from(n), v]))
  }))
  for (let i = 0; i < messages.length; i += 10) await producer.send({ messages: messages.slice(i, i + 10) })
  await producer.close()
}

async function consume (count) {
  const consumer = new Consumer({ clientId: 'driver', groupId: `g-${topic}${Date.now()}`, bootstrapBrokers: [bootstrap], maxBytes: 4194304 })
  const stream = await consumer.consume({ topics: [topic], mode: 'earliest', autocommit: true })
  let seen = 0
  const timer = setTimeout(() => process.exit(0), 60000)
  for await (const m of stream) {
    records.emit(m.partition, m.offset, m.timestamp, m.key, m.value, [...(m.headers || [])].map(([n, v]) => [n.toString(), v]))
    if (++seen === Number(count)) break
  }
  clearTimeout(timer)
  await consumer.close(true)
}

await ({ produce, consume })[command](...rest)
process.exit(0)
