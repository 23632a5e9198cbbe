// The real supabase-js, unmodified, with the transport, against a server that a test commands.
import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { createClient } from '@supabase/supabase-js'
import { WebSocket as Ws } from 'ws'
import { resumable } from '../../../clients/js/index.js'
import { NOTES, binaryBroadcast } from './frames.mjs'
import { Queue, listen } from './server.mjs'

const KEY = 'a.b.c'

describe('supabase-js', { concurrency: true }, () => {
  for (const vsn of ['1.0.0', '2.0.0']) {
    for (const [name, transport] of [['ws', Ws], ['the WebSocket of Node', globalThis.WebSocket]]) {
      describe(`vsn=${vsn}, ${name}`, { concurrency: 1 }, () => {
        let server, client, events

        const connect = ({ realtime, ...options } = {}) => {
          client = createClient(server.url, KEY, {
            accessToken: async () => KEY,
            realtime: {
              vsn,
              reconnectAfterMs: () => 10,
              transport: resumable({ transport, onGap: (gap) => events.put({ gap }), ...options }),
              ...realtime,
            },
          })
          return client
        }
        const subscribe = (config = {}, bindings = [NOTES]) => {
          const channel = client.channel('room', { config })
          for (const binding of bindings) channel.on('postgres_changes', binding, ({ new: row }) => events.put({ row: row.id }))
          channel.on('broadcast', { event: '*' }, ({ payload }) => events.put({ said: payload.n }))
          return channel.subscribe((status) => status === 'SUBSCRIBED' && events.put({ status }))
        }
        const next = () => events.next('an event')
        /// A join that is answered and begun.
        const served = async (more) => {
          const join = await server.join()
          join.accept()
          assert.deepEqual(await next(), { status: 'SUBSCRIBED' })
          join.begin(more)
          return join
        }
        const hears = async (join, ...changes) => {
          for (const [id, cursor] of changes) {
            join.change(id, cursor)
            assert.deepEqual(await next(), { row: id })
          }
        }

        beforeEach(async () => {
          server = await listen()
          events = new Queue()
        })
        afterEach(async () => {
          await client.removeAllChannels()
          server.close()
        })

        test('a connection that is cut resumes behind the last change, again and again', async () => {
          connect()
          subscribe()
          const first = await served({ cursor: 'c0', resumed: false })
          assert.equal(first.resume, true)
          await hears(first, [1, 'c1'], [2, 'c2'])
          for (const number of [3, 4, 5]) {
            server.cut()
            const join = await served({ cursor: `c${number - 1}`, resumed: true })
            assert.equal(join.resume, `c${number - 1}`)
            await hears(join, [number, `c${number}`])
          }
          assert.equal(events.length, 0)
        })

        test('a join that is not answered in time is repeated at the same cursor, and its late events are left out', async () => {
          connect({ realtime: { timeout: 2000 } })
          subscribe()
          await hears(await served({ cursor: 'c0', resumed: false }), [1, 'c1'])
          server.cut()
          const slow = await server.join()
          assert.equal(slow.resume, 'c1')
          await server.leave()
          slow.accept()
          slow.begin({ cursor: 'c1', resumed: true })
          slow.change(2, 'c2')
          const join = await served({ cursor: 'c1', resumed: true })
          assert.equal(join.resume, 'c1')
          assert.equal(join.socket, slow.socket)
          await hears(join, [2, 'c2'], [3, 'c3'])
          assert.equal(events.length, 0)
        })

        test('a channel the server gave up joins again on the same socket, where it was', async () => {
          connect()
          subscribe()
          const first = await served({ cursor: 'c0', resumed: false })
          await hears(first, [1, 'c1'])
          first.push('phx_error', { reason: 'channel_crash' }, { joinRef: first.ref, ref: first.ref })
          const join = await server.join()
          assert.equal(join.socket, first.socket)
          assert.equal(join.resume, 'c1')
          // Of the join before, on its way when the new one came.
          join.change(2, 'c2')
          join.accept()
          assert.deepEqual(await next(), { status: 'SUBSCRIBED' })
          join.begin({ cursor: 'c1', resumed: true })
          await hears(join, [2, 'c2'])
          assert.equal(events.length, 0)
        })

        test('a channel that was removed begins anew when it is opened again', async () => {
          connect()
          const channel = subscribe()
          await hears(await served({ cursor: 'c0', resumed: false }), [1, 'c1'])
          assert.equal(await client.removeChannel(channel), 'ok')
          await server.leave()
          subscribe()
          const again = await served({ cursor: 'c5', resumed: false })
          assert.equal(again.resume, true)
          await hears(again, [6, 'c6'])
          assert.equal(events.length, 0)
        })

        test('a gap is told before what comes after it', async () => {
          connect()
          subscribe()
          await hears(await served({ cursor: 'c0', resumed: false }), [1, 'c1'])
          server.cut()
          const join = await server.join()
          join.accept()
          join.begin({ cursor: 'c8', resumed: false, reason: 'too old' })
          join.change(9, 'c9')
          assert.deepEqual(await next(), { status: 'SUBSCRIBED' })
          assert.deepEqual(await next(), { gap: { topic: 'realtime:room', reason: 'too old', cursor: 'c8' } })
          assert.deepEqual(await next(), { row: 9 })
          server.cut()
          assert.equal((await served({ cursor: 'c9', resumed: true })).resume, 'c9')
        })

        test('a page that is loaded anew goes on where it was', async () => {
          const saved = new Map()
          const saving = new Queue()
          const storage = {
            getItem: async (key) => saved.get(key) ?? null,
            setItem: (key, text) => {
              saved.set(key, text)
              saving.put(text)
            },
          }
          connect({ storage, saveEveryMs: 1 })
          subscribe()
          await hears(await served({ cursor: 'c0', resumed: false }), [1, 'c1'])
          while (!(await saving.next('a save')).includes('c1'));
          client.realtime.disconnect()
          connect({ storage, saveEveryMs: 1 })
          subscribe()
          assert.equal((await served({ cursor: 'c1', resumed: true })).resume, 'c1')
          assert.equal(events.length, 0)
        })

        test('a rejoined private channel hears what it missed, and nothing twice', async () => {
          connect()
          subscribe({ private: true, broadcast: { replay: { since: 1, limit: 5 } } }, [])
          const say = (join, n, meta) => {
            if (vsn === '1.0.0') join.push('broadcast', { type: 'broadcast', event: 'e', payload: { n }, meta })
            else join.socket.send(binaryBroadcast(join.topic, 'e', meta, { n }))
          }
          const hearsSaid = async (n) => assert.deepEqual(await next(), { said: n })
          const replay = { since: 1, limit: 5 }
          const first = await served()
          assert.deepEqual(first.payload.config.broadcast.replay, replay)
          say(first, 1, { id: 'i1', replayed: true })
          say(first, 2, { id: 'i2' })
          await hearsSaid(1)
          await hearsSaid(2)
          server.cut()
          const join = await served()
          assert.deepEqual(join.payload.config.broadcast.replay, replay)
          for (const n of [1, 2, 3]) say(join, n, { id: `i${n}`, replayed: true })
          say(join, 4, { id: 'i4' })
          await hearsSaid(3)
          await hearsSaid(4)
          assert.equal(events.length, 0)
        })
      })
    }
  }
})
