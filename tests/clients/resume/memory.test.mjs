// What the transport remembers, frame by frame and without a socket.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Memory } from '../../../clients/js/memory.js'
import { Shelf } from '../../../clients/js/shelf.js'
import { ENCODINGS, NOTES, active, binaryBroadcast, change } from './frames.mjs'

const ROOM = 'realtime:room'
const URL = 'ws://127.0.0.1/socket/websocket'

/// One client of a version: what it says goes through the memory, what it hears as well.
class Client {
  constructor(vsn, options = {}) {
    this.encoding = ENCODINGS[vsn]
    this.gaps = []
    this.memory = new Memory({ onGap: (gap) => this.gaps.push(gap), shelf: new Shelf(options) })
    this.connect()
  }

  connect(endpoint = URL) {
    this.connection = { endpoint }
  }

  says(joinRef, ref, event, payload = {}, topic = ROOM) {
    const text = this.memory.outgoing(this.connection, this.encoding.encode(joinRef, ref, topic, event, payload))
    return this.encoding.decode(text).payload
  }

  /// Joins, and tells what the server is asked to resume.
  joins(ref, { bindings = [NOTES], options, topic, ...config } = {}) {
    const more = options === undefined ? {} : { postgres_changes_options: options }
    const payload = this.says(ref, ref, 'phx_join', { config: { postgres_changes: bindings, ...more, ...config } }, topic)
    return payload.config.postgres_changes_options?.resume
  }

  /// Whether the application is given a message; `handler` is the application.
  hears(joinRef, ref, event, payload, { topic = ROOM, connection = this.connection, handler = () => {} } = {}) {
    return this.gets(this.encoding.answer(joinRef, ref, topic, event, payload), connection, handler)
  }

  gets(data, connection = this.connection, handler = () => {}) {
    const { isPassed, given } = this.memory.incoming(connection, data)
    if (isPassed) handler()
    given?.()
    return isPassed
  }

  reply(ref, status = 'ok') {
    return this.hears(ref, ref, 'phx_reply', { status, response: {} })
  }

  change(cursor, more) {
    return this.hears(null, null, 'postgres_changes', change(1, cursor), more)
  }

  system(joinRef, payload) {
    return this.hears(joinRef, null, 'system', payload)
  }

  /// Joined, active, and at this cursor.
  at(cursor, ref = '1') {
    this.joins(ref)
    this.reply(ref)
    this.system(ref, active({ cursor, resumed: false }))
  }
}

for (const vsn of Object.keys(ENCODINGS)) {
  describe(`vsn=${vsn}`, () => {
    const client = (options) => new Client(vsn, options)

    test('the first join begins, and later ones resume at the newest cursor', () => {
      const one = client()
      assert.equal(one.joins('1'), true)
      one.reply('1')
      one.system('1', active({ cursor: 'a', resumed: false }))
      one.connect()
      assert.equal(one.joins('2'), 'a', 'where the subscription began')
      one.reply('2')
      one.system('2', active({ cursor: 'a', resumed: true }))
      one.change('b')
      one.change('c')
      one.connect()
      assert.equal(one.joins('3'), 'c', 'the newest change')
      one.reply('3')
      one.system('3', { extension: 'postgres_changes', status: 'ok', message: 'cursor', channel: 'room', cursor: 'd' })
      one.connect()
      assert.equal(one.joins('4'), 'd', 'a fresh cursor of a quiet topic')
      assert.deepEqual(one.gaps, [])
    })

    test('nothing else of a join is changed', () => {
      const one = client()
      const config = { broadcast: { ack: true }, presence: { key: 'k' }, private: true, postgres_changes: [NOTES] }
      const options = { wait: true, timeout: 9, visibility: true }
      const payload = one.says('1', '1', 'phx_join', {
        config: { ...config, postgres_changes_options: options },
        access_token: 'a.b.c',
      })
      assert.deepEqual(payload, {
        config: { ...config, postgres_changes_options: { ...options, resume: true } },
        access_token: 'a.b.c',
      })
    })

    test('joins without row changes and frames of no known kind pass as they are', () => {
      const one = client()
      const { encode } = one.encoding
      const frames = [
        encode('1', '1', ROOM, 'phx_join', { config: { postgres_changes: [] } }),
        encode('1', '1', ROOM, 'phx_join', { config: {} }),
        encode('1', '1', 'realtime:public:notes', 'phx_join', {}),
        encode('1', '1', ROOM, 'phx_join', null),
        encode('1', '2', ROOM, 'access_token', { access_token: 'phx_join' }),
        encode(null, '3', 'phoenix', 'heartbeat', {}),
        'phx_join',
        '7 phx_join',
        '"phx_join"',
        'null',
        '',
      ]
      for (const frame of frames) assert.equal(one.memory.outgoing(one.connection, frame), frame)
      const bytes = new Uint8Array([3, 1, 2]).buffer
      assert.equal(one.memory.outgoing(one.connection, bytes), bytes)
    })

    test('what an application asks to resume itself is left alone', () => {
      const one = client()
      for (const resume of [true, false, null, 'mine']) {
        one.at('a')
        assert.equal(one.joins('2', { options: { resume } }), resume)
        one.reply('2')
        one.system('2', active({ cursor: 'b', resumed: true }))
        assert.equal(one.change('c'), true)
        assert.equal(one.joins('3', { options: { resume } }), resume)
      }
      assert.equal(one.joins('4'), true, 'and what it heard is no business of ours')
    })

    test('other bindings, options, topics or servers begin anew', () => {
      const one = client()
      one.at('a')
      assert.equal(one.joins('2', { topic: 'realtime:other' }), true)
      assert.equal(one.joins('3', { bindings: [{ ...NOTES, filter: 'id=eq.1' }] }), true)
      one.at('a')
      assert.equal(one.joins('4', { options: { visibility: true } }), true)
      one.at('a')
      one.connect('ws://elsewhere/socket/websocket')
      assert.equal(one.joins('5'), true)
    })

    test('how a join is to be answered changes no cursor', () => {
      const one = client()
      one.at('a')
      assert.equal(one.joins('2', { options: { wait: true, timeout: 1000 } }), 'a')
    })

    test('a channel that was left begins anew', () => {
      const one = client()
      one.at('a')
      one.says('1', '2', 'phx_leave')
      assert.equal(one.joins('3'), true)
      assert.deepEqual(one.gaps, [])
    })

    test('a channel that was left while there was no connection begins anew', () => {
      const one = client()
      one.at('a')
      one.connect()
      one.says('1', '2', 'phx_leave')
      assert.equal(one.joins('3'), true)
    })

    test('a join that was not answered in time is left and repeated at the same cursor', () => {
      const one = client()
      one.at('a')
      one.connect()
      assert.equal(one.joins('2'), 'a')
      one.says('2', '3', 'phx_leave')
      assert.equal(one.reply('2'), true)
      assert.equal(one.change('b'), false, 'the library has given this join up')
      assert.equal(one.joins('4'), 'a')
      one.says('4', '5', 'phx_leave')
      one.says(null, '6', 'phx_leave')
      assert.equal(one.joins('7'), true, 'the second one was the application')
    })

    test('the late leave of an older join forgets nothing', () => {
      const one = client()
      one.at('a')
      one.joins('2')
      one.reply('2')
      one.says('1', '3', 'phx_leave')
      assert.equal(one.joins('4'), 'a')
    })

    test('events of another join are not handed on, for they come again', () => {
      const one = client()
      one.at('a')
      const old = one.connection
      one.connect()
      assert.equal(one.change('b', { connection: old }), true, 'nobody has joined since')
      assert.equal(one.joins('2'), 'b')
      assert.equal(one.change('c', { connection: old }), false, 'from the connection before')
      assert.equal(one.change('c'), false, 'from a join before')
      one.reply('2')
      assert.equal(one.change('c', { connection: old }), false)
      assert.equal(one.change('c'), true)
      assert.equal(one.joins('3'), 'c')
      one.reply('3', 'error')
      assert.equal(one.change('d'), false, 'from the join before one that was refused')
      assert.equal(one.joins('4'), 'c')
    })

    test('a cursor counts once the application was given its event', () => {
      const one = client()
      one.at('a')
      one.change('b', { handler: () => assert.equal(one.joins('2'), 'a') })
      assert.equal(one.joins('3'), 'a', 'the join inside began before the event')
    })

    test('a channel that is left by the handler of an event is forgotten', () => {
      const one = client()
      one.at('a')
      one.change('b', { handler: () => one.says('1', '2', 'phx_leave') })
      assert.equal(one.joins('3'), true)
      one.reply('3')
      one.system('3', active({ cursor: 'c', resumed: false }))
      one.change('d', {
        handler: () => {
          one.says('3', '4', 'phx_leave')
          assert.equal(one.joins('5'), true)
        },
      })
      assert.equal(one.joins('6'), true)
    })

    test('a gap is told with its reason, and the new cursor counts', () => {
      const one = client()
      one.at('a')
      one.connect()
      one.joins('2')
      one.reply('2')
      one.system('2', active({ cursor: 'z', resumed: false, reason: 'too old' }))
      assert.deepEqual(one.gaps, [{ topic: ROOM, reason: 'too old', cursor: 'z' }])
      assert.equal(one.joins('3'), 'z')
    })

    test('a gap in a running channel is told, and the channel goes on', () => {
      const one = client()
      one.at('a')
      const gap = { extension: 'postgres_changes', status: 'error', message: 'gap', resumed: false, reason: 'slow', cursor: 'k' }
      one.system('1', gap)
      assert.deepEqual(one.gaps, [{ topic: ROOM, reason: 'slow', cursor: 'k' }])
      assert.equal(one.change('l'), true)
      assert.equal(one.joins('2'), 'l')
    })

    test('a gap is told to an application that has its own cursor', () => {
      const one = client()
      one.joins('1', { options: { resume: 'mine' } })
      one.reply('1')
      one.system('1', active({ cursor: 'z', resumed: false, reason: 'other epoch' }))
      assert.deepEqual(one.gaps, [{ topic: ROOM, reason: 'other epoch', cursor: 'z' }])
    })

    test('who was subscribed, never got a cursor and begins anew has a gap', () => {
      const one = client()
      one.joins('1')
      one.connect()
      one.joins('2')
      one.reply('2')
      one.connect()
      one.joins('3')
      one.reply('3')
      one.system('3', active({ cursor: 'a', resumed: false }))
      assert.deepEqual(one.gaps, [{ topic: ROOM, reason: 'no cursor was known', cursor: 'a' }])
    })

    test('a server that resumes nothing is told apart from one that does', () => {
      const one = client()
      one.at('a')
      one.connect()
      one.joins('2')
      one.reply('2')
      one.system('2', active())
      assert.deepEqual(one.gaps, [{ topic: ROOM, reason: 'the server does not resume', cursor: undefined }])
    })

    test('a rights change or another token is no gap', () => {
      const one = client()
      one.at('a')
      one.system('1', active({ cursor: 'b', resumed: true }))
      one.system('1', active({ resumed: true }))
      one.system('1', { extension: 'postgres_changes', status: 'ok', message: 'Rights to rows have changed', channel: 'room' })
      one.system('1', { extension: 'postgres_changes', status: 'error', message: 'a policy fails', channel: 'room' })
      one.system('1', { extension: 'system', status: 'error', message: 'x', resumed: false })
      assert.deepEqual(one.gaps, [])
      assert.equal(one.joins('2'), 'b')
    })

    test('a binding that works again missed what was in between', () => {
      const one = client()
      one.at('a')
      one.system('1', active({ cursor: 'b', resumed: false, reason: 'inactive' }))
      assert.deepEqual(one.gaps, [{ topic: ROOM, reason: 'inactive', cursor: 'b' }])
    })

    test('a column that is called cursor is no cursor', () => {
      const one = client()
      one.at('a')
      const payload = change(1)
      payload.data.record.cursor = 'forged'
      one.hears(null, null, 'postgres_changes', payload)
      one.hears(null, null, 'broadcast', { type: 'broadcast', event: 'e', payload: { data: { cursor: 'forged' } } })
      assert.equal(one.joins('2'), 'a')
    })

    test('a channel that the server ended goes on where it ended', () => {
      const one = client()
      one.at('a')
      one.hears('1', '1', 'phx_close', {})
      assert.equal(one.joins('2'), 'a')
    })

    test('an onGap that throws is reported, and disturbs nothing', (t) => {
      const reports = []
      t.mock.method(globalThis, 'queueMicrotask', (report) => reports.push(report))
      const failing = () => {
        throw new Error('of the application')
      }
      const one = client()
      one.memory = new Memory({ onGap: failing, shelf: new Shelf({}) })
      one.at('a')
      one.connect()
      one.joins('2')
      one.reply('2')
      one.system('2', active({ cursor: 'z', resumed: false }))
      assert.equal(one.joins('3'), 'z')
      assert.equal(reports.length, 1)
      assert.throws(reports[0], /of the application/)
    })

    const PRIVATE = { private: true, broadcast: { replay: { since: 1 } } }
    const said = (id, replayed) => ({ type: 'broadcast', event: 'e', payload: {}, meta: { id, ...(replayed ? { replayed } : {}) } })

    test('a rejoin replays what was missed and leaves out what was heard', () => {
      const one = client()
      const config = { bindings: [], ...PRIVATE }
      assert.equal(one.joins('1', config), undefined)
      one.reply('1')
      assert.equal(one.hears('1', null, 'broadcast', said('old', true)), true)
      assert.equal(one.hears(null, null, 'broadcast', said('live')), true)
      assert.equal(one.hears(null, null, 'broadcast', said('live')), true, 'the server may say a thing twice')
      if (vsn === '2.0.0') assert.equal(one.gets(binaryBroadcast(ROOM, 'e', { id: 'bytes' }, {})), true)
      else one.hears(null, null, 'broadcast', said('bytes'))
      one.connect()
      one.joins('2', config)
      one.reply('2')
      for (const id of ['old', 'live', 'bytes']) assert.equal(one.hears('2', null, 'broadcast', said(id, true)), false)
      assert.equal(one.hears('2', null, 'broadcast', said('missed', true)), true)
      if (vsn === '2.0.0') {
        assert.equal(one.gets(binaryBroadcast(ROOM, 'e', { id: 'live', replayed: true }, {})), false)
        assert.equal(one.gets(binaryBroadcast(ROOM, 'e', { id: 'new', replayed: true }, {}).buffer), true)
        assert.equal(one.gets(binaryBroadcast(ROOM, 'e', undefined, {})), true)
      }
      one.says('2', '3', 'phx_leave')
      one.joins('4', config)
      one.reply('4')
      assert.equal(one.hears('4', null, 'broadcast', said('old', true)), true, 'for a channel that was opened anew')
    })

    test('nothing is left out of a channel that asked for no replay', () => {
      const one = client()
      for (const ref of ['1', '2']) {
        one.joins(ref, { private: true })
        one.reply(ref)
        assert.equal(one.hears(null, null, 'broadcast', said('x', true)), true)
      }
    })

    test('cursors outlive the page, as far as they were saved', async () => {
      const saved = new Map()
      let written
      const storage = {
        getItem: (key) => saved.get(key) ?? null,
        setItem: (key, text) => {
          saved.set(key, text)
          written()
        },
      }
      // What waits to be saved keeps no process running.
      const next = () => {
        const patience = setTimeout(() => assert.fail('nothing was saved'), 5000)
        return new Promise((resolve) => (written = resolve)).finally(() => clearTimeout(patience))
      }
      const one = client({ storage, everyMs: 0 })
      let saving = next()
      one.at('a')
      await saving
      assert.equal(client({ storage }).joins('1'), 'a')
      assert.equal(client({ storage, key: 'other' }).joins('1'), true)
      assert.equal(client({ storage }).joins('1', { bindings: [{ ...NOTES, filter: 'id=eq.1' }] }), true)
      saving = next()
      one.says('1', '2', 'phx_leave')
      await saving
      assert.equal(client({ storage }).joins('1'), true, 'what was left is gone')
    })
  })
}

test('a storage with nonsense, or none at all, is a fresh start', () => {
  const broken = [
    { getItem: () => 'nonsense', setItem: () => {} },
    { getItem: () => '{"format":1,"entries":[1,[2],["a","b",3]]}', setItem: () => {} },
    { getItem: () => '{"format":9,"entries":[]}', setItem: () => {} },
    {
      getItem: () => {
        throw new Error('forbidden')
      },
      setItem: () => {
        throw new Error('forbidden')
      },
    },
    { getItem: () => Promise.reject(new Error('no')), setItem: () => Promise.reject(new Error('no')) },
  ]
  for (const storage of broken) {
    const one = new Client('2.0.0', { storage, everyMs: 0 })
    one.at('a')
    assert.equal(one.joins('2'), 'a')
  }
})
