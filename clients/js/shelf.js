// Cursors across page loads: a Storage (or anything with getItem and setItem, promises allowed) that is read once and
// written now and then. What is written is never newer than what the application was given, so a page that dies between
// two writes hears some events again and misses none.

const FORMAT = 1
// Of topics that nobody left, the newest.
const KEPT = 256
// How long the storage may take to answer: less than a client waits for the reply to its join.
const PATIENCE_MS = 3000

export class Shelf {
  #storage
  #key
  #everyMs
  #entries = () => []
  #timer
  /// A promise while the storage has not answered yet.
  loading

  constructor({ storage, key = 'walcast-resume', everyMs = 1000 }) {
    this.#storage = storage
    this.#key = key
    this.#everyMs = everyMs
  }

  /// Hands what was saved to `take`, now or when the storage answers; from then on `entries` is what is saved.
  open(entries, take) {
    if (this.#storage === undefined) return
    this.#entries = entries
    const given = (text) => parse(text).forEach(take)
    let answer
    try {
      answer = this.#storage.getItem(this.#key)
    } catch {
      return
    }
    if (typeof answer?.then === 'function') {
      this.loading = this.#answered(answer, given)
    } else {
      given(answer)
    }
    this.#saveBeforeThePageGoes()
  }

  /// Settles with the storage's answer, or without one: what comes too late is left alone, as clients have begun by then.
  #answered(answer, given) {
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer)
        this.loading = undefined
        resolve()
      }
      const timer = setTimeout(end, PATIENCE_MS)
      Promise.resolve(answer).then((text) => this.loading && given(text)).then(end, end)
    })
  }

  /// Something has changed: it will be saved.
  changed() {
    if (this.#storage === undefined || this.#timer !== undefined) return
    this.#timer = setTimeout(() => this.#save(), this.#everyMs)
    this.#timer.unref?.()
  }

  #save() {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const text = JSON.stringify({ format: FORMAT, entries: this.#entries().slice(-KEPT) })
    // A storage that is full or forbidden keeps what it had: older cursors, which are no lie.
    try {
      this.#storage.setItem(this.#key, text)?.then?.(undefined, () => undefined)
    } catch {
      return
    }
  }

  #saveBeforeThePageGoes() {
    const pending = () => this.#timer !== undefined && this.#save()
    globalThis.addEventListener?.('pagehide', pending)
    globalThis.document?.addEventListener?.('visibilitychange', pending)
  }
}

function parse(text) {
  try {
    const { format, entries } = JSON.parse(text)
    return format === FORMAT && Array.isArray(entries) ? entries.filter(isEntry) : []
  } catch {
    return []
  }
}

const isEntry = (entry) => Array.isArray(entry) && entry.length === 3 && entry.every((part) => typeof part === 'string')
