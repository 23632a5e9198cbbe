// Puts an unmodified @supabase/supabase-js at the command of a test: one JSON command a line on stdin, one JSON event a
// line on stdout. It adds nothing to what the library does: no retries, no conversions.
//
//   node driver.mjs       with WALCAST_URL, WALCAST_KEY and, to choose it, WALCAST_VSN in the environment
//
//   {"do": "subscribe", "channel": "room", "bindings": [{"event": "*", "schema": "public", "table": "notes"}]}
//   {"do": "setAuth", "token": "..."}      {"do": "remove", "channel": "room"}      {"do": "end"}
import readline from 'node:readline'
import { createClient } from '@supabase/supabase-js'

const say = (event) => process.stdout.write(JSON.stringify(event) + '\n')
const { WALCAST_URL, WALCAST_KEY, WALCAST_VSN } = process.env

// The library asks this callback again at every join and heartbeat, and takes its answer for the truth: a token that
// was only handed to setAuth would be replaced by it. So an application keeps both in step, and so does this one.
let token = WALCAST_KEY
const client = createClient(WALCAST_URL, WALCAST_KEY, {
  accessToken: async () => token,
  ...(WALCAST_VSN ? { realtime: { vsn: WALCAST_VSN } } : {}),
})
const channels = new Map()

const commands = {
  subscribe({ channel: name, bindings }) {
    const channel = client.channel(name)
    bindings.forEach((binding, index) => {
      channel.on('postgres_changes', binding, (payload) => say({ channel: name, binding: index, payload }))
    })
    channel.on('system', {}, (payload) => say({ channel: name, system: payload }))
    channel.subscribe((status, error) => say({ channel: name, status, error: error?.message }))
    channels.set(name, channel)
  },
  async setAuth({ token: next }) {
    token = next
    await client.realtime.setAuth(next)
    say({ done: 'setAuth' })
  },
  async remove({ channel }) {
    say({ channel, removed: await client.removeChannel(channels.get(channel)) })
  },
  async end() {
    await client.removeAllChannels()
    client.realtime.disconnect()
    say({ done: 'end' })
    process.exit(0)
  },
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const command = JSON.parse(line)
  await commands[command.do](command)
}
