// What a test can tell an unmodified supabase-js to do, in Node (driver.mjs) and on a page (browser.mjs) alike. It adds
// nothing to what the library does: no retries, no conversions but those that JSON needs.
//
//   {"do": "subscribe", "channel": "room", "bindings": [{"event": "*", "schema": "public", "table": "notes"}],
//    "config": {"broadcast": {"self": true}}, "presence": true}
//   {"do": "send", "channel": "room", "event": "e", "payload": {}}      `bytes` in the place of `payload`: an ArrayBuffer
//   {"do": "httpSend", ...}      the same
//   {"do": "track", "channel": "room", "payload": {}}      {"do": "untrack", "channel": "room"}
//   {"do": "setAuth", "token": "..."}      {"do": "remove", "channel": "room"}      {"do": "end"}

const plain = (value) => (value instanceof ArrayBuffer ? { bytes: [...new Uint8Array(value)] } : value)
const content = ({ payload, bytes }) => (bytes ? new Uint8Array(bytes).buffer : payload)

/// The commands, by name. `say` takes an event to the test.
export function commands(createClient, { url, key, vsn }, say) {
  // The library asks this callback again at every join and heartbeat, and takes its answer for the truth: a token that
  // was only handed to setAuth would be replaced by it. So an application keeps both in step, and so does this one.
  let token = key
  const client = createClient(url, key, {
    accessToken: async () => token,
    ...(vsn ? { realtime: { vsn } } : {}),
  })
  const channels = new Map()
  const open = (name, config) => {
    if (!channels.has(name)) channels.set(name, client.channel(name, config ? { config } : undefined))
    return channels.get(name)
  }
  return {
    subscribe({ channel: name, bindings = [], config, presence }) {
      const channel = open(name, config)
      bindings.forEach((binding, index) => {
        channel.on('postgres_changes', binding, (payload) => say({ channel: name, binding: index, payload }))
      })
      channel.on('broadcast', { event: '*' }, (message) => {
        say({ channel: name, broadcast: { ...message, payload: plain(message.payload) } })
      })
      if (presence) {
        channel.on('presence', { event: 'sync' }, () => say({ channel: name, present: channel.presenceState() }))
        channel.on('presence', { event: 'join' }, ({ key }) => say({ channel: name, came: key }))
        channel.on('presence', { event: 'leave' }, ({ key }) => say({ channel: name, went: key }))
      }
      channel.on('system', {}, (payload) => say({ channel: name, system: payload }))
      channel.subscribe((status, error) => say({ channel: name, status, error: error?.message }))
    },
    async send({ channel, event, config, ...rest }) {
      const result = await open(channel, config).send({ type: 'broadcast', event, payload: content(rest) })
      say({ channel, sent: result })
    },
    async httpSend({ channel, event, config, ...rest }) {
      const result = await open(channel, config)
        .httpSend(event, content(rest))
        .catch((error) => ({ error: error.message }))
      say({ channel, httpSent: result })
    },
    async track({ channel, payload }) {
      say({ channel, tracked: await channels.get(channel).track(payload) })
    },
    async untrack({ channel }) {
      say({ channel, untracked: await channels.get(channel).untrack() })
    },
    async setAuth({ token: next }) {
      token = next
      await client.realtime.setAuth(next)
      say({ done: 'setAuth' })
    },
    async remove({ channel }) {
      const removed = await client.removeChannel(channels.get(channel))
      channels.delete(channel)
      say({ channel, removed })
    },
    async end() {
      await client.removeAllChannels()
      client.realtime.disconnect()
      say({ done: 'end' })
    },
  }
}
