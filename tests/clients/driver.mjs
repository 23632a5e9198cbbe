// Puts an unmodified @supabase/supabase-js at the command of a test: one JSON command a line on stdin, one JSON event a
// line on stdout; obey.mjs has the commands.
//
//   node driver.mjs       with WALCAST_URL, WALCAST_KEY and, to choose it, WALCAST_VSN in the environment
//
// With WALCAST_PROXY it connects through a proxy, and one command more closes its connection: {"do": "close", "code": 1001}
import readline from 'node:readline'
import { createClient } from '@supabase/supabase-js'
import { commands } from './obey.mjs'
import { proxy } from './proxy.mjs'

const say = (event) => process.stdout.write(JSON.stringify(event) + '\n')
const { WALCAST_URL, WALCAST_KEY, WALCAST_VSN, WALCAST_PROXY } = process.env

const between = WALCAST_PROXY ? await proxy(WALCAST_URL) : undefined
const known = commands(createClient, { url: between?.url ?? WALCAST_URL, key: WALCAST_KEY, vsn: WALCAST_VSN }, say)
known.close = ({ code }) => between.close(code)

for await (const line of readline.createInterface({ input: process.stdin })) {
  const command = JSON.parse(line)
  await known[command.do](command)
  if (command.do === 'end') process.exit(0)
}
