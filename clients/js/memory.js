// What is remembered of every topic, and what follows from it for the frames that pass. No sockets here: a connection is
// an object `{ endpoint }` that tells one from another.
//
// A topic's cursor belongs to its bindings and to the options that change what they hear. It moves when the application
// has been given an event, and goes into the next join. A join is live from its reply on until it is left or another one
// is sent: the events of joins that are not live are not handed on, because they come again by the one that resumes.

import { read, readBinary, withPayload } from './frames.js'
import { Heard } from './heard.js'

const CHANGES = 'postgres_changes'
const OPTIONS = 'postgres_changes_options'
const ACTIVE = 'Subscribed to PostgreSQL'
// These options say how a join is answered, not what it hears.
const OF_THE_ANSWER = ['resume', 'wait', 'timeout']

const PASS = { isPassed: true, given: undefined }
const DROP = { isPassed: false, given: undefined }

export class Memory {
  // By endpoint and topic: { signature, cursor, wasAnswered, heard, join }, the topic joined last at the end.
  #topics = new Map()
  #onGap
  #shelf

  constructor({ onGap, shelf }) {
    this.#onGap = onGap
    this.#shelf = shelf
    const take = ([key, signature, cursor]) => {
      if (!this.#topics.has(key)) this.#topics.set(key, { signature, cursor, wasAnswered: false })
    }
    shelf.open(() => [...this.#topics].flatMap(asEntry), take)
  }

  /// What to send in the place of a frame.
  outgoing(connection, data) {
    if (typeof data !== 'string' || !(data.includes('phx_join') || data.includes('phx_leave'))) return data
    const frame = read(data)
    if (frame?.event === 'phx_join') return this.#joining(connection, frame) ?? data
    if (frame?.event === 'phx_leave') this.#leaving(connection, frame)
    return data
  }

  /// Whether a message is to be handed on, and what to call once it was.
  incoming(connection, data) {
    const frame = this.#topics.size === 0 ? undefined : typeof data === 'string' ? read(data) : readBinary(data)
    const topic = frame && this.#topics.get(keyOf(connection, frame))
    const join = topic?.join
    if (join === undefined) return PASS
    // Only V2 names the join, and not in every message.
    const isOfJoin = join.connection === connection && !join.isOver && (frame.joinRef ?? join.ref) === join.ref
    const isLive = isOfJoin && join.isAnswered
    switch (frame.event) {
      case 'phx_reply':
        return isOfJoin && frame.ref === join.ref ? answered(topic, frame) : PASS
      case 'phx_close':
        return isOfJoin && (frame.ref ?? join.ref) === join.ref ? closed(topic) : PASS
      case 'broadcast':
        return isOfJoin ? broadcast(topic, frame.payload.meta) : PASS
      case CHANGES:
        if (!join.isOurs) return PASS
        return isLive ? this.#at(topic, frame.payload.data?.cursor) : DROP
      case 'system':
        return isLive && frame.payload.extension === CHANGES ? this.#system(topic, frame) : PASS
      default:
        return PASS
    }
  }

  #joining(connection, frame) {
    const key = keyOf(connection, frame)
    const { config } = frame.payload
    const hasChanges = Array.isArray(config?.[CHANGES]) && config[CHANGES].length > 0
    const replays = Boolean(config?.private && config.broadcast?.replay)
    const before = this.#topics.get(key)
    if (this.#topics.delete(key)) this.#shelf.changed()
    if (!hasChanges && !replays) return undefined

    const options = config[OPTIONS] ?? {}
    const signature = signatureOf(config[CHANGES], options)
    const known = before?.signature === signature ? before : { cursor: undefined, wasAnswered: false }
    const isOurs = hasChanges && typeof options === 'object' && !('resume' in options)
    const resume = isOurs ? (known.cursor ?? true) : options.resume
    const join = { connection, ref: frame.ref, topic: frame.topic, resume, isOurs, isFirst: !known.wasAnswered }
    const cursor = isOurs ? known.cursor : undefined
    const heard = replays ? (before?.heard ?? new Heard()) : undefined
    this.#topics.set(key, { signature, cursor, wasAnswered: known.wasAnswered, heard, join })
    if (!isOurs) return undefined
    return withPayload(frame, { ...frame.payload, config: { ...config, [OPTIONS]: { ...options, resume } } })
  }

  /// The application leaves: what it hears when it comes back begins then. But the library also sends `phx_leave` by
  /// itself, for a join that was not answered in time, and joins again: that is no reason to forget. Nothing tells one from
  /// the other when the application leaves before it was answered; to be safe, the cursor stays.
  #leaving(connection, frame) {
    const key = keyOf(connection, frame)
    const join = this.#topics.get(key)?.join
    if (join?.connection === connection) {
      if (frame.joinRef != null && frame.joinRef !== join.ref) return
      if (join.isAnswered === undefined && !join.isOver) {
        join.isOver = true
        return
      }
    }
    if (this.#topics.delete(key)) this.#shelf.changed()
  }

  /// A message of a live subscription: once it was given, its cursor is where we are.
  #at(topic, cursor) {
    if (typeof cursor !== 'string' || !topic.join.isOurs) return PASS
    const given = () => {
      topic.cursor = cursor
      this.#shelf.changed()
    }
    return { isPassed: true, given }
  }

  #system(topic, { payload }) {
    const passed = this.#at(topic, payload.cursor)
    const reason = gapOf(topic.join, payload)
    if (reason === undefined) return passed
    let isTold = false
    const given = () => {
      passed.given?.()
      if (!isTold) this.#tell({ topic: topic.join.topic, reason, cursor: payload.cursor })
      isTold = true
    }
    return { isPassed: true, given }
  }

  /// What the application does about a gap must not keep the library from its messages.
  #tell(gap) {
    try {
      this.#onGap?.(gap)
    } catch (error) {
      queueMicrotask(() => {
        throw error
      })
    }
  }
}

const keyOf = ({ endpoint }, { topic }) => `${endpoint} ${topic}`

const asEntry = ([key, { signature, cursor }]) => (cursor === undefined ? [] : [[key, signature, cursor]])

function signatureOf(bindings, options) {
  const others = Object.entries(options).filter(([name]) => !OF_THE_ANSWER.includes(name))
  return JSON.stringify([bindings, others])
}

function answered(topic, { payload }) {
  topic.join.isAnswered = payload.status === 'ok'
  return { isPassed: true, given: () => (topic.wasAnswered ||= topic.join.isAnswered) }
}

/// The server ended the channel. Whoever opens it again goes on where it ended, but asks for his own replay.
function closed(topic) {
  topic.join.isOver = true
  topic.wasAnswered = false
  topic.heard = undefined
  return PASS
}

function broadcast({ heard }, meta) {
  if (heard === undefined || typeof meta?.id !== 'string') return PASS
  if (meta.replayed === true && heard.has(meta.id)) return DROP
  return { isPassed: true, given: () => heard.add(meta.id) }
}

/// Why something was missed, by what a system message says; undefined when nothing was.
function gapOf(join, { status, message, resumed, reason }) {
  const hadCursor = typeof join.resume === 'string'
  if (!hadCursor && join.resume !== true) return undefined
  // A running subscription says it of itself: also with status "ok", when a binding works again that did not for a while.
  if (join.isActive || status !== 'ok') return resumed === false ? (reason ?? 'unknown') : undefined
  if (message !== ACTIVE) return undefined
  join.isActive = true
  if (hadCursor) return resumed === true ? undefined : (reason ?? 'the server does not resume')
  // Who was subscribed before and begins anew missed what was in between.
  return join.isFirst ? undefined : 'no cursor was known'
}
