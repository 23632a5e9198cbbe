// Calls insert_message with the unmodified client and prints what it was answered, one JSON document.
import { createClient } from '@supabase/supabase-js'

const [url, token, conversation] = process.argv.slice(2)
const client = createClient(url, token, { auth: { persistSession: false } })
const call = (args) => client.rpc('insert_message', args)
const plain = ({ data, error, status }) => ({ data, error, status })

const whole = plain(await call({ content: 'whole', conversation_id: conversation, metadata: { from: 'js' } }))
const single = plain(await call({ content: 'single', conversation_id: conversation }).select('content, sender_type').single())
const refused = plain(await call({ content: 'refused', conversation_id: conversation, sender_type: 'agent' }))
const unknown = plain(await client.rpc('no_such_function', { a: 1 }))
console.log(JSON.stringify({ whole, single, refused, unknown }))
process.exit(0)
