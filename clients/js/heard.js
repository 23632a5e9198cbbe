// Broadcasts that were heard already. A join with `config.broadcast.replay` is sent again unchanged when the client comes
// back, so the server replays the newest messages since then, the same `limit` of them: whatever was heard is among the
// ones that are left out here, and the rest is what was missed. That takes no clock, which server and client would not
// share.

// More than a replay may have (25), since messages are heard in the order of their commits and replayed in that of their
// times.
const REMEMBERED = 256

export class Heard {
  #ids = new Set()

  has(id) {
    return this.#ids.has(id)
  }

  add(id) {
    this.#ids.delete(id)
    this.#ids.add(id)
    if (this.#ids.size > REMEMBERED) this.#ids.delete(this.#ids.values().next().value)
  }
}
