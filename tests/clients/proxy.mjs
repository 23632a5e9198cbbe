// A WebSocket between a client and the server, which closes as it is told to: with a code, or (1006) without a word; or
// lets nobody through until it is told.
import { WebSocket, WebSocketServer } from 'ws'

export async function proxy(target) {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0 })
  await new Promise((listening) => server.once('listening', listening))
  let isShut = false
  server.on('connection', (down, request) => {
    if (isShut) return down.terminate()
    const up = new WebSocket(target.replace('http', 'ws') + request.url)
    const early = []
    const pass = (to) => (data, isBinary) => to.send(data, { binary: isBinary })
    down.on('message', (data, isBinary) => {
      if (up.readyState === WebSocket.OPEN) pass(up)(data, isBinary)
      else early.push([data, isBinary])
    })
    up.on('open', () => early.splice(0).forEach((message) => pass(up)(...message)))
    up.on('message', pass(down))
    for (const [one, other] of [[up, down], [down, up]]) {
      one.on('close', () => other.close())
      one.on('error', () => other.terminate())
    }
  })
  const close = (code) => {
    for (const down of server.clients) {
      if (code === 1006) down.terminate()
      else down.close(code)
    }
  }
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    close,
    shut() {
      isShut = true
      close(1006)
    },
    open() {
      isShut = false
    },
  }
}
