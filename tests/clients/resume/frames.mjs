// Frames as a supabase-js of either version writes them, and what a server of that version answers.

/// The encodings by their version.
export const ENCODINGS = {
  '1.0.0': {
    encode: (joinRef, ref, topic, event, payload) => JSON.stringify({ topic, event, payload, ref, join_ref: joinRef }),
    // A V1 server names no join.
    answer: (_joinRef, ref, topic, event, payload) => JSON.stringify({ topic, event, payload, ref }),
    decode: (text) => {
      const { join_ref: joinRef, ref, topic, event, payload } = JSON.parse(text)
      return { joinRef, ref, topic, event, payload }
    },
  },
  '2.0.0': {
    encode: (...frame) => JSON.stringify(frame),
    answer: (...frame) => JSON.stringify(frame),
    decode: (text) => {
      const [joinRef, ref, topic, event, payload] = JSON.parse(text)
      return { joinRef, ref, topic, event, payload }
    },
  },
}

export const NOTES = { event: '*', schema: 'public', table: 'notes' }

/// A binary broadcast, as a V2 server sends it.
export function binaryBroadcast(topic, event, meta, payload) {
  const parts = [topic, event, meta === undefined ? '' : JSON.stringify(meta)].map((text) => Buffer.from(text))
  const head = Buffer.from([4, ...parts.map((part) => part.length), 1])
  return Buffer.concat([head, ...parts, Buffer.from(JSON.stringify(payload))])
}

/// The payload of a message about a row.
export function change(id, cursor) {
  const data = {
    schema: 'public',
    table: 'notes',
    type: 'INSERT',
    commit_timestamp: '2026-01-01T00:00:00Z',
    columns: [{ name: 'id', type: 'int8' }],
    record: { id },
    errors: null,
    ...(cursor ? { cursor } : {}),
  }
  return { ids: [1], data }
}

/// The payload of the message that a subscription has begun.
export function active(more) {
  return { extension: 'postgres_changes', status: 'ok', message: 'Subscribed to PostgreSQL', channel: 'room', ...more }
}
