// A server on a real socket that does what a test says: it answers heartbeats and leaves, and keeps joins for the test to
// answer.
import { WebSocketServer } from 'ws'
import { ENCODINGS, active, change } from './frames.mjs'

const PATIENCE_MS = 30000

/// A queue that a test awaits.
class Queue {
  #items = []
  #waiting = []

  put(item) {
    const waiting = this.#waiting.shift()
    if (waiting) waiting(item)
    else this.#items.push(item)
  }

  next(what) {
    if (this.#items.length > 0) return Promise.resolve(this.#items.shift())
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${what} did not come`)), PATIENCE_MS)
      this.#waiting.push((item) => {
        clearTimeout(timer)
        resolve(item)
      })
    })
  }

  get length() {
    return this.#items.length
  }
}

export { Queue }

/// A join, and what the test answers to it.
class Join {
  constructor(socket, encoding, { ref, topic, payload }) {
    Object.assign(this, { socket, encoding, ref, topic, payload })
    this.resume = payload.config.postgres_changes_options?.resume
  }

  push(event, payload, { joinRef = null, ref = null } = {}) {
    this.socket.send(this.encoding.answer(joinRef, ref, this.topic, event, payload))
  }

  accept() {
    const bindings = this.payload.config.postgres_changes
    const response = { postgres_changes: bindings.map((binding, index) => ({ id: index + 1, ...binding })) }
    this.push('phx_reply', { status: 'ok', response }, { joinRef: this.ref, ref: this.ref })
  }

  /// The subscription has begun: at a cursor, resumed or not.
  begin(more) {
    this.push('system', active(more), { joinRef: this.ref })
  }

  change(id, cursor) {
    this.push('postgres_changes', change(id, cursor))
  }
}

export async function listen() {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0 })
  await new Promise((listening) => server.once('listening', listening))
  const [joins, leaves, texts] = [new Queue(), new Queue(), new Queue()]
  server.on('connection', (socket, request) => {
    const encoding = ENCODINGS[new URLSearchParams(request.url.split('?')[1]).get('vsn') ?? '1.0.0']
    const answer = ({ joinRef, ref, topic }) => {
      socket.send(encoding.answer(joinRef, ref, topic, 'phx_reply', { status: 'ok', response: {} }))
    }
    socket.on('message', (data, isBinary) => {
      texts.put(isBinary ? data : data.toString())
      if (isBinary || !/^[[{]/.test(data.toString())) return
      const frame = encoding.decode(data.toString())
      if (frame.event === 'phx_join') joins.put(new Join(socket, encoding, frame))
      else if (frame.event === 'phx_leave') {
        leaves.put(frame)
        answer(frame)
      } else answer(frame)
    })
  })
  const { port } = server.address()
  return {
    url: `http://127.0.0.1:${port}`,
    socketUrl: `ws://127.0.0.1:${port}`,
    texts,
    leaves,
    join: () => joins.next('a join'),
    leave: () => leaves.next('a leave'),
    sockets: server.clients,
    cut: () => server.clients.forEach((socket) => socket.terminate()),
    close: () => {
      server.clients.forEach((socket) => socket.terminate())
      server.close()
    },
  }
}
