// The class itself: but for joins and cursors it is the class it extends, whichever that is.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { after, before, describe, test } from 'node:test'
import { WebSocket as Ws } from 'ws'
import { resumable } from '../../../clients/js/index.js'
import { ENCODINGS, NOTES, change } from './frames.mjs'
import { listen } from './server.mjs'

const { encode, answer } = ENCODINGS['2.0.0']
const ROOM = 'realtime:room'
const join = (ref) => encode(ref, ref, ROOM, 'phx_join', { config: { postgres_changes: [NOTES] } })
const resumeOf = (text) => JSON.parse(text)[4].config.postgres_changes_options.resume
const opened = (socket) => new Promise((resolve) => socket.addEventListener('open', resolve, { once: true }))

for (const [name, transport] of [['ws', Ws], ['the WebSocket of Node', globalThis.WebSocket]]) {
  describe(name, () => {
    let server
    before(async () => (server = await listen()))
    after(() => server.close())

    test('constants, states, addresses and instances are those of the class', async () => {
      const Resumable = resumable({ transport })
      assert.equal(Resumable.OPEN, 1)
      const socket = new Resumable(`${server.socketUrl}/socket/websocket?vsn=2.0.0`)
      assert.ok(socket instanceof transport)
      assert.deepEqual([socket.CONNECTING, socket.OPEN, socket.CLOSING, socket.CLOSED], [0, 1, 2, 3])
      assert.equal(socket.readyState, 0)
      assert.equal(socket.url, `${server.socketUrl}/socket/websocket?vsn=2.0.0`)
      assert.throws(() => socket.send(join('1')))
      socket.binaryType = 'arraybuffer'
      assert.equal(socket.binaryType, 'arraybuffer')
      await opened(socket)
      assert.equal(socket.readyState, 1)
      socket.close()
      assert.equal(socket.readyState, 2)
    })

    test('listeners of messages are the ones that were given', async () => {
      const socket = new (resumable({ transport }))(`${server.socketUrl}/?vsn=2.0.0`)
      await opened(socket)
      const heard = []
      const listener = ({ data, target }) => heard.push(['listener', typeof data, target === socket])
      const object = { handleEvent: () => heard.push(['object']) }
      assert.equal(socket.onmessage, null)
      const handler = () => heard.push(['handler'])
      socket.onmessage = () => assert.fail('it was replaced')
      socket.onmessage = handler
      assert.equal(socket.onmessage, handler)
      socket.addEventListener('message', listener)
      socket.addEventListener('message', listener)
      socket.addEventListener('message', object)
      socket.addEventListener('message', () => heard.push(['once']), { once: true })
      const message = () => new Promise((resolve) => socket.addEventListener('message', resolve, { once: true }))
      let next = message()
      socket.send(encode(null, '1', 'phoenix', 'heartbeat', {}))
      await next
      assert.deepEqual(heard.splice(0), [['handler'], ['listener', 'string', true], ['object'], ['once']])
      socket.removeEventListener('message', listener)
      socket.removeEventListener('message', object)
      socket.onmessage = null
      assert.equal(socket.onmessage, null)
      next = message()
      socket.send(encode(null, '2', 'phoenix', 'heartbeat', {}))
      await next
      assert.deepEqual(heard, [])
      socket.close()
    })

    test('several listeners get the same messages', async () => {
      const socket = new (resumable({ transport }))(`${server.socketUrl}/?vsn=2.0.0`)
      await opened(socket)
      const heard = []
      for (const name of ['a', 'b']) socket.addEventListener('message', ({ data }) => heard.push([name, JSON.parse(data)[3]]))
      socket.send(encode('1', '1', ROOM, 'phx_join', { config: { private: true, broadcast: { replay: { since: 1 } } } }))
      const { socket: far } = await server.join()
      far.send(answer('1', null, ROOM, 'broadcast', { type: 'broadcast', event: 'e', meta: { id: 'i', replayed: true } }))
      far.send(answer('1', '1', ROOM, 'phx_reply', { status: 'ok', response: {} }))
      await new Promise((resolve) => socket.addEventListener('message', ({ data }) => data.includes('phx_reply') && resolve()))
      assert.deepEqual(heard, ['broadcast', 'phx_reply'].flatMap((event) => [['a', event], ['b', event]]))
      socket.close()
    })

    test('whatever is sent while the storage answers comes in its order, joins with their cursors', async () => {
      let found
      const storage = { getItem: () => new Promise((resolve) => (found = resolve)), setItem: () => {} }
      const Resumable = resumable({ transport, storage })
      const address = `${server.socketUrl}/?vsn=2.0.0`
      const socket = new Resumable(address)
      await opened(socket)
      socket.send('one')
      socket.send(join('1'))
      socket.send(new Uint8Array([3, 0]))
      const signature = JSON.stringify([[NOTES], []])
      found(JSON.stringify({ format: 1, entries: [[`${server.socketUrl}/ ${ROOM}`, signature, 'saved']] }))
      socket.send('two')
      const next = () => server.texts.next('a frame')
      while ((await next()) !== 'one');
      assert.equal(resumeOf(await next()), 'saved')
      assert.deepEqual([...(await next())], [3, 0])
      assert.equal(await next(), 'two')
      socket.send('three')
      assert.equal(await next(), 'three')
      socket.close()
    })

    test('a storage that never answers holds nothing for long, and an answer that comes too late changes nothing', async (t) => {
      t.mock.timers.enable({ apis: ['setTimeout'] })
      let found
      const storage = { getItem: () => new Promise((resolve) => (found = resolve)), setItem: () => {} }
      const socket = new (resumable({ transport, storage }))(`${server.socketUrl}/?vsn=2.0.0`)
      await opened(socket)
      socket.send('late')
      socket.send(join('1'))
      t.mock.timers.tick(3000)
      const next = () => server.texts.next('a frame')
      while ((await next()) !== 'late');
      assert.equal(resumeOf(await next()), true)
      socket.send(encode('1', '2', ROOM, 'phx_leave', {}))
      await next()
      const signature = JSON.stringify([[NOTES], []])
      found(JSON.stringify({ format: 1, entries: [[`${server.socketUrl}/ ${ROOM}`, signature, 'saved']] }))
      await new Promise((resolve) => setImmediate(resolve))
      socket.send(join('3'))
      assert.equal(resumeOf(await next()), true)
      socket.close()
    })
  })
}

/// As many a test double of an application is made.
class Double {
  readyState = 1
  onmessage = null
  sent = []

  constructor(url) {
    this.url = url
    this.onmessage = null
  }

  send(data) {
    this.sent.push(data)
  }

  deliver(data) {
    this.onmessage?.({ data })
  }
}

/// And one whose constructor already uses what the transport replaces.
class Early extends EventTarget {
  sent = []

  constructor() {
    super()
    this.onmessage = () => {}
    this.addEventListener('message', (event) => this.onmessage?.(event))
  }

  send(data) {
    this.sent.push(data)
  }

  deliver(data) {
    this.dispatchEvent(Object.assign(new Event('message'), { data }))
  }
}

for (const transport of [Double, Early]) {
  test(`a class whose onmessage is a property will do: ${transport.name}`, () => {
    const Resumable = resumable({ transport })
    const socket = new Resumable('ws://127.0.0.1/')
    const ids = []
    for (const round of [1, 2]) {
      const hear = (event) => ids.push(`${round}: ${JSON.parse(event.data)[4].data?.record.id}`)
      socket.onmessage = hear
      socket.send(join(`${round}`))
      socket.deliver(answer(null, null, ROOM, 'postgres_changes', change(0, 'stale')))
      socket.deliver(answer(`${round}`, `${round}`, ROOM, 'phx_reply', { status: 'ok', response: {} }))
      socket.deliver(answer(null, null, ROOM, 'postgres_changes', change(round, `c${round}`)))
    }
    assert.deepEqual(socket.sent.map(resumeOf), [true, 'c1'])
    assert.deepEqual(ids, ['1: undefined', '1: 1', '2: undefined', '2: 2'])
  })
}

test('a handler that throws was given its event, and its error is its own', () => {
  const socket = new (resumable({ transport: Double }))('ws://127.0.0.1/')
  socket.onmessage = () => {}
  socket.send(join('1'))
  socket.deliver(answer('1', '1', ROOM, 'phx_reply', { status: 'ok', response: {} }))
  socket.onmessage = () => {
    throw new Error('of the application')
  }
  assert.throws(() => socket.deliver(answer(null, null, ROOM, 'postgres_changes', change(1, 'c1'))), /of the application/)
  socket.send(join('2'))
  assert.equal(resumeOf(socket.sent[1]), 'c1')
})

test('each call has a memory of its own', () => {
  const sockets = [0, 1].map(() => new (resumable({ transport: Double }))('ws://127.0.0.1/'))
  sockets[0].onmessage = () => {}
  sockets[0].send(join('1'))
  sockets[0].deliver(answer('1', '1', ROOM, 'phx_reply', { status: 'ok', response: {} }))
  sockets[0].deliver(answer(null, null, ROOM, 'postgres_changes', change(1, 'c1')))
  for (const socket of sockets) socket.send(join('2'))
  assert.deepEqual(sockets.map(({ sent }) => resumeOf(sent.at(-1))), ['c1', true])
})

test('without any WebSocket the error names the option', () => {
  assert.throws(() => resumable({ transport: null }), /resumable\({ transport: WebSocket }\)/)
})

test('require() finds the same function', () => {
  const required = createRequire(import.meta.url)('../../../clients/js/index.js')
  assert.equal(required.resumable, resumable)
})
