// An unmodified supabase-js with the transport, behind a proxy, at the command of a test: one JSON command a line on
// stdin, one JSON event a line on stdout. It keeps the ids of the rows it is given, or the
// numbers of what it hears, in their order.
//
//   node driver.mjs      with WALCAST_URL, WALCAST_KEY, WALCAST_VSN, and WALCAST_WEBSOCKET=ws for that of the package ws
//
//   {"do": "subscribe", "channel": "feed", "table": "feed"}      or "config" in the place of "table", for what is broadcast
//   {"do": "cut"}      its connection, without a word
//   {"do": "shut"}     the same, and whatever it tries again; {"do": "open"} ends that
//   {"do": "until", "id": 7}      says {"rows": [...]}, all since it said so last, when it has row 7
//   {"do": "end"}
import readline from 'node:readline'
import { createClient } from '@supabase/supabase-js'
import { WebSocket as Ws } from 'ws'
import { resumable } from '../../../clients/js/index.js'
import { proxy } from '../proxy.mjs'

const say = (event) => process.stdout.write(JSON.stringify(event) + '\n')
const { WALCAST_URL, WALCAST_KEY, WALCAST_VSN, WALCAST_WEBSOCKET } = process.env

const between = await proxy(WALCAST_URL)
const client = createClient(between.url, WALCAST_KEY, {
  accessToken: async () => WALCAST_KEY,
  realtime: {
    vsn: WALCAST_VSN,
    transport: resumable({
      transport: WALCAST_WEBSOCKET === 'ws' ? Ws : globalThis.WebSocket,
      onGap: (gap) => say({ gap }),
    }),
    // A second, and more every time, would be most of what the test takes.
    reconnectAfterMs: () => 50,
  },
})

const rows = []
let told = 0
let awaited
const given = (id) => {
  rows.push(id)
  look()
}
const look = () => {
  if (!rows.includes(awaited)) return
  say({ rows: rows.slice(told) })
  told = rows.length
  awaited = undefined
}

await client.realtime.setAuth()

const known = {
  subscribe({ channel: name, table, config = {} }) {
    const channel = client.channel(name, { config })
    if (table) channel.on('postgres_changes', { event: '*', schema: 'public', table }, ({ new: row }) => given(row.id))
    else channel.on('broadcast', { event: '*' }, ({ payload }) => given(payload.number))
    channel.on('system', {}, (system) => say({ system })).subscribe((status) => say({ status }))
  },
  cut: () => between.close(1006),
  shut: () => between.shut(),
  open: () => between.open(),
  until({ id }) {
    awaited = id
    look()
  },
  async end() {
    await client.removeAllChannels()
    process.exit(0)
  },
}
say({ log: 'ready' })
for await (const line of readline.createInterface({ input: process.stdin })) {
  const command = JSON.parse(line)
  await known[command.do](command)
}
