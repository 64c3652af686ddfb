// The record shape shared by all client drivers: see clients/python/records.py.
const fs = require('fs')
const { createHash } = require('crypto')

const raw = (text) => {
  if (text === null) return null
  if (text.startsWith('repeat:')) {
    const [, byte, count] = text.split(':')
    return Buffer.alloc(Number(count), Buffer.from(byte, 'hex'))
  }
  return Buffer.from(text, 'hex')
}
const shown = (data) => {
  if (data === null || data === undefined) return null
  data = Buffer.from(data)
  return data.length <= 64 ? data.toString('hex') : `sha256:${createHash('sha256').update(data).digest('hex')}:${data.length}`
}
exports.read = (path) => fs.readFileSync(path, 'utf8').split('\n').filter(Boolean).map((line) => {
  const r = JSON.parse(line)
  return { ...r, key: raw(r.key), value: raw(r.value), headers: r.headers.map(([n, v]) => [n, raw(v)]) }
})
exports.emit = (partition, offset, timestamp, key, value, headers) =>
  console.log(JSON.stringify({ partition, offset: Number(offset), timestamp: Number(timestamp), key: shown(key), value: shown(value), headers: headers.map(([n, v]) => [n, shown(v)]) }))
