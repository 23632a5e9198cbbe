// The frames of a Supabase client, in both encodings: objects (vsn=1.0.0) and arrays (vsn=2.0.0). What a frame means is
// for memory.js to say.

/// A text frame as `{joinRef, ref, topic, event, payload}`; undefined for anything that is none.
export function read(text) {
  let frame
  try {
    frame = JSON.parse(text)
  } catch {
    return undefined
  }
  if (Array.isArray(frame)) {
    const [joinRef, ref, topic, event, payload] = frame
    return { joinRef, ref, topic, event, payload: payload ?? {}, raw: frame }
  }
  if (frame === null || typeof frame !== 'object') return undefined
  const { join_ref: joinRef, ref, topic, event, payload } = frame
  return { joinRef, ref, topic, event, payload: payload ?? {}, raw: frame }
}

/// The text of a frame that `read` gave, with another payload and nothing else changed.
export function withPayload({ raw }, payload) {
  return JSON.stringify(Array.isArray(raw) ? [...raw.slice(0, 4), payload, ...raw.slice(5)] : { ...raw, payload })
}

const BROADCAST = 4

/// What the head of a binary broadcast says, in the shape of a text frame; undefined for any other data.
export function readBinary(data) {
  const bytes = bytesOf(data)
  if (bytes === undefined || bytes.length < 5 || bytes[0] !== BROADCAST) return undefined
  const [, topicLength, eventLength, metaLength] = bytes
  const text = (from, length) => new TextDecoder().decode(bytes.subarray(from, from + length))
  if (metaLength === 0) return undefined
  try {
    const meta = JSON.parse(text(5 + topicLength + eventLength, metaLength))
    return { joinRef: null, ref: null, topic: text(5, topicLength), event: 'broadcast', payload: { meta } }
  } catch {
    return undefined
  }
}

function bytesOf(data) {
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
  return Object.prototype.toString.call(data) === '[object ArrayBuffer]' ? new Uint8Array(data) : undefined
}
