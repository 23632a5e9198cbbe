// A WebSocket class for supabase-js' `realtime.transport` option: it puts the remembered cursor into every join of row
// changes and takes the newest one from what arrives. In everything else it is the class it extends.

import { Memory } from './memory.js'
import { Shelf } from './shelf.js'

const NO_TRANSPORT = 'there is no WebSocket here: give resumable({ transport: WebSocket }) one, such as that of the package "ws"'
const OPEN = 1

/// A transport with a memory of its own; index.d.ts describes the options.
export function resumable({ transport = globalThis.WebSocket, onGap, storage, storageKey, saveEveryMs } = {}) {
  if (typeof transport !== 'function') throw new TypeError(NO_TRANSPORT)
  const shelf = new Shelf({ storage, key: storageKey, everyMs: saveEveryMs })
  const memory = new Memory({ onGap, shelf })
  const hasAccessor = accessorOf(transport.prototype, 'onmessage')
  // Beside the sockets and not in them: a class may use its own setters before its constructor has come to an end.
  const states = new WeakMap()
  const stateOf = (socket) => {
    if (!states.has(socket)) states.set(socket, { connection: {}, held: [], wrappers: new WeakMap(), last: undefined })
    return states.get(socket)
  }
  const wrap = (socket, listener) => wrapperOf(stateOf(socket), listener, memory)

  return class ResumableWebSocket extends transport {
    constructor(address, ...rest) {
      super(address, ...rest)
      stateOf(this).connection.endpoint = String(address).split('?')[0]
      if (!hasAccessor) watchProperty(this, (listener) => wrap(this, listener))
    }

    send(data, ...rest) {
      const state = stateOf(this)
      const { connection, held } = state
      state.last = undefined
      if (shelf.loading === undefined && held.length === 0) {
        super.send(memory.outgoing(connection, data), ...rest)
        return
      }
      // What was saved is still on its way: a join waits for its cursor, and everything else behind the join.
      if (held.push([data, ...rest]) > 1) return
      shelf.loading.then(() => {
        for (const [late, ...others] of held.splice(0)) {
          if (this.readyState === OPEN) super.send(memory.outgoing(connection, late), ...others)
        }
      })
    }

    get onmessage() {
      const listener = super.onmessage
      return originals.get(listener) ?? listener
    }

    set onmessage(listener) {
      super.onmessage = wrap(this, listener)
    }

    addEventListener(type, listener, ...rest) {
      super.addEventListener(type, type === 'message' ? wrap(this, listener) : listener, ...rest)
    }

    removeEventListener(type, listener, ...rest) {
      super.removeEventListener(type, type === 'message' ? wrap(this, listener) : listener, ...rest)
    }
  }
}

/// What was wrapped, by its wrapper.
const originals = new WeakMap()

/// The function that stands for a listener: it leaves out what must not be handed on, and lets the memory know when the
/// listener was called. One that throws was called, too.
function wrapperOf(state, listener, memory) {
  const { connection, wrappers } = state
  // `ws` hands what is set as `onmessage` to its own addEventListener.
  const isListener = typeof listener === 'function' || (typeof listener === 'object' && listener !== null)
  if (!isListener || originals.has(listener)) return listener
  if (wrappers.has(listener)) return wrappers.get(listener)
  const wrapper = function (event) {
    const { data } = event
    // Several listeners get one answer about a message; `ws` gives each of them an event of its own.
    if (state.last?.data !== data) state.last = { data, verdict: memory.incoming(connection, data) }
    const { isPassed, given } = state.last.verdict
    if (!isPassed) return undefined
    try {
      return typeof listener === 'function' ? listener.call(this, event) : listener.handleEvent(event)
    } finally {
      given?.()
    }
  }
  wrappers.set(listener, wrapper)
  originals.set(wrapper, listener)
  return wrapper
}

/// For classes whose `onmessage` is a mere property, which would hide the accessors above.
function watchProperty(socket, wrap) {
  let current = wrap(Object.getOwnPropertyDescriptor(socket, 'onmessage')?.value ?? null)
  Object.defineProperty(socket, 'onmessage', {
    configurable: true,
    enumerable: true,
    get: () => current,
    set: (listener) => (current = wrap(listener)),
  })
}

function accessorOf(prototype, name) {
  for (let object = prototype; object; object = Object.getPrototypeOf(object)) {
    const descriptor = Object.getOwnPropertyDescriptor(object, name)
    if (descriptor) return descriptor.set !== undefined
  }
  return false
}
