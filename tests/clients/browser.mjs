// The same as driver.mjs, with the library on a page in a headless Chromium: this script serves the page, hands it the
// commands from stdin and prints what it says. WALCAST_BROWSER is the browser's program.
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import http from 'node:http'
import os from 'node:os'
import path from 'node:path'
import readline from 'node:readline'

const { WALCAST_URL: url, WALCAST_KEY: key, WALCAST_VSN: vsn, WALCAST_BROWSER } = process.env
const folder = import.meta.dirname
const say = (line) => process.stdout.write(line + '\n')

const page = `<!doctype html><title>client</title><script src="/supabase.js"></script><script type="module">
  import { commands } from '/obey.mjs'
  let last = Promise.resolve()
  const say = (event) => (last = last.then(() => fetch('/said', { method: 'POST', body: JSON.stringify(event) })))
  addEventListener('error', ({ message }) => say({ log: message }))
  addEventListener('unhandledrejection', ({ reason }) => say({ log: String(reason) }))
  const known = commands(supabase.createClient, ${JSON.stringify({ url, key, vsn })}, say)
  new EventSource('/orders').onmessage = ({ data }) => { const order = JSON.parse(data); known[order.do](order) }
</script>`
const files = {
  '/': ['text/html', page],
  '/obey.mjs': ['text/javascript', readFileSync(path.join(folder, 'obey.mjs'))],
  '/supabase.js': [
    'text/javascript',
    readFileSync(path.join(folder, 'node_modules/@supabase/supabase-js/dist/umd/supabase.js')),
  ],
}

let orders
let opened
const isOpen = new Promise((resolve) => (opened = resolve))
const server = http.createServer(async (request, response) => {
  if (request.url === '/orders') {
    response.writeHead(200, { 'content-type': 'text/event-stream' }).write(':\n\n')
    orders = response
    opened()
  } else if (request.url === '/said') {
    const parts = []
    for await (const part of request) parts.push(part)
    const event = Buffer.concat(parts).toString()
    response.end()
    say(event)
    if (JSON.parse(event).done === 'end') end()
  } else {
    const [type, content] = files[request.url] ?? ['text/plain', '']
    response.writeHead(type === 'text/plain' ? 404 : 200, { 'content-type': type }).end(content)
  }
})
await new Promise((listening) => server.listen(0, '127.0.0.1', listening))

const profile = mkdtempSync(path.join(os.tmpdir(), 'walcast-browser-'))
const address = `http://127.0.0.1:${server.address().port}/`
// The pipe (descriptors 3 and 4) is for nothing but its end: with it, the browser ends when this script does.
const options = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--remote-debugging-pipe']
const browser = spawn(WALCAST_BROWSER, [...options, `--user-data-dir=${profile}`, address], {
  stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
})
const gone = () => rmSync(profile, { recursive: true, force: true, maxRetries: 5 })
browser.on('exit', (code) => {
  gone()
  // Its own processes end a moment after it, and write until then.
  setTimeout(() => {
    gone()
    process.exit(browser.isEnding ? 0 : code || 1)
  }, 1000)
})

function end() {
  browser.isEnding = true
  browser.kill()
}

await isOpen
for await (const line of readline.createInterface({ input: process.stdin })) orders.write(`data: ${line}\n\n`)
