/** Some changes of a topic were missed: fetch its data again. */
export interface Gap {
  /** The topic as the library names it: `channel.topic`, `realtime:` and the channel's name. */
  topic: string
  /** Why, for logs. Compare it with nothing. */
  reason: string
  /** Where the changes go on, when the server gives cursors at all. */
  cursor: string | undefined
}

/** `sessionStorage`, React Native's `AsyncStorage`, or anything like them. */
export interface ResumeStorage {
  getItem(key: string): string | null | Promise<string | null>
  setItem(key: string, value: string): unknown
}

/** A WebSocket class: that of the browser or of Node 22, of the package `ws`, or one with the same methods. */
export type WebSocketClass = abstract new (...args: any[]) => any

/** That class, extended; in the type that supabase-js asks of a transport. */
export interface ResumableWebSocket {
  new (address: string | URL, subprotocols?: string | string[] | undefined): any
  [key: string]: any
}

export interface ResumableOptions {
  /** The class to extend. Without it, the global `WebSocket`; Node 20 has none. */
  transport?: WebSocketClass
  /** Called when the server cannot resume, before the changes that come after the gap. */
  onGap?: (gap: Gap) => void
  /** Keeps cursors across page loads. Without it they live as long as this transport. */
  storage?: ResumeStorage
  /** The key in that storage: one for each client that uses it. `walcast-resume` when it is not given. */
  storageKey?: string
  /** How long a cursor may wait until it is saved: 1000 ms when it is not given. */
  saveEveryMs?: number
}

/**
 * A transport for one supabase-js client that resumes `postgres_changes` where they were interrupted:
 *
 *     createClient(url, key, { realtime: { transport: resumable() } })
 */
export function resumable(options?: ResumableOptions): ResumableWebSocket
